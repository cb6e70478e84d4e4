# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Ask a host's daemon by its command line, from an action plugin."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

LIMIT = 30  # seconds for a question: ssh itself waits for hours for a host that died meanwhile


class Unanswered(Exception):
    """Why there is no answer, in a line."""


class Unreachable(Unanswered):
    """The host can not be reached."""


def ask(action: ActionBase, argv: Sequence[str]) -> dict[str, Any]:
    """Run a command that prints a JSON object on the task's host, and return that. Its exit code says nothing more."""
    command = shlex.join(argv)
    try:
        with _limited():
            result = action._low_level_execute_command(command)
    except AnsibleError as error:
        # Before ansible-core 2.19, a host that died before it let us become root is a plain error.
        if isinstance(error, AnsibleConnectionFailure) or "Timeout (" in str(error):
            raise Unreachable(f"can not be reached: {_first_line(str(error))}") from None
        raise
    try:
        answer = json.loads(result["stdout"])
        if isinstance(answer, dict):
            return answer
        complaint = "not an object"
    except ValueError:
        complaint = _first_line(result["stderr"] or result["stdout"])
    raise Unanswered(f"{command}: exit {result['rc']}: {complaint}")


@contextmanager
def _limited() -> Iterator[None]:
    """Raise Unreachable when it takes too long. Ansible runs each task in a process of its own, so signals are ours."""

    def late(_signal: int, _frame: object) -> NoReturn:
        raise Unreachable(f"can not be reached: no answer within {LIMIT} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
