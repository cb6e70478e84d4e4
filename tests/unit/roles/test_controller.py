# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What roles do on the controller, they do as whoever runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from ..conftest import REPOSITORY


def flat(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        yield from flat(task.get("block", []))


def test_nothing_becomes_root_on_the_controller() -> None:
    """Whatever an inventory says: `ansible_become` there outranks the keyword of a task, and not its variable."""
    tasks = [
        task
        for path in REPOSITORY.glob("roles/*/tasks/*.yml")
        for task in flat(yaml.safe_load(path.read_text(encoding="utf-8")))
    ]
    local = [task for task in tasks if task.get("delegate_to") == "localhost"]
    assert local
    assert [task["name"] for task in local if task.get("vars", {}).get("ansible_become") is not False] == []
    assert [task["name"] for task in tasks if "become" in task] == []
