# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Routed mode: only the clients that this node has are routed into its WireGuard interface.

A packet for anybody else's client would begin a handshake here that steals the client, or dies with the packet. Such
packets go to the balancer, which knows the client's node.

A client becomes ours with a handshake or an adoption, and stays so while it is idle: it can be reached only from here.
It is let go when a balancer says that a newer session of it is elsewhere. That WireGuard has forgotten nothing of it
then does not matter: only another handshake makes it ours again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from wirefleet.command import run
from wirefleet.routes import Hop, RoutingTable

from .requests import RequestError, public_key
from .sessions import Session, parse
from .settings import Clients

NETWORKS_AGE = 10.0  # seconds: a client's addresses hardly ever change, and asking for them costs as much as a look


@dataclass(frozen=True)
class Claim:
    """A client that shall be let go, unless its latest handshake here is another than this one by now."""

    public_key: str
    handshake: int


class Owned:
    """The clients that one node has, and their routes."""

    def __init__(self, interface: str, clients: Clients) -> None:
        self._interface = interface
        self._into_tunnel = Hop(interface)
        self._table = RoutingTable(clients.table)
        self._fixed = clients.routes
        self._lock = threading.Lock()
        self._clients: dict[str, tuple[str, ...]] = {}  # public key -> its networks
        self._let_go: dict[str, int] = {}  # public key -> the handshake after which it went elsewhere
        self._networks: dict[str, tuple[str, ...]] = {}  # of all peers
        self._networks_due = float("-inf")

    def follow(self, look: Callable[[], Mapping[str, Session]]) -> dict[str, Session]:
        """Look who is here, and route accordingly. Return the sessions, those of our own clients with networks."""
        with self._lock:  # before the look: who is taken during it must not be missing in what it sees
            sessions = look()
            owned = [key for key, session in sessions.items() if self._is_ours(key, session)]
            self._let_go = {key: at for key, at in self._let_go.items() if key in sessions}
            self._learn_networks(owned)
            self._clients = {key: self._networks[key] for key in owned if key in self._networks}
            self._write()
            return {
                key: replace(session, networks=self._clients[key]) if key in self._clients else session
                for key, session in sessions.items()
            }

    def take(self, clients: Mapping[str, tuple[str, ...]]) -> None:
        """These are adopted; their networks by public key."""
        with self._lock:
            self._clients.update(clients)
            for key in clients:
                self._let_go.pop(key, None)
            self._write()

    def release(self, claims: Iterable[Claim]) -> tuple[str, ...]:
        """Let clients go, and return whom. Who has come back since the balancer looked stays."""
        with self._lock:
            handshakes = parse(run(["wg", "show", self._interface, "latest-handshakes"]))
            gone = [claim for claim in claims if handshakes.get(claim.public_key) == str(claim.handshake)]
            for claim in gone:
                self._clients.pop(claim.public_key, None)
                self._let_go[claim.public_key] = claim.handshake
            self._write()
            return tuple(claim.public_key for claim in gone)

    def _is_ours(self, key: str, session: Session) -> bool:
        return key in self._clients or (session.handshake > 0 and self._let_go.get(key) != session.handshake)

    def _learn_networks(self, owned: Iterable[str]) -> None:
        now = time.monotonic()
        if now >= self._networks_due or not self._networks.keys() >= set(owned):
            self._networks_due = now + NETWORKS_AGE
            listing = parse(run(["wg", "show", self._interface, "allowed-ips"]))
            self._networks = {key: tuple(text.replace("(none)", "").split()) for key, text in listing.items()}

    def _write(self) -> None:
        networks = (network for networks in self._clients.values() for network in networks)
        # A site's network is one of ours: it leads to the balancer but where its gateway is.
        self._table.write({**self._fixed, **dict.fromkeys(networks, self._into_tunnel)})


def claim(peer: object, where: str) -> Claim:
    """Read one peer of a request."""
    if not isinstance(peer, dict) or peer.keys() != {"public_key", "handshake"}:
        raise RequestError(f'{where}: expected {{"public_key": …, "handshake": …}}')
    if isinstance(peer["handshake"], bool) or not isinstance(peer["handshake"], int) or peer["handshake"] < 0:
        raise RequestError(f"{where}.handshake: expected seconds since the epoch")
    return Claim(public_key(peer, where), peer["handshake"])
