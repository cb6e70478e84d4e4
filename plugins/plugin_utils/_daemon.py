# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Ask a host's daemon by its command line, from an action plugin."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


class Unanswered(Exception):
    """Why there is no answer, in a line."""


class Unreachable(Unanswered):
    """The host can not be reached."""


def ask(action: ActionBase, argv: Sequence[str]) -> dict[str, Any]:
    """Run a command that prints a JSON object on the task's host, and return that. Its exit code says nothing more."""
    command = shlex.join(argv)
    try:
        result = action._low_level_execute_command(command)
    except AnsibleConnectionFailure as error:
        raise Unreachable(f"can not be reached: {_first_line(str(error))}") from None
    try:
        answer = json.loads(result["stdout"])
        if isinstance(answer, dict):
            return answer
        complaint = "not an object"
    except ValueError:
        complaint = _first_line(result["stderr"] or result["stdout"])
    raise Unanswered(f"{command}: exit {result['rc']}: {complaint}")


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
