# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""docs/monitoring.md has every metric and every event of the daemons, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/monitoring.md").read_text(encoding="utf-8")
# Package -> how people call it, where events come from.
SPEAKERS = {
    "wirefleet_steer": "wirefleet-steer",
    "wirefleet_node": "wirefleet-node",
    "wirefleet_client": "wirefleet-client",
    "wirefleet_kill_switch": "wirefleet-kill-switch",
    "wirefleet": "all",
}


def calls(function: str) -> Iterator[tuple[Path, ast.Call]]:
    for path in sorted(REPOSITORY.glob("roles/*/files/wirefleet*/*.py")):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id == function:
                yield path, item


def texts(expression: ast.expr) -> list[str]:
    """A string, or both of a choice."""
    if isinstance(expression, ast.IfExp):
        return texts(expression.body) + texts(expression.orelse)
    return [ast.literal_eval(expression)]


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without the tables' own headings."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_metrics() -> None:
    exported = {}
    for path, call in calls("_metric"):
        name, _text, *kind = map(ast.literal_eval, [*call.args[:1], ast.Constant(""), *call.args[2:]])
        exported[f"{path.parent.name}_{name}"] = kind[0] if kind else "gauge"
    documented = {row[0].strip("`"): row[1] for row in rows("Metrics")}
    assert documented == exported
    assert all(row[2] and row[4] for row in rows("Metrics")), "a unit and a meaning"


def test_events() -> None:
    written: dict[str, set[str]] = {}
    for path, call in calls("event"):
        fields = {keyword.arg for keyword in call.keywords if keyword.arg}
        for name in texts(call.args[0]):
            written.setdefault(f"{SPEAKERS[path.parent.name]}: {name}", set()).update(fields)
    documented = {
        f"{row[1]}: {row[0].strip('`')}": set(re.findall(r"`(\w+)`", row[2])) for row in rows("Events in the journal")
    }
    assert documented.keys() == written.keys()
    for name, fields in written.items():
        assert fields <= documented[name], name
