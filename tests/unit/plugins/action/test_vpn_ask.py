# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from collections.abc import Callable

import pytest

ASK = "wirefleet.vpn.vpn_ask"


def test_an_answer(play: Callable, daemon: Callable[..., str]) -> None:
    """The exit code is part of it: status says by it whether the node takes clients."""
    played = play("here", ASK, "--check", argv=["sh", "-c", f"{daemon({'state': 'ok'})}; exit 1"])
    assert (played.result["answer"], played.result["problem"]) == ({"state": "ok"}, None)
    assert played.result["changed"] is False


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["no-such-command"], "no-such-command: exit 127: "),
        (["echo", "[1]"], "echo '[1]': exit 0: not an object"),
        (["sh", "-c", "echo wrong >&2; exit 2"], "exit 2: wrong"),
    ],
)
def test_no_answer(play: Callable, argv: list[str], problem: str) -> None:
    played = play("here", ASK, argv=argv)
    assert played.result["answer"] is None
    assert problem in played.result["problem"]
    assert played.code == 0, played.output


def test_a_host_that_can_not_be_reached_stays_in_the_play(play: Callable) -> None:
    played = play("dead", ASK, argv=["true"])
    assert played.result["problem"].startswith("can not be reached: ")
    assert played.code == 0, played.output
    assert "unreachable=0" in played.output
