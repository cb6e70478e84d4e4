# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Drives the rebalancing: waits for quiet times, makes a client the other node's, and asks that node to adopt it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from wirefleet.log import event

from . import kernel
from .adopter import Adopter
from .adoption import SESSION_LIFE, Move
from .config import Config
from .decide import State
from .rebalance import Rebalance
from .translation import Translator

REVIEW = 5.0  # seconds
QUIET = 15.0  # seconds without any change before anybody is moved
STAY = 15.0  # seconds that a client stays at least where it is


class Rebalancer:
    """Moves clients between nodes that accept them. Other threads may look at ``rebalance``'s totals.

    An accepting node may not begin a handshake with the client of another one. So the table's affinity is rewritten
    first: from then on the client is the new node's, whoever begins a handshake. Its session goes on at the old node
    meanwhile, as with a drain, so no packet is lost.
    """

    def __init__(self, config: Config, adopter: Adopter, translator: Translator, pace: float) -> None:
        self.rebalance = Rebalance(pace)
        self._config = config
        self._adopter = adopter
        self._translator = translator
        self._previous: State | None = None
        self._quiet_since = self._begun_at = float("-inf")
        self._moved_before = 0
        self._review_due = float("-inf")

    def round(self, state: State) -> None:
        """One turn of the daemon's loop, after the adopter's. Raises a CommandError when nft does not do its part."""
        now = time.monotonic()
        if state != self._previous:
            self._quiet_since, self._previous = now, state
        if now < self._review_due:
            return
        self._review_due = now + REVIEW
        self._assign(self.rebalance.settle(self._adopter.roster, self._adopter.seen_at), lambda move: move.origin)
        if state.held or self._adopter.adoptions.targets:
            self._quiet_since = now
        was_active = self.rebalance.active
        if now - self._quiet_since >= QUIET:
            self._move(state, now)
        else:
            self.rebalance.active = False
        if self.rebalance.active and not was_active:
            self._begun_at, self._moved_before = now, self.rebalance.totals["moved"]
            event("rebalance", clients=",".join(f"{name}:{self._adopter.counts.get(name, 0)}" for name in state.nodes))
        elif was_active and not self.rebalance.active:
            moved = self.rebalance.totals["moved"] - self._moved_before
            why = "even" if now - self._quiet_since >= QUIET else "something changed"
            event("rebalance_over", moved=moved, seconds=f"{now - self._begun_at:.0f}", reason=why)

    def pause(self) -> None:
        """Another balancer is the active one; the next turn finds everything changed."""
        self._previous = None
        self.rebalance.active = False

    def _move(self, state: State, now: float) -> None:
        unix = time.time()
        clients = (client for client in self._adopter.roster.clients() if client[2].handshake >= unix - SESSION_LIFE)
        moves = self.rebalance.plan(clients, self._adopter.shares(state, now).weights, unix - STAY, now)
        self._assign(moves, lambda move: move.target)
        for target in {move.target for move in moves}:
            self._adopter.ask(target, [move for move in moves if move.target == target])

    def _assign(self, moves: Iterable[Move], owner: Callable[[Move], str]) -> None:
        """Write into the table whose client each is."""
        for family, owners in self._translator.affinities((owner(move), move.session) for move in moves):
            kernel.assign(family, self._config.table, owners)
