# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Drives adoptions: listens to the agents, sees nodes go and come, and asks the others to take over."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wirefleet.log import event
from wirefleet.prometheus import Histogram

from . import memory
from .adoption import MAX_BATCH, SESSION_LIFE, Adoptions, Move, Roster, Session, Shares, wrong_clocks
from .agents import Adopting, Agent, Failed, Heard, Message
from .config import Adoption, Config
from .decide import Standing, State, changes
from .owners import OwnerRoutes

REVIEW = 5.0  # seconds: who was left behind, or came to light only after its node had gone?
AGENT_GRACE = 10.0  # seconds in which an agent that is not there, at a node that is, may come back
FRESH = 5.0  # seconds: an agent that was silent for longer is not asked to adopt anybody
DURATIONS = (0.25, 0.5, 1, 2, 3, 5, 10, 20, 60, 120)  # seconds: bounds of the histogram
LATE = 1.0  # seconds: a handshake that was answered before a node was drained may be confirmed as much later


@dataclass(frozen=True)
class Tenants:
    """The clients of a node, by public key, with their latest handshake there in seconds since the epoch.

    ``complete``: the node was looked at since it takes no more clients, so that nobody is missing.
    """

    handshakes: Mapping[str, int]
    complete: bool


class Adopter:
    """What other threads may look at:

    ``counts``: node -> clients, as of the last review. ``durations``: how long it took until a node's clients were
    adopted, by what it went for, "failure" or "drain". ``silent``: agent that is not heard -> why. ``seen_at``: when
    each node looked at what the roster has of it, on the monotonic clock. ``wrong``: nodes whose clock is wrong.

    ``moved`` are clients at another address than before, for the table; who tells it takes them out.
    """

    def __init__(self, config: Config, adoption: Adoption, file: Path | None = None) -> None:
        """``file`` keeps the roster for whoever starts after us."""
        self.roster = Roster()
        self.adoptions = Adoptions(adoption.rate)
        self.counts: Mapping[str, int] = {}
        self.durations = {cause: Histogram(DURATIONS) for cause in ("failure", "drain")}
        self._causes: dict[str, str] = {}  # node -> what its clients leave it for
        self.silent: dict[str, str] = {}
        self.moved: dict[str, None] = {}  # public keys, the first one first
        self._config = config
        self._max_idle = adoption.max_idle
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.owners = (
            OwnerRoutes(config.owners, {node.name: node.addresses for node in config.nodes.values()})
            if config.owners
            else None
        )
        self._agents = {
            node.name: Agent(node.name, node.agent, self._inbox) for node in config.nodes.values() if node.agent
        }
        self._heard_at: dict[str, float] = {}
        self.seen_at: dict[str, float] = {}
        self._offsets: dict[str, float] = {}
        self.wrong: frozenset[str] = frozenset()
        self._begun_at = time.monotonic()
        self._left_at: dict[str, float] = {}  # when a node ceased to be up
        self._lock = threading.Lock()  # for the roster, which other threads may ask about
        self._previous: State | None = None
        self._active = False
        self._review_due = float("-inf")
        self._file = file
        self._memory_trouble: str | None = None
        self._recall()

    def start(self) -> None:
        for agent in self._agents.values():
            agent.start()

    def round(self, state: State, active: bool = True) -> None:
        """One turn of the daemon's loop; ``state`` is what the kernel was just made to follow.

        Only an ``active`` balancer asks anybody: handshakes go through its table, which lets pass what it agrees with.
        """
        now = time.monotonic()
        self._follow_addresses(active, now)
        if self.owners:
            self.owners.dead(frozenset(name for name in state.nodes if state.standing(name) is Standing.DOWN))
        failures = self._listen(now)
        shares = self.shares(state, now)
        for failure in failures:
            self.adoptions.failed(failure.node, failure.keys, shares)
        gone = set()
        for name, _before, standing in changes(self._previous or state, state):
            if standing is Standing.UP:
                self._left_at.pop(name, None)
                self.adoptions.cancel(name)
            else:
                self._left_at.setdefault(name, now)
                self.adoptions.begin(name)
                gone.add(name)
        self._previous = state
        if now >= self._review_due:
            self._review_due = now + REVIEW
            self.counts = Counter(node for _key, node, _session in self.clients())
            self._remember()
            gone = {name for name in self._config.nodes if state.standing(name) is not Standing.UP}
        # Fail static: what looks like the death of all nodes is hardly one, and nobody is moved.
        if active and not state.held and self._knows_who_can(state, now):
            for name in gone:
                if not _may_recover(state, name, now):
                    self._leave(name, state, shares, now)
            for target, batch in self.adoptions.batches(now):
                self._agents[target].adopt(batch)
        for ended in self.adoptions.settle(self.roster, self.seen_at, now):
            self.durations[self._causes.pop(ended.origin)].observe(ended.seconds)
            self._review_due = now
            event("adopted", node=ended.origin, seconds=f"{ended.seconds:.2f}", **ended.results)
        for name, agent in self._agents.items():
            agent.hurry = self.owners is not None or name in self.adoptions.targets

    def _knows_who_can(self, state: State, now: float) -> bool:
        """At the start, the first agent that is heard must not get everybody; nor may one keep all others waiting."""
        return now - self._begun_at >= FRESH or all(
            name in self._heard_at or name in self.silent
            for name in self._agents
            if state.standing(name) is Standing.UP
        )

    def follow_owners(self, owners: OwnerRoutes) -> None:
        """Let packets for clients go where they are now, and tell their former nodes. Raises a CommandError.

        Only who asks for adoptions knows of those that are under way, so the others tell nobody.
        """
        owners.follow()
        if not self._active:
            return
        for name, agent in self._agents.items():
            if name not in self.silent and (clients := owners.releases(name)):
                agent.release(clients)

    def ask(self, node: str, moves: Sequence[Move]) -> None:
        """Let a node adopt clients that are not ours to follow."""
        for begin in range(0, len(moves), MAX_BATCH):
            self._agents[node].adopt(moves[begin : begin + MAX_BATCH])

    def _follow_addresses(self, active: bool, now: float) -> None:
        """Begin with those that were left behind, or leave to the other balancer what nobody was asked for yet."""
        if active and not self._active:
            self._review_due = now
        elif self._active and not active:
            for name in self._config.nodes:
                self.adoptions.cancel(name)
        self._active = active

    def clients(self) -> Iterable[tuple[str, str, Session]]:
        """Yield public key, node and session of the clients that are worth remembering."""
        since = time.time() - self._max_idle
        return (client for client in self.roster.clients() if client[2].handshake >= since)

    def _recall(self) -> None:
        """Know the clients of nodes that died with us, or while we were away. What a live node says replaces this."""
        if self._file is None:
            return
        try:
            for node, sessions in memory.load(self._file).items():
                if node in self._config.nodes:
                    self.roster.update(node, sessions, whole=True)
        except (OSError, ValueError) as error:
            event("memory_unreadable", file=self._file, error=error)

    def _remember(self) -> None:
        if self._file is None:
            return
        trouble = None
        try:
            memory.save(self._file, self.roster.nodes)
        except OSError as error:
            trouble = str(error)
        if trouble and trouble != self._memory_trouble:
            event("memory_failed", file=self._file, error=trouble)
        self._memory_trouble = trouble

    def tenants(self, name: str) -> Tenants:
        """Who is at a node, or may be. Any thread may ask."""
        with self._lock:
            sessions = self.roster.at(name)
        complete = self.seen_at.get(name, float("-inf")) > self._left_at.get(name, float("-inf")) + LATE
        return Tenants({key: session.handshake for key, session in sessions.items()}, complete)

    def _leave(self, name: str, state: State, shares: Shares, now: float) -> None:
        planned = self.adoptions.plan(name, self.roster, shares, time.time() - self._max_idle, now)
        if planned:
            self._causes.setdefault(name, "failure" if state.standing(name) is Standing.DOWN else "drain")
            event("adoption", node=name, clients=planned)

    def shares(self, state: State, now: float) -> Shares:
        """Who can adopt: an accepting node whose agent answers, and whose clock is right."""
        able = [
            node
            for node in self._config.nodes.values()
            if now - self._heard_at.get(node.name, float("-inf")) <= FRESH and node.name not in self.wrong
        ]
        return Shares(
            {
                family: {node.name: state.weight(node.name) for node in able if family in node.addresses}
                for family in self._config.families
            }
        )

    def _listen(self, now: float) -> list[Failed]:
        """Take in what the agents' threads have brought; return what could not be asked."""
        failures = []
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, Heard):
                self._hear(message, now)
            elif isinstance(message, Adopting):
                self.adoptions.asked(message.node, message.begun, now)
                if self.owners:
                    self.owners.adopting(message.node, message.begun)
                self.adoptions.refused(message.node, message.refused)
            else:
                self._miss(message)
                failures.append(message)
        return failures

    def _hear(self, message: Heard, now: float) -> None:
        if message.node not in self._heard_at:
            self._review_due = now  # clients of a node that died before we started may have waited for this one
        before = {key: owner for key in message.sessions if (owner := self.roster.owner(key))}
        with self._lock:
            self.roster.update(message.node, message.sessions, message.whole)
        self._note_moved(message.node, before)
        if self.owners:
            self.owners.hear(message.node, message.sessions, message.whole)
        self._heard_at[message.node] = now
        self.seen_at[message.node] = message.seen_at
        self._offsets[message.node] = message.offset
        if self.silent.pop(message.node, None) is not None:
            event("agent_heard", node=message.node)
            self._review_due = now  # it may be the one that was missing
        wrong = frozenset(wrong_clocks(self._offsets))
        for name in sorted(wrong - self.wrong):
            seconds = f"{self._offsets[name]:+.1f}"
            event("clock_wrong", node=name, seconds=seconds, result="it adopts nobody, and begins no handshake")
        for name in sorted(self.wrong - wrong):
            event("clock_right", node=name)
        self.wrong = wrong

    def _note_moved(self, node: str, before: Mapping[str, tuple[str, Session]]) -> None:
        """See who comes from another address now, by the word of the node that has them.

        The table does not learn that from data where it knows the address already, perhaps as another node's: the
        client has been there before. A node has no say in addresses where another one has a session.
        """
        moved: dict[str, str] = {}
        for key, (_node, former) in before.items():
            owner = self.roster.owner(key)
            if owner and owner[0] == node and owner[1].steered and owner[1].endpoint != former.endpoint:
                moved[key] = owner[1].endpoint
        if moved:
            since = time.time() - SESSION_LIFE
            others = (sessions.values() for name, sessions in self.roster.nodes.items() if name != node)
            taken = {session.endpoint for sessions in others for session in sessions if session.handshake >= since}
            self.moved.update((key, None) for key, endpoint in moved.items() if endpoint not in taken)

    def _miss(self, message: Failed) -> None:
        if self.owners:
            self.owners.miss(message.node)
        if message.node not in self.silent:
            event("agent_silent", node=message.node, error=message.error, result="it adopts nobody")
            self._review_due = float("-inf")  # it may be the one that was waited for
        self.silent[message.node] = message.error
        # An old offset says nothing about the clock, and must not outvote others.
        self._offsets.pop(message.node, None)


def _may_recover(state: State, name: str, now: float) -> bool:
    """Say whether only the node's agent is away, and not for long: an update is no reason to move anybody."""
    lost_at = state.nodes[name].lost_at
    return state.standing(name) is Standing.DRAINING and lost_at is not None and now - lost_at < AGENT_GRACE
