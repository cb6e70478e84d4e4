# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What outlives the daemon."""

from __future__ import annotations

from pathlib import Path

import pytest
from wirefleet_steer.adoption import Session
from wirefleet_steer.memory import load, save

CLIENTS = {"n1": {"a": Session("198.51.100.1:1", 10), "b": Session("[2001:db8::1]:1", 0)}, "n2": {}}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "clients.json", CLIENTS)
    save(tmp_path / "clients.json", {"n1": {}})
    save(tmp_path / "clients.json", CLIENTS)
    assert load(tmp_path / "clients.json") == CLIENTS
    assert [path.name for path in tmp_path.iterdir()] == ["clients.json"]


def test_at_first_there_is_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / "clients.json") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "nodes": {}}',
        '{"version": 1, "nodes": []}',
        '{"version": 1, "nodes": {"n1": []}}',
        '{"version": 1, "nodes": {"n1": {"a": ["198.51.100.1:1"]}}}',
        '{"version": 1, "nodes": {"n1": {"a": ["198.51.100.1:1", "x"]}}}',
        '{"version": 1, "nodes": {"n1": {"a": ["fe80::1%x:1", 5]}}}',
        '{"version": 1, "nodes": {"n1": {"a": 5}}}',
        "[" * 100_000,
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "clients.json").write_text(text)
    with pytest.raises(ValueError, match=r"\w"):
        load(tmp_path / "clients.json")
