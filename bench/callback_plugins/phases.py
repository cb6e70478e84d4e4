# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What each task of a run takes: wall time, and CPU time of the controller with the processes that it started.

A line of JSON for each task goes to the file that the environment names with WIREFLEET_PHASES. The CPU time of a task's
processes may count for the next one, if they end in its time.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: phases
type: aggregate
short_description: Write what each task of a run takes
description:
  - Writes a line of JSON for each task, with its role, name, seconds, seconds of the controller's CPU, and the hosts on
    which it changed something.
options: {}
"""

import json
import os
import time
from typing import Any

from ansible.playbook import Playbook
from ansible.playbook.task import Task
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """The times between the beginnings of tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "phases"

    def __init__(self) -> None:
        super().__init__()
        self._file = open(os.environ["WIREFLEET_PHASES"], "w")  # noqa: SIM115 (until the run ends)
        self._begin("", "start")

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        self._next("", "start")

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        role = getattr(task, "_role", None)
        self._next(role.get_name() if role else "", task.name or task.action)

    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result: Any) -> None:
        if result.is_changed():
            self._changed.append(result._host.get_name())

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._next("", "end")
        self._file.close()

    def _next(self, role: str, task: str) -> None:
        seconds, cpu = time.monotonic() - self._began[0], _cpu() - self._began[1]
        line = {
            "role": self._role.rpartition(".")[2],
            "task": self._task,
            "seconds": round(seconds, 3),
            "cpu": round(cpu, 3),
            "changed": self._changed,
        }
        self._file.write(json.dumps(line) + "\n")
        self._begin(role, task)

    def _begin(self, role: str, task: str) -> None:
        self._role, self._task, self._changed = role, task, list[str]()
        self._began = time.monotonic(), _cpu()


def _cpu() -> float:
    """Seconds of CPU of this process and of those that have ended."""
    return sum(os.times()[:4])
