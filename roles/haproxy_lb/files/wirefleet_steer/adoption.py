# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Whose client is whose, and who takes the clients of a node that goes. Pure: no clock, no socket, no thread.

The nodes' agents say which clients they have heard of; the node with a client's latest handshake has it. When a node
goes, the others are told to adopt its clients: each begins a handshake, which a stock client answers at once, where it
would wait for 15 s by itself.

Nothing is written into the steering table for that: while a client's node does not accept, any accepting node may begin
a handshake with it, and that handshake teaches the table whose client it is now.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

from .wheel import SLOTS, wheel

PATIENCE = 1.5  # seconds for a handshake and its way to us: an initiation or its answer may be lost
ATTEMPTS = 2
BATCH_TIME = 0.5  # seconds of work in one request
MAX_BATCH = 256  # clients, as the agent allows
CLOCK_TOLERANCE = 1.0  # seconds
SESSION_LIFE = 180  # seconds: REJECT_AFTER_TIME, after which nobody uses a session any more

# How a move ends: the target has the client; it went elsewhere by itself; it answered nobody; the target does not know
# it; no target could be asked; its node came back before anybody was asked.
RESULTS = ("adopted", "moved", "silent", "refused", "failed", "kept")


@dataclass(frozen=True)
class Session:
    """``endpoint`` is ADDRESS:PORT as WireGuard writes it, ``handshake`` seconds since the epoch, 0 for never.

    ``networks`` are those that the node routes to the client, in routed mode and while it has the client. ``said`` is
    the handshake by the node's own clock, where that was another than ours.
    """

    endpoint: str
    handshake: int
    networks: tuple[str, ...] = ()
    said: int | None = None

    @property
    def family(self) -> str:
        """nftables' name for it."""
        return "ip6" if self.endpoint.startswith("[") else "ip"

    @property
    def stamp(self) -> int:
        """The handshake as the node itself names it."""
        return self.handshake if self.said is None else self.said

    def by_clock(self, offset: float, now: float) -> Session:
        """Say it by our clock, by which it is ``now``: the node's is ``offset`` seconds ahead.

        WireGuard keeps the time that its host's clock showed. So what is ahead of us even so was written when that
        clock was wrong, which it is no more, and says nothing.
        """
        handshake = self.handshake
        if handshake and abs(offset) > CLOCK_TOLERANCE:
            handshake = max(handshake - round(offset), 1)
        if handshake > now + CLOCK_TOLERANCE:
            handshake = 0
        return self if handshake == self.handshake else replace(self, handshake=handshake, said=self.handshake)

    @property
    def steered(self) -> bool:
        """Whether its packets go through the table.

        Over TCP they come to the node from the node itself, and nobody else can reach the client there.
        """
        return not self.endpoint.startswith(("127.", "[::1]"))


class Roster:
    """Every node's clients as its agent told them, by public key.

    A node that does not answer any more is remembered as it was: that is what its clients are adopted from.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Session]] = {}

    def update(self, node: str, sessions: Mapping[str, Session], whole: bool) -> None:
        """Learn what changed at a node; ``whole``: it has no other clients."""
        if whole:
            self._nodes[node] = dict(sessions)
        else:
            self._nodes.setdefault(node, {}).update(sessions)

    @property
    def nodes(self) -> Mapping[str, Mapping[str, Session]]:
        return self._nodes

    def owner(self, key: str) -> tuple[str, Session] | None:
        """Return the node with the client's latest handshake, and the session there."""
        found = ((node, sessions[key]) for node, sessions in self._nodes.items() if key in sessions)
        return max((each for each in found if each[1].handshake), key=lambda each: each[1].handshake, default=None)

    def at(self, node: str) -> dict[str, Session]:
        """Return the clients that the node has, or may have: WireGuard tells handshakes by the second."""
        return {
            key: session
            for key, session in self._nodes.get(node, {}).items()
            if session.handshake
            and all(session.handshake >= other[key].handshake for other in self._nodes.values() if key in other)
        }

    def clients(self) -> Iterator[tuple[str, str, Session]]:
        """Yield public key, node and session of everybody who ever had a handshake."""
        for key in {key for sessions in self._nodes.values() for key in sessions}:
            owner = self.owner(key)
            if owner:
                yield key, *owner


@dataclass(frozen=True)
class Move:
    """A client that shall leave its node, and where it stands with that.

    ``due`` is when the next step is, on the monotonic clock: while the target was not ``asked``, when to ask it; then,
    when the target's own view has to show the client.
    """

    key: str
    session: Session
    origin: str
    target: str
    attempt: int = 1
    asked: bool = False
    due: float = -math.inf


@dataclass(frozen=True)
class Ended:
    """How the adoption of a node's clients ended; ``results`` counts them."""

    origin: str
    results: Mapping[str, int]
    seconds: float


