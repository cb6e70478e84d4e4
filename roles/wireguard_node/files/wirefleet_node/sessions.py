# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Where the clients are: what WireGuard knows of them, and what of that is new to a balancer."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from wirefleet.command import run

MIN_AGE = 0.25  # seconds: however often balancers ask, WireGuard is asked no more often than that …
SHARE = 20  # … and for no more than one part in so many of the time: two listings of 10,000 peers take 0.1 s
MAX_AGE = 5.0  # seconds, however slow it answers


@dataclass(frozen=True)
class Session:
    """``endpoint`` is ADDRESS:PORT as WireGuard writes it, ``handshake`` seconds since the epoch, 0 for never.

    ``networks`` are those that this node routes to the client: none unless it routes, and has the client.
    """

    endpoint: str
    handshake: int
    networks: tuple[str, ...] = ()


Look = Callable[[], "Mapping[str, Session]"]  # public key -> session of everybody who was heard of
Follow = Callable[[Look], "Mapping[str, Session]"]


class Journal:
    """What changed since a reader's last visit. Pure.

    A reader comes back with the epoch and the number that it got, and gets the clients that changed since then. When a
    peer is gone, which changes can not say, a new epoch begins: whoever comes with another one gets everybody.
    """

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(8)
        self.seq = 0
        self._entries: dict[str, tuple[Session, int]] = {}  # public key -> its session, and when that was news

    def record(self, sessions: Mapping[str, Session]) -> None:
        if self._entries.keys() - sessions.keys():
            self.__init__()  # type: ignore[misc]
        entries = self._entries
        news = {key: s for key, s in sessions.items() if (known := entries.get(key)) is None or known[0] != s}
        if news:
            self.seq += 1
            entries.update((key, (session, self.seq)) for key, session in news.items())

    def since(self, epoch: str | None, seq: int) -> dict[str, Session]:
        begin = seq if epoch == self.epoch else 0
        return {key: session for key, (session, changed) in self._entries.items() if changed > begin}


class Sessions:
    """The clients of one interface, or of several; asks WireGuard when somebody wants to know, one thread at a time.

    ``follow`` is given each look before it counts, and may add to it; ``watch`` sees it, with the time of day.
    """

    def __init__(
        self,
        interfaces: Iterable[str],
        probes: Collection[str],
        follow: Follow | None = None,
        watch: Callable[[Mapping[str, Session], float], None] | None = None,
    ) -> None:
        self._look: Look = partial(read, tuple(interfaces), frozenset(probes))
        if follow:
            self._look = partial(follow, self._look)
        self._watch = watch
        self._lock = threading.Lock()
        self._journal = Journal()
        self._due = self._seen_at = float("-inf")

    def changes(self, epoch: str | None, seq: int) -> dict[str, object]:
        """Return a reader's answer; ``age`` is in seconds. Raises a CommandError when WireGuard does not answer."""
        with self._lock:
            now = self._keep_up()
            return {
                "age": now - self._seen_at,
                "epoch": self._journal.epoch,
                "seq": self._journal.seq,
                "peers": [_entry(key, session) for key, session in self._journal.since(epoch, seq).items()],
            }

    def keep_up(self) -> None:
        """Look even if nobody asks. Raises a CommandError when WireGuard does not answer."""
        with self._lock:
            self._keep_up()

    def _keep_up(self) -> float:
        """Look if the last look is old; return what time it is then."""
        now = time.monotonic()
        if now >= self._due:
            self._seen_at = now
            sessions = self._look()
            self._journal.record(sessions)
            if self._watch:
                self._watch(sessions, time.time())
            now = time.monotonic()
            self._due = now + min(max(MIN_AGE, SHARE * (now - self._seen_at)), MAX_AGE)
        return now


def _entry(key: str, session: Session) -> dict[str, object]:
    entry: dict[str, object] = {"public_key": key, "endpoint": session.endpoint, "handshake": session.handshake}
    return {**entry, "networks": session.networks} if session.networks else entry


def read(interfaces: Iterable[str], probes: Collection[str]) -> dict[str, Session]:
    """Return the clients that were ever heard of, each where its latest handshake was."""
    sessions: dict[str, Session] = {}
    for interface in interfaces:
        for key, session in _read(interface, probes).items():
            if key not in sessions or session.handshake > sessions[key].handshake:
                sessions[key] = session
    return sessions


def _read(interface: str, probes: Collection[str]) -> dict[str, Session]:
    """Return those of one interface. Never through ``wg show dump``, which prints secret keys.

    An endpoint with a zone is on a link of this node, where no balancer has a way to.
    """
    endpoints = parse(run(["wg", "show", interface, "endpoints"]))
    handshakes = parse(run(["wg", "show", interface, "latest-handshakes"]))
    return {
        key: Session(endpoint, int(handshakes.get(key, 0)))
        for key, endpoint in endpoints.items()
        if endpoint != "(none)" and "%" not in endpoint and key not in probes
    }


def parse(listing: str) -> dict[str, str]:
    """Read what ``wg show IF WHAT`` says: a public key and its value on each line."""
    return {key: value for key, _tab, value in (line.partition("\t") for line in listing.splitlines())}
