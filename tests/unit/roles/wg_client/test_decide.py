# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Times are as the cases say; a case is what was seen, second by second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from wirefleet_client.decide import (
    LIFETIME,
    MAX_PROBE_PAUSE,
    PROBE_PAUSE,
    RENEW_PAUSE,
    SILENCE,
    STEADY,
    Action,
    Path,
    Seen,
    Watch,
)

UDP = Seen(Path.UDP, 10.0, 0, 0)
TCP = Seen(Path.TCP, 10.0, 0, 0, frozenset({"A"}))


class TestUdp:
    def test_nothing_is_done_about_a_tunnel_that_is_answered(self) -> None:
        watch = Watch(probes=True)
        for second in range(20):
            assert watch.step(replace(UDP, sent=second * 100, received=second * 100), second) is Action.NOTHING

    def test_nor_about_one_that_is_idle(self) -> None:
        watch = Watch(probes=True)
        assert {watch.step(UDP, second) for second in range(100)} == {Action.NOTHING}

    @pytest.mark.parametrize("age", [None, LIFETIME + 1])
    def test_a_tunnel_without_a_session_is_probed(self, age: float | None) -> None:
        assert Watch(probes=True).step(replace(UDP, age=age), 0) is Action.PROBE

    def test_so_is_one_that_sends_without_an_answer(self) -> None:
        watch = Watch(probes=True)
        watch.step(UDP, 0)
        assert watch.step(replace(UDP, sent=100), 1) is Action.NOTHING
        assert watch.step(replace(UDP, sent=200), 1 + SILENCE - 0.1) is Action.NOTHING
        assert watch.step(replace(UDP, sent=300), 1 + SILENCE) is Action.PROBE

    def test_an_answer_ends_the_silence(self) -> None:
        watch = Watch(probes=True)
        watch.step(replace(UDP, sent=100), 1)
        watch.step(replace(UDP, sent=200, received=100), 1 + SILENCE - 0.1)
        assert watch.step(replace(UDP, sent=300, received=100), 1 + SILENCE) is Action.NOTHING

    def test_a_probe_that_is_answered_changes_nothing_and_counts_for_a_while(self) -> None:
        watch = Watch(probes=True)
        silent = replace(UDP, age=None)
        watch.step(silent, 0)
        watch.probed(True, 1)
        assert watch.step(silent, 1) is Action.NOTHING
        assert watch.step(silent, PROBE_PAUSE + 0.9) is Action.NOTHING
        assert watch.step(silent, PROBE_PAUSE + 1) is Action.PROBE

    def test_one_that_is_not_leads_to_tcp(self) -> None:
        watch = Watch(probes=True)
        watch.step(replace(UDP, age=None), 0)
        watch.probed(False, 3)
        assert watch.step(replace(UDP, age=None), 3) is Action.TO_TCP

    def test_unless_the_tunnel_works_again_by_then(self) -> None:
        watch = Watch(probes=True)
        watch.step(replace(UDP, age=None), 0)
        watch.probed(False, 3)
        assert watch.step(replace(UDP, age=1), 3) is Action.NOTHING

    def test_where_tcp_is_asked_for_it_is_left_at_once(self) -> None:
        assert Watch(probes=False).step(UDP, 0) is Action.TO_TCP


def on_tcp(now: float = 0) -> Watch:
    """A client that found no UDP."""
    watch = Watch(probes=True)
    watch.step(replace(UDP, age=None), now)
    watch.probed(False, now)
    assert watch.step(replace(UDP, age=None), now) is Action.TO_TCP
    return watch


class TestTcp:
    def test_nothing_is_done_while_the_connection_lasts(self) -> None:
        watch = Watch(probes=False)
        assert {watch.step(TCP, second) for second in range(100)} == {Action.NOTHING}

    def test_the_first_connection_needs_no_other_handshake(self) -> None:
        watch = Watch(probes=False)
        assert watch.step(replace(TCP, connections=frozenset()), 0) is Action.NOTHING
        assert watch.step(TCP, 1) is Action.NOTHING

    @pytest.mark.parametrize("after", [frozenset(), frozenset({"B"})])
    def test_when_it_ends_or_is_another_one_the_client_comes_anew(self, after: frozenset[str]) -> None:
        watch = Watch(probes=False)
        watch.step(TCP, 0)
        assert watch.step(replace(TCP, connections=after), 1) is Action.RENEW
        assert watch.step(replace(TCP, connections=after), 2) is Action.NOTHING

    def test_a_connection_that_ends_too_soon_is_not_forgotten(self) -> None:
        watch = Watch(probes=False)
        watch.step(TCP, 0)
        none = replace(TCP, connections=frozenset())
        assert watch.step(none, 1) is Action.RENEW
        assert watch.step(replace(TCP, connections=frozenset({"B"})), 1.2) is Action.NOTHING
        assert watch.step(none, 1.4) is Action.NOTHING
        assert watch.step(none, 1 + RENEW_PAUSE) is Action.RENEW

    def test_udp_is_asked_for_now_and_then(self) -> None:
        watch = on_tcp()
        assert watch.step(TCP, PROBE_PAUSE - 0.1) is Action.NOTHING
        assert watch.step(TCP, PROBE_PAUSE) is Action.PROBE
        watch.probed(False, PROBE_PAUSE + 3)
        assert watch.step(TCP, PROBE_PAUSE + 3) is Action.NOTHING
        assert watch.step(TCP, 2 * PROBE_PAUSE + 3) is Action.PROBE

    def test_it_is_taken_when_it_works(self) -> None:
        watch = on_tcp()
        watch.probed(True, PROBE_PAUSE)
        assert watch.step(TCP, PROBE_PAUSE) is Action.TO_UDP
        # The session is new, which is no reason to doubt.
        assert watch.step(replace(UDP, age=None), PROBE_PAUSE + 1) is Action.NOTHING

    def test_connections_of_before_are_of_no_interest_then(self) -> None:
        watch = on_tcp()
        watch.step(TCP, 1)
        watch.probed(True, 2)
        watch.step(TCP, 2)
        watch.probed(False, 3)
        assert watch.step(replace(UDP, age=None), 3) is Action.TO_TCP
        assert watch.step(replace(TCP, connections=frozenset({"B"})), 10) is Action.NOTHING


def pause(watch: Watch, now: float) -> float:
    """Return for how long the watch waits for its next probe."""
    return next(wait for wait in range(1, 5000) if watch.step(TCP, now + wait) is Action.PROBE)


class TestPaths:
    """UDP that works, but not for long."""

    def fall_back(self, watch: Watch, now: float) -> None:
        watch.probed(False, now)
        assert watch.step(replace(UDP, age=None), now) is Action.TO_TCP

    def test_it_is_trusted_less_each_time(self) -> None:
        watch, now, pauses = on_tcp(), 0.0, []
        for _ in range(7):
            waited = pause(watch, now)
            pauses.append(waited)
            now += waited
            watch.probed(True, now)
            assert watch.step(TCP, now) is Action.TO_UDP
            now += 60
            self.fall_back(watch, now)
        assert pauses == [PROBE_PAUSE * 2**n for n in range(6)] + [MAX_PROBE_PAUSE]

    def test_and_as_before_when_it_lasted(self) -> None:
        watch = on_tcp()
        for now in (0.0, 60.0):
            watch.probed(True, now)
            watch.step(TCP, now)
            self.fall_back(watch, now + 1)
        watch.probed(True, 100)
        watch.step(TCP, 100)
        self.fall_back(watch, 100 + STEADY)
        assert pause(watch, 100 + STEADY) == PROBE_PAUSE
