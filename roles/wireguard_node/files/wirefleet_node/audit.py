# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Who was connected from where and when, for the journal.

A client is connected while it has a session: for 180 s from its latest handshake here (REJECT_AFTER_TIME of WireGuard),
which it renews every 120 s while there is traffic. So an end is written three minutes after the last handshake, also
when the client went to another node, whose own agent writes where it is from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wirefleet.log import event

from .sessions import Session

SESSION_TIME = 180  # seconds


@dataclass(frozen=True)
class Visit:
    """A client that is connected: where it is now, and its first handshake in seconds since the epoch."""

    endpoint: str
    since: int


class Audit:
    """Writes when clients connect, move to another address, and disconnect.

    With an ``interval`` in seconds it also writes, that often, everybody who is connected.
    """

    def __init__(self, interval: float | None = None) -> None:
        self._interval = interval
        self._visits: dict[str, Visit] = {}  # public key -> its visit
        self._due: float | None = None

    def see(self, sessions: Mapping[str, Session], now: float) -> None:
        """Take in a look at all clients; ``now`` is in seconds since the epoch, as handshakes are.

        One that is far ahead was dated by a clock that was set back since, and may be of any time.
        """
        here = {key: session for key, session in sessions.items() if abs(now - session.handshake) < SESSION_TIME}
        for key in self._visits.keys() - here.keys():
            left = self._visits.pop(key)
            event("client_disconnected", client=key, endpoint=left.endpoint, seconds=max(int(now) - left.since, 0))
        for key, session in here.items():
            visit = self._visits.get(key)
            if visit is None:
                event("client_connected", client=key, endpoint=session.endpoint)
            elif visit.endpoint != session.endpoint:
                event("client_moved", client=key, endpoint=session.endpoint, before=visit.endpoint)
            self._visits[key] = Visit(session.endpoint, visit.since if visit else session.handshake)
        if self._interval is not None:
            self._repeat(now, self._interval)

    def _repeat(self, now: float, interval: float) -> None:
        """A clock that was set back by a day is no reason to be silent for one."""
        if self._due is None or self._due - interval <= now < self._due:
            self._due = self._due or now + interval
            return
        self._due = now + interval
        for key, visit in self._visits.items():
            event("client_present", client=key, endpoint=visit.endpoint, seconds=max(int(now) - visit.since, 0))
