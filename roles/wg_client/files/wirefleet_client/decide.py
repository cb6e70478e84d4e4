# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Which way the tunnel takes, and when it needs a new handshake. Pure: times are given.

Over UDP the balancer moves a client to another node; over TCP nobody can. There the balancer ends the connection, and
the client has to come by itself: a new session with whichever node the next connection leads to.

UDP is preferred. Whether it works is asked with an initiation beside the tunnel (probe.py), so that neither an answer
nor the lack of one disturbs what works.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SILENCE = 5.0  # seconds of sending without an answer after which UDP is doubted
LIFETIME = 180.0  # seconds after which WireGuard gives a session up
RENEW_PAUSE = 2.0  # seconds between two handshakes that we force
PROBE_PAUSE = 30.0  # seconds between two probes …
MAX_PROBE_PAUSE = 960.0  # … and at most, where UDP works again and again, but not for long
STEADY = 600.0  # seconds of UDP after which it is trusted as before


class Path(Enum):
    UDP = "udp"
    TCP = "tcp"


class Action(Enum):
    NOTHING = "nothing"
    RENEW = "renew"  # a new handshake on the path that it has
    PROBE = "probe"
    TO_UDP = "to udp"
    TO_TCP = "to tcp"


@dataclass(frozen=True)
class Seen:
    """``age`` of the latest handshake in seconds, None for never.

    ``sent`` and ``received`` are bytes through the interface; ``connections`` are the shim's, by their local ends.
    """

    path: Path
    age: float | None
    sent: int
    received: int
    connections: frozenset[str] = frozenset()


class Watch:
    """What the decisions rest on besides the present look. Without ``probes`` the path is TCP."""

    def __init__(self, probes: bool) -> None:
        self._probes = probes
        self._connections: frozenset[str] = frozenset()
        self._broken = False  # a connection ended: the next one may lead to a node that does not know us
        self._renew_due = self._probe_due = float("-inf")
        self._probe_pause = PROBE_PAUSE
        self._udp_works: bool | None = None  # the last probe's result, until something came of it
        self._udp_since = float("-inf")
        self._sent = self._received = 0
        self._unanswered_since: float | None = None

    def step(self, seen: Seen, now: float) -> Action:
        """Say what to do now."""
        self._note_traffic(seen, now)
        works, self._udp_works = self._udp_works, None
        if seen.path is Path.UDP:
            if not self._probes or (works is False and self._doubtful(seen, now)):
                return self._leave_udp(now)
            if self._doubtful(seen, now) and now >= self._probe_due:
                return Action.PROBE
            return Action.NOTHING
        if works:
            self._udp_since = now
            self._connections = frozenset()
            self._unanswered_since = None
            return Action.TO_UDP
        self._broken |= bool(self._connections - seen.connections)
        self._connections = seen.connections
        if self._broken and now >= self._renew_due:
            self._broken = False
            self._renew_due = now + RENEW_PAUSE
            return Action.RENEW
        if self._probes and now >= self._probe_due:
            return Action.PROBE
        return Action.NOTHING

    def probed(self, works: bool, now: float) -> None:
        """A probe was, or was not, answered."""
        self._udp_works = works
        self._probe_due = now + self._probe_pause

    def _leave_udp(self, now: float) -> Action:
        steady = now - self._udp_since >= STEADY
        self._probe_pause = PROBE_PAUSE if steady else min(2 * self._probe_pause, MAX_PROBE_PAUSE)
        self._probe_due = now + self._probe_pause
        self._broken = False
        return Action.TO_TCP

    def _doubtful(self, seen: Seen, now: float) -> bool:
        silent = self._unanswered_since is not None and now - self._unanswered_since >= SILENCE
        return silent or seen.age is None or seen.age > LIFETIME

    def _note_traffic(self, seen: Seen, now: float) -> None:
        if seen.received != self._received:
            self._unanswered_since = None
        elif seen.sent != self._sent and self._unanswered_since is None:
            self._unanswered_since = now
        self._sent, self._received = seen.sent, seen.received
