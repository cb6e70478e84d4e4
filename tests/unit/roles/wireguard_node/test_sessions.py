# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import time
from typing import Any

import pytest
from wirefleet.command import CommandError
from wirefleet_node import sessions as module
from wirefleet_node.sessions import MAX_AGE, MIN_AGE, SHARE, Journal, Session, Sessions, read

ONE, TWO = Session("198.51.100.1:1", 100), Session("[2001:db8::2]:2", 200)
NEWER = Session("198.51.100.1:1", 220)


class TestJournal:
    def test_a_reader_gets_everybody_once_and_then_what_changed(self) -> None:
        journal = Journal()
        journal.record({"a": ONE, "b": TWO})
        assert journal.since(None, 0) == {"a": ONE, "b": TWO}
        seen = journal.epoch, journal.seq
        journal.record({"a": ONE, "b": TWO})
        assert (journal.epoch, journal.seq) == seen, "nothing is new"
        journal.record({"a": NEWER, "b": TWO})
        assert journal.since(*seen) == {"a": NEWER}
        assert journal.since(journal.epoch, journal.seq) == {}
        assert journal.since(journal.epoch, 0) == {"a": NEWER, "b": TWO}

    def test_readers_have_their_own_pace(self) -> None:
        journal = Journal()
        journal.record({"a": ONE})
        slow = journal.seq
        journal.record({"a": ONE, "b": TWO})
        quick = journal.seq
        journal.record({"a": NEWER, "b": TWO})
        assert journal.since(journal.epoch, quick) == {"a": NEWER}
        assert journal.since(journal.epoch, slow) == {"a": NEWER, "b": TWO}

    def test_with_a_peer_that_is_gone_a_new_epoch_begins(self) -> None:
        journal = Journal()
        journal.record({"a": ONE, "b": TWO})
        old = journal.epoch, journal.seq
        journal.record({"b": TWO})
        assert journal.epoch != old[0]
        assert journal.since(*old) == {"b": TWO}


class Clock:
    """Time passes when WireGuard is asked, and when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
        self.now, self.asked = 1000.0, 0

        def look(interface: str, probes: object) -> dict[str, Session]:
            self.now += cost
            self.asked += 1
            return {"a": Session("198.51.100.1:1", self.asked)}

        monkeypatch.setattr(module, "read", look)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.mark.parametrize(
    ("cost", "pause"), [(0.001, MIN_AGE), (0.1, 0.1 * SHARE), (3.0, MAX_AGE)], ids=["few", "thousands", "slow"]
)
def test_wireguard_is_asked_as_often_as_it_can_afford(
    monkeypatch: pytest.MonkeyPatch, cost: float, pause: float
) -> None:
    clock = Clock(monkeypatch, cost)
    sessions = Sessions("wg0", ())
    assert sessions.changes(None, 0)["age"] == pytest.approx(cost)
    clock.now += pause - 0.01
    assert sessions.changes(None, 0)["age"] == pytest.approx(cost + pause - 0.01)
    assert clock.asked == 1
    clock.now += 0.02
    assert sessions.changes(None, 0)["age"] == pytest.approx(cost)
    assert clock.asked == 2


def test_the_answer_is_what_a_balancer_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, 0)
    answer = Sessions("wg0", ()).changes("other", 77)
    epoch = answer.pop("epoch")
    assert isinstance(epoch, str)
    peer = {"public_key": "a", "endpoint": "198.51.100.1:1", "handshake": 1}
    assert answer == {"age": 0, "seq": 1, "peers": [peer]}


def test_only_clients_that_were_heard_of_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    listings = {
        "endpoints": "a\t198.51.100.1:1\nb\t(none)\nprobe\t10.9.0.10:9\nnew\t[2001:db8::2]:2\nnear\t[fe80::1%eth0]:2\n",
        "latest-handshakes": "a\t100\nb\t0\nprobe\t500\n",
    }

    def wg(argv: list[str]) -> str:
        assert argv[:3] == ["wg", "show", "wg0"]
        return listings[argv[3]]

    monkeypatch.setattr(module, "run", wg)
    assert read(["wg0"], {"probe"}) == {"a": ONE, "new": Session("[2001:db8::2]:2", 0)}


def test_a_silent_wireguard_is_an_error_and_not_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any) -> dict[str, Session]:
        raise CommandError(["wg"], 1, "No such device")

    monkeypatch.setattr(module, "read", fail)
    with pytest.raises(CommandError):
        Sessions("wg0", ()).changes(None, 0)


def test_ten_thousand_clients_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal()
    clients = {str(number): Session(f"198.51.100.1:{number}", 1) for number in range(10_000)}
    journal.record(clients)
    begin = time.process_time()
    for _ in range(10):
        journal.record(clients)
        assert journal.since(journal.epoch, journal.seq) == {}
    assert (time.process_time() - begin) / 10 < 0.1
