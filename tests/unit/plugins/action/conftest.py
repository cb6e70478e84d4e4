# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Run a task with an action plugin for real: ansible-playbook on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[4]
INVENTORY = f"""
all:
  vars: {{ansible_python_interpreter: {sys.executable}}}
  hosts:
    here: {{ansible_connection: local}}
    dead: {{ansible_host: 127.0.0.1, ansible_port: 9, ansible_ssh_common_args: -F none}}
"""


@dataclass(frozen=True)
class Played:
    """``result`` is the task's."""

    code: int
    output: str
    result: dict[str, Any]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Played]:
    """Run one task on a host."""

    def run_task(host: str, module: str, *options: str, **arguments: Any) -> Played:
        report = tmp_path / "result.json"
        shown = "{{ result | to_json }}"
        tasks = [
            {module: arguments, "register": "result", "ignore_errors": True},
            {
                "ansible.builtin.copy": {"content": shown, "dest": str(report)},
                "delegate_to": "here",
                "check_mode": False,
            },
        ]
        (tmp_path / "play.yml").write_text(json.dumps([{"hosts": host, "gather_facts": False, "tasks": tasks}]))
        (tmp_path / "hosts.yml").write_text(INVENTORY)
        program = Path(sys.executable).parent / "ansible-playbook"
        ran = subprocess.run(
            [program, "-i", tmp_path / "hosts.yml", *options, tmp_path / "play.yml"],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".collections")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        output = ran.stdout + ran.stderr
        return Played(ran.returncode, output, json.loads(report.read_text()) if report.exists() else {})

    return run_task


@pytest.fixture
def daemon(tmp_path: Path) -> Callable[..., str]:
    """Write a program that gives one answer after the other, and the last one for ever; return its path."""

    def answering(*answers: object) -> str:
        for number, answer in enumerate(answers):
            (tmp_path / f"answer{number}").write_text(json.dumps(answer))
        program = tmp_path / "daemon"
        program.write_text(
            f'#!/bin/sh\ncd {tmp_path}\necho "$@" >> asked\ncat answer0\n'
            "[ ! -e answer1 ] || { for n in 1 2 3; do [ ! -e answer$n ] || mv answer$n answer$((n - 1)); done; }\n"
        )
        program.chmod(0o755)
        return str(program)

    return answering
