# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.action.vpn_wait import describe

WAIT = "wirefleet.vpn.vpn_wait"


def progress(kernel: str, left: int | None = None, reached: bool = False) -> dict[str, Any]:
    """An answer of `wirefleet-steer wait n1 GOAL --json`, as far as it is described."""
    return {"node": "n1", "kernel": kernel, "haproxy": "NOLB", "left": left, "reached": reached}


@pytest.mark.parametrize(
    ("said", "clients", "text"),
    [
        (progress("up"), [], "n1 is up, HAProxy: NOLB"),
        (progress("draining", 1), ["alice"], "n1 is draining, 1 client left: alice"),
        (progress("draining", 2), ["alice", "bob"], "n1 is draining, 2 clients left: alice, bob"),
        (progress("draining", 3), ["alice", "bob"], "n1 is draining, 3 clients left: alice, bob, …"),
        (progress("draining", 1), [], "n1 is draining, 1 session left"),
        (progress("draining", 20), [], "n1 is draining, 20 sessions left"),
        (progress("draining", 0), [], "n1 is draining, HAProxy: NOLB"),
        (progress("draining", 0, True), [], "n1 is empty, HAProxy: NOLB"),
    ],
)
def test_progress_in_a_line(said: dict[str, Any], clients: list[str], text: str) -> None:
    assert describe(said, clients) == text


def answer(left: int | None, reached: bool = False) -> dict[str, Any]:
    clients = ["KEY="] if left else []
    return {**progress("draining", left, reached), "clients": clients, "advice": "wait"}


def test_it_waits_and_shows_what_changes(play: Callable, daemon: Callable[..., str], tmp_path: Path) -> None:
    program = daemon(answer(1), answer(1), answer(0, True))
    played = play("here", WAIT, node="n1", goal="empty", command=program, names={"KEY=": "alice"})
    assert played.code == 0, played.output
    assert (played.result["reached"], played.result["left"], played.result["changed"]) == (True, 0, False)
    assert played.output.count("n1 is draining, 1 client left: alice (") == 1
    assert played.output.count("n1 is empty, HAProxy: NOLB (") == 1
    assert (tmp_path / "asked").read_text() == "wait n1 empty --timeout 1 --json\n" * 3


def test_one_answer_that_is_none_ends_nothing(play: Callable, daemon: Callable[..., str]) -> None:
    played = play(
        "here", WAIT, node="n1", goal="empty", command=daemon(answer(1), "a table is being replaced", answer(0, True))
    )
    assert played.code == 0, played.output
    assert played.result["reached"] is True


def test_it_fails_with_the_names_of_those_who_are_left(play: Callable, daemon: Callable[..., str]) -> None:
    played = play("here", WAIT, node="n1", goal="empty", command=daemon(answer(1)), timeout=0, hint="Undrain it.")
    assert played.result["failed"]
    said = played.result["msg"]
    assert said.startswith("n1 is draining, 1 client left: KEY=, but not empty after 0 s: wait. Undrain it."), said


def test_a_check_asks_once_and_never_fails(play: Callable, daemon: Callable[..., str], tmp_path: Path) -> None:
    played = play("here", WAIT, "--check", node="n1", goal="empty", command=daemon(answer(1)))
    assert (played.result["reached"], played.result.get("failed", False)) == (False, False)
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


def test_a_balancer_that_can_not_be_reached_has_no_say(play: Callable) -> None:
    played = play("dead", WAIT, node="n1", goal="up")
    assert played.code == 0, played.output
    assert played.result["reached"] is None
    assert "dead can not be reached: " in played.output


def test_a_balancer_that_does_not_understand_is_an_error(play: Callable) -> None:
    played = play("here", WAIT, node="n1", goal="up", command="no-such-command", hint="Update it.")
    assert played.result["failed"]
    assert "exit 127" in played.result["msg"]
    assert played.result["msg"].endswith("Update it.")
