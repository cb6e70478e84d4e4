# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Routed mode: each client's packets from the private networks go to the node that has it.

Nodes claim the networks of the clients that they route into their tunnel; the claim with the latest handshake wins.
On a move the new node claims first, then the route here follows, and a while later the former node is told to let go,
when nothing is on its way to it any more. A dead node's clients are their adopters', even before they have answered.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import islice

from wirefleet.iproute import ensure_rules
from wirefleet.log import event
from wirefleet.routes import Hop, RoutingTable

from .adoption import Session
from .config import FAMILIES, Owners

RELEASE_AFTER = 1.0  # seconds from another node's claim until the former one is asked to let go
RELEASE_INTERVAL = 1.0  # seconds between two such requests to one node
MAX_RELEASE = 256  # clients, as the agent allows
CHECK_INTERVAL = 1.0  # seconds between two looks whether rules and routes are still there


@dataclass(frozen=True)
class Claim:
    """A node's claim of a client, by the latest handshake there. Of two with one (they are dated in seconds), the later
    ``number`` wins. ``stamp`` is the handshake as the node itself names it.

    A node that adopts a dead one's client is as good as that one: it takes over its ``rank`` until its own handshake.
    """

    handshake: int
    number: int
    networks: tuple[str, ...]
    stamp: int = 0
    heir_of: str | None = None
    inherited: int = 0  # the dead node's handshake

    @property
    def rank(self) -> tuple[int, int]:
        return max(self.handshake, self.inherited), self.number


class Claims:
    """Who claims whom. Pure: times are given."""

    def __init__(self) -> None:
        self._clients: dict[str, dict[str, Claim]] = {}  # public key -> node -> its claim
        self._winners: dict[str, tuple[str, float]] = {}  # public key -> its node, since when
        self._beaten: dict[str, set[str]] = {}  # node -> public keys of clients that are another's
        self._number = 0

    def hear(self, node: str, sessions: Mapping[str, Session], whole: bool, now: float) -> bool:
        """Learn what changed at a node (``whole``: it has no other clients); say whether a client's route changes."""
        changed = False
        if whole:
            for key in [key for key, claims in self._clients.items() if node in claims and key not in sessions]:
                changed |= self._set(key, node, None, now)
        for key, session in sessions.items():
            changed |= self._set(key, node, self._claim(key, node, session) if session.networks else None, now)
        return changed

    def inherit(self, node: str, keys: Iterable[str], dead: Collection[str], now: float) -> bool:
        """The node adopts these; those that are a dead node's are its own from now on."""
        changed = False
        for key in keys:
            former = self._winners[key][0] if key in self._winners else node
            if former != node and former in dead:
                left = self._clients[key][former]
                claim = Claim(0, self._next(), left.networks, heir_of=former, inherited=left.rank[0])
                changed |= self._set(key, node, claim, now)
        return changed

    def disinherit(self, node: str, now: float) -> bool:
        """The node was not dead: who has no session with its heir is still its client."""
        changed = False
        for key, claims in list(self._clients.items()):
            for heir, claim in list(claims.items()):
                if claim.heir_of == node:
                    changed |= self._set(key, heir, replace(claim, heir_of=None, inherited=0), now)
        return changed

    def routes(self) -> Iterator[tuple[str, str]]:
        """Yield each claimed network and its node."""
        for key, (node, _since) in self._winners.items():
            for network in self._clients[key][node].networks:
                yield network, node

    def newer(self, than: float) -> Iterator[str]:
        """Yield each network of a client whose node had a handshake with it since then (Unix time)."""
        for key, (node, _since) in self._winners.items():
            claim = self._clients[key][node]
            if claim.handshake >= than:
                yield from claim.networks

    def beaten(self, node: str, dead: Collection[str], now: float) -> Iterator[tuple[str, int]]:
        """Yield public key and handshake, as the node names it, of the clients that the node has to let go.

        Those that are a dead node's are not among them: this one may be adopting them.
        """
        for key in self._beaten.get(node, ()):
            winner, since = self._winners[key]
            if winner not in dead and now - since >= RELEASE_AFTER:
                yield key, self._clients[key][node].stamp

    def _claim(self, key: str, node: str, session: Session) -> Claim:
        before = self._clients.get(key, {}).get(node)
        if before is None:
            return Claim(session.handshake, self._next(), session.networks, session.stamp)
        if session.handshake > before.inherited:  # its own from now on
            before = replace(before, heir_of=None, inherited=0)
        number = before.number if session.handshake in (0, before.handshake) else self._next()
        claim = replace(before, handshake=session.handshake, stamp=session.stamp)
        return replace(claim, number=number, networks=session.networks)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _set(self, key: str, node: str, claim: Claim | None, now: float) -> bool:
        claims = self._clients.setdefault(key, {})
        before = claims.pop(node, None)
        if claim:
            claims[node] = claim
        winner = max(claims, key=lambda name: claims[name].rank, default=None)
        for name in (*claims, node):
            beaten = self._beaten.setdefault(name, set())
            (beaten.add if name in claims and name != winner else beaten.discard)(key)
        former = self._winners.get(key)
        if winner is None:
            del self._clients[key]
            self._winners.pop(key, None)
            return former is not None
        if former and former[0] == winner:
            return winner == node and (before is None or before.networks != claims[node].networks)
        self._winners[key] = (winner, now)
        return True


