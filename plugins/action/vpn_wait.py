# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Wait on the controller for what a balancer says of a node, and show it as it changes; see its documentation."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

LOOK = 1.0  # seconds that one question may wait for its answer to be yes


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            {
                "node": {"type": "str", "required": True},
                "goal": {"type": "str", "required": True, "choices": ["up", "drained", "settled", "empty"]},
                "timeout": {"type": "int", "default": 60},
                "names": {"type": "dict", "default": {}},
                "command": {"type": "str", "default": "wirefleet-steer"},
                "hint": {"type": "str", "default": ""},
            }
        )
        begin = time.monotonic()
        shown = None
        while True:
            progress = self._ask(options["command"], options["node"], options["goal"])
            clients = [options["names"].get(key, key) for key in progress["clients"]]
            seconds = time.monotonic() - begin
            text = describe(progress, clients)
            if text != shown:
                Display().display(f"  {text} ({seconds:.0f} s)")
                shown = text
            late = seconds >= options["timeout"]
            if progress["reached"] or late or self._task.check_mode:
                break
        if not progress["reached"] and not self._task.check_mode:
            complaint = f"{text}, after {seconds:.0f} s, wanted: {options['goal']}. {progress['advice']}"
            raise AnsibleActionFail(f"{complaint}. {options['hint']}".strip())
        return {
            "changed": False,
            "reached": progress["reached"],
            "left": progress["left"],
            "clients": clients,
            "seconds": round(seconds, 1),
        }

    def _ask(self, command: str, node: str, goal: str) -> dict[str, Any]:
        """Return the balancer's answer; it waits by itself for a moment."""
        argv = [command, "wait", node, goal, "--timeout", f"{LOOK:g}", "--json"]
        result = self._low_level_execute_command(shlex.join(argv))
        try:
            answer: dict[str, Any] = json.loads(result["stdout"])
        except ValueError:
            complaint = (result["stderr"] or result["stdout"]).strip()
            raise AnsibleActionFail(f"{shlex.join(argv)}: exit {result['rc']}: {complaint}") from None
        return answer


def describe(progress: Mapping[str, Any], clients: Sequence[str]) -> str:
    """Say in a line how far the node is; ``clients`` are names of some that are left."""
    node, left = progress["node"], progress["left"]
    if not left:
        said = "empty" if left == 0 and progress["reached"] else progress["kernel"]
        return f"{node}: {said} (HAProxy: {progress['haproxy']})"
    more = ["…"] if left > len(clients) > 0 else []
    names = f": {', '.join([*clients, *more])}" if clients else ""
    return f"{node}: {left} {'client' if left == 1 else 'clients'} left{names}"