class Adoptions:
    """The moves that are under way; ``totals`` counts how those ended that are over."""

    def __init__(self, rate: float) -> None:
        """``rate``: clients per second that one node is asked to adopt."""
        self.totals: Counter[str] = Counter()
        self._rate = rate
        self._moves: dict[str, Move] = {}
        self._unanswered: dict[str, tuple[str, Session]] = {}  # who was silent: left alone until something changes
        self._begun: dict[str, float] = {}  # origin -> when its adoption began
        self._results: dict[str, Counter[str]] = {}  # origin -> how its moves ended
        self._free_at: dict[str, float] = {}  # target -> when the next batch may be sent

    @property
    def targets(self) -> frozenset[str]:
        """The nodes whose word is waited for."""
        return frozenset(move.target for move in self._moves.values())

    def begin(self, node: str) -> None:
        """The node goes just now: those that were silent before get another chance."""
        self._unanswered = {key: last for key, last in self._unanswered.items() if last[0] != node}

    def plan(self, node: str, roster: Roster, shares: Shares, since: float, now: float) -> int:
        """Find a new node for each client of one that goes. Return how many that are.

        Those that were only on their way to it are included; clients without a handshake ``since`` then (Unix time) are
        not. The busy ones come first.
        """
        leaving = roster.at(node)
        leaving.update((key, move.session) for key, move in self._moves.items() if move.target == node)
        planned = 0
        for key, session in sorted(leaving.items(), key=lambda item: item[1].handshake, reverse=True):
            target = shares.target(key, session.family)
            move = self._moves.get(key)
            if target is None or session.handshake < since or self._unanswered.get(key) == (node, session):
                continue
            if not session.steered:  # it comes by itself, when HAProxy ends its connection
                continue
            if move is None or move.target == node:
                self._moves[key] = Move(key, session, node, target)
                planned += 1
        if planned:
            self._begun.setdefault(node, now)
            self._results.setdefault(node, Counter())
        return planned

    def cancel(self, node: str) -> None:
        """The node is back: whoever nobody was asked to adopt yet stays with it."""
        for move in [move for move in self._moves.values() if move.origin == node and not move.asked]:
            self._end(move, "kept")

    def batches(self, now: float) -> Iterator[tuple[str, list[Move]]]:
        """Yield each target that can be asked now, and for whom."""
        waiting: dict[str, list[Move]] = {}
        for move in self._moves.values():
            if not move.asked and move.due <= now and self._free_at.get(move.target, now) <= now:
                waiting.setdefault(move.target, []).append(move)
        for target, moves in waiting.items():
            batch = moves[: min(max(int(self._rate * BATCH_TIME), 1), MAX_BATCH)]
            self._free_at[target] = now + len(batch) / self._rate
            for move in batch:
                self._moves[move.key] = replace(move, due=math.inf)  # until we know how asking ended
            yield target, batch

    def asked(self, target: str, keys: Iterable[str], now: float) -> None:
        """The target said that it begins with these."""
        for move in self._of(target, keys):
            self._moves[move.key] = replace(move, asked=True, due=now + PATIENCE)

    def refused(self, target: str, keys: Iterable[str]) -> None:
        """The target does not know these: revoked clients, or some that are not configured there yet."""
        for move in self._of(target, keys):
            self._end(move, "refused")

    def failed(self, target: str, keys: Iterable[str], shares: Shares) -> None:
        """The target could not be asked: somebody else, then."""
        others = shares.without(target)
        for move in self._of(target, keys):
            other = others.target(move.key, move.session.family)
            if other is None or move.attempt >= ATTEMPTS:
                self._end(move, "failed")
            else:
                self._moves[move.key] = Move(move.key, move.session, move.origin, other, move.attempt + 1)

    def settle(self, roster: Roster, seen_at: Mapping[str, float], now: float) -> list[Ended]:
        """See who has arrived, try the silent ones again, and return what is over.

        ``seen_at``: when each node looked at what the roster has of it. With many clients that may be seconds ago, and
        who has not been looked for is not silent. A silent one is tried where it was: its initiation made it that
        node's client for the steering table.
        """
        for move in list(self._moves.values()):
            owner, session = roster.owner(move.key) or (move.origin, move.session)
            if owner != move.origin and session.handshake > move.session.handshake:
                self._end(move, "adopted" if owner == move.target else "moved")
            elif move.asked and seen_at.get(move.target, -math.inf) >= move.due:
                if move.attempt < ATTEMPTS:
                    self._moves[move.key] = replace(move, attempt=move.attempt + 1, asked=False, due=-math.inf)
                else:
                    self._end(move, "silent")
        busy = {move.origin for move in self._moves.values()}
        over = [origin for origin in self._begun if origin not in busy]
        return [Ended(origin, self._results.pop(origin), now - self._begun.pop(origin)) for origin in over]

    def _of(self, target: str, keys: Iterable[str]) -> list[Move]:
        """Return the moves that an answer is about; what was planned anew meanwhile is none of them."""
        return [move for key in keys if (move := self._moves.get(key)) and move.target == target]

    def _end(self, move: Move, result: str) -> None:
        del self._moves[move.key]
        self._results[move.origin][result] += 1
        self.totals[result] += 1
        if result in ("silent", "refused"):
            self._unanswered[move.key] = (move.origin, move.session)


class Shares:
    """Who takes which client, by weight: every balancer comes to the same answer."""

    def __init__(self, weights: Mapping[str, Mapping[str, int]]) -> None:
        """``weights``: nftables family -> node -> weight, of nodes that can adopt."""
        self.weights = weights
        self._wheels = {family: wheel(shares) for family, shares in weights.items()}

    def target(self, key: str, family: str) -> str | None:
        slots = self._wheels.get(family)
        slot = int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "big") % SLOTS
        return slots[slot] if slots else None

    def without(self, node: str) -> Shares:
        return Shares(
            {family: {n: w for n, w in shares.items() if n != node} for family, shares in self.weights.items()}
        )


def wrong_clocks(offsets: Mapping[str, float]) -> set[str]:
    """Return the nodes whose clock is too far from the others' for adopting; ``offsets`` are to this host's clock.

    A client remembers the latest time that it saw in an initiation, and ignores earlier ones: a node behind the others
    is not heard, and one ahead makes all others unheard. This host has a vote too: it may be the one that is right.
    """
    middle = statistics.median([0.0, *offsets.values()])
    return {node for node, offset in offsets.items() if abs(offset - middle) > CLOCK_TOLERANCE}
