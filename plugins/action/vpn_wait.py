# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Wait on the controller for what a balancer says of a node; see the module's documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._daemon import Unanswered, Unreachable, ask

PATIENCE = 15.0  # seconds for which a balancer may give no answer, while a table is replaced or a network hiccups
LOOK = 1.0  # seconds that the balancer may take to answer, if it has to wait for the answer to be yes


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, options = self.validate_argument_spec(
            {
                "node": {"type": "str", "required": True},
                "goal": {"type": "str", "required": True, "choices": ["up", "drained", "settled", "back", "empty"]},
                "timeout": {"type": "int", "default": 60},
                "names": {"type": "dict", "default": {}},
                "command": {"type": "str", "default": "wirefleet-steer"},
                "hint": {"type": "str", "default": ""},
            }
        )
        try:
            return self._wait(options)
        except Unreachable as error:
            balancer = self._task.delegate_to or (task_vars or {}).get("inventory_hostname")
            Display().warning(f"{balancer} {error}; it has no say")
            return {"changed": False, "reached": None, "left": None, "clients": [], "seconds": None}
        except Unanswered as error:
            raise AnsibleActionFail(f"{error}. {options['hint']}") from None

    def _wait(self, options: Mapping[str, Any]) -> dict[str, Any]:
        argv = [options["command"], "wait", options["node"], options["goal"], "--timeout", f"{LOOK:g}", "--json"]
        begin = answered = time.monotonic()
        shown = None
        while True:
            try:
                progress = ask(self, argv)
            except Unanswered:
                now = time.monotonic()
                if self._task.check_mode or shown is None or now - answered >= PATIENCE:
                    raise
                time.sleep(LOOK)
                continue
            answered = time.monotonic()
            seconds = answered - begin
            clients = [options["names"].get(key, key) for key in progress["clients"]]
            text = describe(progress, clients)
            if text != shown:
                Display().display(f"  {text} ({seconds:.0f} s)")
                shown = text
            if progress["reached"] or self._task.check_mode:
                break
            if seconds >= options["timeout"]:
                raise AnsibleActionFail(
                    f"{text}, but not {options['goal']} after {seconds:.0f} s: {progress['advice']}. {options['hint']}"
                )
        return {
            "changed": False,
            "reached": progress["reached"],
            "left": progress["left"],
            "clients": clients,
            "seconds": round(seconds, 1),
        }


def describe(progress: Mapping[str, Any], clients: Sequence[str]) -> str:
    """Say in a line how far the node is; ``clients`` are names of some that are left."""
    node, left = progress["node"], progress["left"]
    if not left:
        state = "empty" if progress["reached"] and left == 0 else progress["kernel"]
        return f"{node} is {state}, HAProxy: {progress['haproxy']}"
    if not clients:
        return f"{node} is {progress['kernel']}, {left} session{'s'[: left > 1]} left"
    more = ", …" if left > len(clients) else ""
    return f"{node} is {progress['kernel']}, {left} client{'s'[: left > 1]} left: {', '.join(clients)}{more}"
