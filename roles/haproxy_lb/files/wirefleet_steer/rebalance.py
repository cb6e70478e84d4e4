# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Who moves so that each node gets its share of the clients again. Pure: no clock, no socket.

A node that comes back, a new one, or one with more weight than before gets new clients at once, but those that are
there stay where they are. So they are moved a few at a time: from the node that has most too many to the one that lacks
most, those first that had their handshake longest ago.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from .adoption import Move, Roster, Session

PATIENCE = 7.0  # seconds for a handshake: WireGuard repeats a lost initiation after 5 s
CREDIT_TIME = 5.0  # seconds of moves that may be made up for at once

# How a move ends: the client left its node, or it did not and stays.
RESULTS = ("moved", "stayed")


@dataclass(frozen=True)
class Slack:
    """How far a node may be off its share: a part of it, or a number of clients where that is more."""

    part: float
    clients: float

    def exceeded(self, excess: float, share: float) -> bool:
        return abs(excess) > max(self.part * share, self.clients)


BEGIN = Slack(0.10, 2)
END = Slack(0.05, 1)


class Rebalance:
    """The moves that are under way; ``totals`` counts how those ended that are over.

    ``active``: somebody was too far off his share, and not all are back within the bounds.
    """

    def __init__(self, pace: float) -> None:
        """``pace``: clients per minute."""
        self.active = False
        self.totals: Counter[str] = Counter()
        self._pace = pace / 60
        self._credit = 0.0
        self._credit_at: float | None = None
        self._moves: dict[str, Move] = {}
        self._stayed: dict[str, Session] = {}  # who could not be moved: left alone until something changes

    def plan(
        self,
        clients: Iterable[tuple[str, str, Session]],
        weights: Mapping[str, Mapping[str, int]],
        settled: float,
        now: float,
    ) -> list[Move]:
        """Return the next moves, which are under way from now on.

        ``clients`` are public key, node and session; only those with a handshake before ``settled`` (Unix time) are
        moved. ``weights``: nftables family -> node -> weight, of nodes that can adopt.
        """
        known = list(clients)
        self._stayed = {key: session for key, _node, session in known if self._stayed.get(key) == session}
        slack = END if self.active else BEGIN
        steps = [
            step for family, shares in weights.items() for step in self._even_out(family, shares, known, settled, slack)
        ]
        self.active = bool(steps or self._moves)
        due = now + PATIENCE
        moves = [
            Move(key, session, origin, target, asked=True, due=due)
            for key, session, origin, target in islice(steps, self._spend(len(steps), now))
        ]
        self._moves.update((move.key, move) for move in moves)
        return moves

    def settle(self, roster: Roster, seen_at: Mapping[str, float]) -> list[Move]:
        """See who has arrived; return the moves of those who have not.

        ``seen_at``: when each node looked at what the roster has of it.
        """
        failed = []
        for move in list(self._moves.values()):
            owner, session = roster.owner(move.key) or (move.origin, move.session)
            if owner != move.origin and session.handshake > move.session.handshake:
                self._end(move, "moved")
            elif seen_at.get(move.target, -math.inf) >= move.due:
                self._end(move, "stayed")
                self._stayed[move.key] = session
                failed.append(move)
        return failed

    def _even_out(
        self,
        family: str,
        weights: Mapping[str, int],
        clients: Iterable[tuple[str, str, Session]],
        settled: float,
        slack: Slack,
    ) -> Iterator[tuple[str, Session, str, str]]:
        """Yield client, session, origin and target, until all nodes are close to their shares."""
        counts = {node: 0 for node, weight in weights.items() if weight > 0}
        movable: dict[str, list[tuple[int, str, Session]]] = {node: [] for node in counts}
        for key, node, session in clients:
            move = self._moves.get(key)
            at = move.target if move else node
            if session.family != family or at not in counts:
                continue
            counts[at] += 1
            if move is None and session.steered and session.handshake < settled and key not in self._stayed:
                movable[at].append((session.handshake, key, session))
        for queue in movable.values():
            queue.sort(reverse=True)  # the one that moves first is the last
        shares = {node: sum(counts.values()) * weights[node] / sum(weights.values()) for node in counts}
        excess = {node: counts[node] - share for node, share in shares.items()}
        if not any(slack.exceeded(excess[node], shares[node]) for node in counts):
            return
        while any(END.exceeded(excess[node], shares[node]) for node in counts):
            origin, target = max(excess, key=lambda node: excess[node]), min(excess, key=lambda node: excess[node])
            if not movable[origin]:
                return
            excess[origin] -= 1
            excess[target] += 1
            _age, key, session = movable[origin].pop()
            yield key, session, origin, target

    def _spend(self, wanted: int, now: float) -> int:
        """Say how many moves the pace allows just now."""
        earned = 0.0 if self._credit_at is None else (now - self._credit_at) * self._pace
        self._credit = min(self._credit + earned, max(self._pace * CREDIT_TIME, 1.0))
        self._credit_at = now
        spent = min(wanted, int(self._credit))
        self._credit -= spent
        return spent

    def _end(self, move: Move, result: str) -> None:
        del self._moves[move.key]
        self.totals[result] += 1