class OwnerRoutes:
    """Makes the kernel follow the claims.

    The table is read first: until every agent has spoken, or could not, routes stay as an earlier process left them,
    and those to a node that is not heard stay after that.
    """

    def __init__(self, config: Owners, nodes: Mapping[str, Mapping[str, str]]) -> None:
        """``nodes``: name -> family -> address."""
        self._config = config
        self._table = RoutingTable(config.table)
        self._hops = {
            name: {FAMILIES[f]: Hop(config.devices[f], addresses[f]) for f in config.devices if f in addresses}
            for name, addresses in nodes.items()
        }
        self._begun_at = time.time()
        self._claims = Claims()
        self._wanted: dict[str, Hop] = {}
        # Of those that are claimed: network -> of which IP, None when it is none of the clients'.
        self._versions: dict[str, int | None] = {}
        self._unheard = set(nodes)
        self._awaited = set(nodes)
        self._dead: frozenset[str] = frozenset()
        self._changed = True
        self._due = float("-inf")
        self._release_due = dict.fromkeys(nodes, float("-inf"))

    def hear(self, node: str, sessions: Mapping[str, Session], whole: bool) -> None:
        self._note(self._claims.hear(node, sessions, whole, time.monotonic()) or node in self._unheard)
        self._unheard.discard(node)
        self._awaited.discard(node)

    def dead(self, nodes: frozenset[str]) -> None:
        """These carry nothing now, and all others do."""
        for node in self._dead - nodes:
            self._note(self._claims.disinherit(node, time.monotonic()))
        self._note(not self._unheard.isdisjoint(self._dead ^ nodes))
        self._dead = nodes

    def adopting(self, node: str, keys: Iterable[str]) -> None:
        """The node begins with these, and routes them from now on."""
        self._note(self._claims.inherit(node, keys, self._dead, time.monotonic()))

    def miss(self, node: str) -> None:
        """The agent was asked and did not answer."""
        self._awaited.discard(node)

    def follow(self) -> None:
        """Write what changed, and what others took away. Raises a CommandError."""
        now = time.monotonic()
        if self._awaited or now < self._due:
            return
        self._due = now + CHECK_INTERVAL  # after a failure, too
        for rule in ensure_rules(self._config.rules):
            event("rule_added", rule=rule)
        if self._changed:
            self._wanted = dict(self._routes())
        nowhere = {str(network): Hop() for network in self._config.networks}
        written = self._table.write({**nowhere, **self._left(self._unheard), **self._wanted, **self._kept()})
        if written and not self._changed:
            event("routes_restored", table=self._config.table, routes=written)
        self._changed = False

    def releases(self, node: str) -> list[tuple[str, int]]:
        """Return whom to tell the node to let go now (public key, handshake): in follow(), routes came first."""
        now = time.monotonic()
        if self._changed or now < self._release_due[node]:
            return []
        clients = list(islice(self._claims.beaten(node, self._dead, now), MAX_RELEASE))
        if clients:
            self._release_due[node] = now + RELEASE_INTERVAL
        return clients

    def _note(self, changed: bool) -> None:
        if changed:
            self._changed = True
            self._due = float("-inf")

    def _routes(self) -> Iterator[tuple[str, Hop]]:
        known, self._versions = self._versions, {}
        for network, node in self._claims.routes():
            version = self._versions[network] = known[network] if network in known else self._version(network)
            if version and version in self._hops.get(node, {}):
                yield network, self._hops[node][version]

    def _version(self, text: str) -> int | None:
        """A node has no say in other networks than the clients'."""
        network = ip_network(text)
        ours = (known for known in self._config.networks if known.version == network.version)
        return network.version if any(network.subnet_of(known) for known in ours) else None  # type: ignore[arg-type]

    def _kept(self) -> dict[str, Hop]:
        """Those that others' claims do not change: an earlier process has known these, and the node's as well."""
        left = self._left(self._unheard - self._dead)
        newer = set(self._claims.newer(self._begun_at)) if left else set()
        return {network: hop for network, hop in left.items() if network not in newer}

    def _left(self, nodes: Collection[str]) -> dict[str, Hop]:
        """The routes to nodes that were never heard, as they are."""
        hops = {hop for node in nodes for hop in self._hops[node].values()}
        if not hops:
            return {}
        return {network: hop for network, hop in self._table.present().items() if hop in hops}
