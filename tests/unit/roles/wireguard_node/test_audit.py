# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import pytest
from wirefleet_node.audit import SESSION_TIME, Audit
from wirefleet_node.sessions import Session

HOME, CAFE = "198.51.100.1:1", "[2001:db8::2]:2"
NOW = 1_800_000_000.5


class Journal:
    """An audit, and what it has written since it was last asked."""

    def __init__(self, capsys: pytest.CaptureFixture[str], interval: float | None = None) -> None:
        self._capsys, self._audit = capsys, Audit(interval)

    def after(self, seconds: float, **sessions: Session) -> list[str]:
        self._audit.see(sessions, NOW + seconds)
        return [line.removeprefix("event=client_") for line in self._capsys.readouterr().err.splitlines()]


def at(endpoint: str, seconds: int) -> Session:
    return Session(endpoint, int(NOW) + seconds)


@pytest.fixture
def journal(capsys: pytest.CaptureFixture[str]) -> Journal:
    return Journal(capsys)


def test_one_line_when_a_client_comes_moves_and_goes(journal: Journal) -> None:
    assert journal.after(0, a=at(HOME, 0)) == [f"connected client=a endpoint={HOME}"]
    assert journal.after(100, a=at(HOME, 0)) == []
    assert journal.after(130, a=at(HOME, 120)) == [], "a new handshake of a client that is there"
    assert journal.after(140, a=at(CAFE, 120)) == [f"moved client=a endpoint={CAFE} before={HOME}"]
    assert journal.after(120 + SESSION_TIME - 1, a=at(CAFE, 120)) == []
    assert journal.after(120 + SESSION_TIME, a=at(CAFE, 120)) == [
        f"disconnected client=a endpoint={CAFE} seconds={120 + SESSION_TIME}"
    ]
    assert journal.after(400, a=at(CAFE, 120)) == []
    assert journal.after(500, a=at(HOME, 499)) == [f"connected client=a endpoint={HOME}"]


def test_a_clock_that_was_a_day_ahead_dates_nobody(journal: Journal) -> None:
    assert journal.after(0, a=at(HOME, 86400)) == []
    assert journal.after(30, a=at(HOME, 29)) == [f"connected client=a endpoint={HOME}"]


def test_a_client_that_is_removed_disconnects(journal: Journal) -> None:
    journal.after(0, a=at(HOME, 0), b=at(CAFE, 0))
    assert journal.after(5, b=at(CAFE, 0)) == [f"disconnected client=a endpoint={HOME} seconds=5"]


def test_who_was_never_there_is_not_written(journal: Journal) -> None:
    assert journal.after(0, adopted_in_vain=Session(HOME, 0), yesterday=at(HOME, -86400)) == []


def test_everybody_who_is_there_periodically(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(capsys, interval=60)
    assert journal.after(0, a=at(HOME, 0)) == [f"connected client=a endpoint={HOME}"]
    assert journal.after(59, a=at(HOME, 0)) == []
    assert journal.after(60, a=at(HOME, 0)) == [f"present client=a endpoint={HOME} seconds=60"]
    assert journal.after(61, a=at(HOME, 0)) == []
    assert journal.after(-3600, a=at(HOME, -3600)) == [f"present client=a endpoint={HOME} seconds=0"], (
        "a clock set back"
    )
    assert journal.after(-3541, a=at(HOME, -3600)) == []
