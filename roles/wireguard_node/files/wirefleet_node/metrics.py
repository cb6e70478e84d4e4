# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""WireGuard's peers, and the page for Prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wirefleet import __version__
from wirefleet.command import run
from wirefleet.prometheus import Metric

from .expiry import Expiries
from .health import DRAINED, FAILED, Observation, Verdict
from .settings import Config
from .usage import Usage

RECENT = 180  # seconds: REJECT_AFTER_TIME, after which a session is dead
CONNTRACK = Path("/proc/sys/net/netfilter/nf_conntrack")
CACHE_TIME = 1.0  # seconds: however many scrape, WireGuard is asked this often at most


@dataclass(frozen=True)
class Peer:
    """``handshake`` is in seconds since the epoch, 0 for never; the counters are bytes since the peer was added."""

    handshake: int
    received: int
    sent: int


def read_peers(interfaces: Iterable[str]) -> dict[str, Peer]:
    """Return the peers by public key, each as it is where its latest handshake was.

    Never through ``wg show dump``, which prints private and pre-shared keys.
    """
    peers: dict[str, Peer] = {}
    for interface in interfaces:
        handshakes = run(["wg", "show", interface, "latest-handshakes"])
        transfers = run(["wg", "show", interface, "transfer"])
        for key, peer in parse_peers(handshakes, transfers).items():
            if key not in peers or peer.handshake > peers[key].handshake:
                peers[key] = peer
    return peers


def parse_peers(handshakes: str, transfers: str) -> dict[str, Peer]:
    """Join the two listings; a peer that came or went between them is left out."""
    transferred = {key: (int(received), int(sent)) for key, received, sent in map(str.split, transfers.splitlines())}
    return {
        key: Peer(int(handshake), *transferred[key])
        for key, handshake in map(str.split, handshakes.splitlines())
        if key in transferred
    }


class PeerCache:
    """Asks WireGuard only when somebody scrapes, and one thread at a time."""

    def __init__(self, interfaces: Iterable[str]) -> None:
        self._interfaces = tuple(interfaces)
        self._lock = threading.Lock()
        self._peers: dict[str, Peer] = {}
        self._read_at = float("-inf")

    def get(self) -> dict[str, Peer]:
        """Raise a CommandError when WireGuard does not answer."""
        with self._lock:
            if time.monotonic() - self._read_at >= CACHE_TIME:
                self._peers = read_peers(self._interfaces)
                self._read_at = time.monotonic()
            return self._peers


def page(
    config: Config,
    seen: Observation,
    verdict: Verdict,
    repairs: Mapping[str, int],
    peers: Mapping[str, Peer] | None,
    adoptions: Mapping[str, int],
    now: float,
) -> list[Metric]:
    """Return every metric; ``peers`` is None when WireGuard does not answer, ``now`` is seconds since the epoch."""
    labels = {"cluster": config.cluster, "node": config.node}
    draining = verdict.drain is not None
    metrics = [
        _metric("up", "The agent answers.").add(1, **labels),
        _metric("info", "The agent's version.").add(1, **labels, version=__version__),
        _metric("healthy", "The node can carry traffic, draining or not.").add(verdict.state != FAILED, **labels),
        _metric("accepting", "The node takes new clients.").add(verdict.state not in (FAILED, DRAINED), **labels),
        _metric("draining", "An operator drains the node.").add(draining, **labels),
        _metric("interface_up", "The WireGuard interface is up.").add(seen.link == "up", **labels),
    ]
    repaired = _metric("repairs_total", "Rules, routes and tables that were put back.", "counter")
    for what, total in repairs.items():
        repaired.add(total, **labels, what=what)
    passed = _metric("check_success", "The operator's check passed when it last ended.")
    for name, result in (seen.checks or {}).items():
        passed.add(result.passed, **labels, name=name)
    adopted = _metric("adoptions_total", "Clients of other nodes that balancers told this one to adopt.", "counter")
    for outcome, total in adoptions.items():
        adopted.add(total, **labels, result=outcome)
    metrics += [repaired, passed, adopted]
    if peers is not None:
        metrics += _peer_totals(labels, peers.values(), now)
        if config.per_peer_metrics:
            metrics += _per_peer(labels, peers)
    return metrics


def conntrack(config: Config) -> list[Metric]:
    """Return how many connections the kernel tracks, and may; nothing while it tracks none."""
    labels = {"cluster": config.cluster, "node": config.node}
    try:
        entries, limit = (int(CONNTRACK.with_name(f"nf_conntrack_{name}").read_text()) for name in ("count", "max"))
    except (OSError, ValueError):
        return []
    return [
        _metric("conntrack_entries", "Connections that the kernel tracks.").add(entries, **labels),
        _metric("conntrack_limit", "Connections that it can track.").add(limit, **labels),
    ]


def ledger(config: Config, usage: Usage | None) -> list[Metric]:
    labels = {"cluster": config.cluster, "node": config.node}
    if usage is None:
        return []
    addresses = _metric("network_addresses", "Addresses of the network that are used, or rest after a removal.")
    size = _metric("network_size", "Addresses of the network that there are to give.")
    for network in usage.networks:
        addresses.add(network.used, **labels, network=network.network, state="used")
        addresses.add(network.quarantined, **labels, network=network.network, state="quarantined")
        size.add(network.size, **labels, network=network.network)
    generation = _metric("ledger_generation", "Generation of the ledger that the node was configured from.")
    return [addresses, size, generation.add(usage.generation, **labels)]


def expiry(config: Config, expiries: Expiries | None, now: float) -> list[Metric]:
    """Return who has expired, and when somebody will next; ``now`` is seconds since the epoch."""
    labels = {"cluster": config.cluster, "node": config.node}
    if expiries is None:
        return []
    expired = _metric("clients_expired", "Clients whose time is over.").add(len(expiries.over(now)), **labels)
    upcoming = _metric("next_client_expiry_seconds", "Unix time at which the next client expires.")
    at = expiries.next(now)
    return [expired, upcoming if at is None else upcoming.add(at, **labels)]


def _peer_totals(labels: dict[str, str], peers: Iterable[Peer], now: float) -> list[Metric]:
    peers = list(peers)
    recent = sum(now - peer.handshake < RECENT for peer in peers)
    received = sum(peer.received for peer in peers)
    sent = sum(peer.sent for peer in peers)
    return [
        _metric("peers", "Configured peers.").add(len(peers), **labels),
        _metric("peers_recent", f"Peers with a handshake in the last {RECENT} s.").add(recent, **labels),
        _metric("receive_bytes_total", "Bytes from the present peers.", "counter").add(received, **labels),
        _metric("transmit_bytes_total", "Bytes to the present peers.", "counter").add(sent, **labels),
    ]


def _per_peer(labels: dict[str, str], peers: Mapping[str, Peer]) -> list[Metric]:
    handshake = _metric("peer_latest_handshake_seconds", "Unix time of the peer's latest handshake, 0 for never.")
    received = _metric("peer_receive_bytes_total", "Bytes from the peer.", "counter")
    sent = _metric("peer_transmit_bytes_total", "Bytes to the peer.", "counter")
    for key, peer in peers.items():
        handshake.add(peer.handshake, **labels, public_key=key)
        received.add(peer.received, **labels, public_key=key)
        sent.add(peer.sent, **labels, public_key=key)
    return [handshake, received, sent]


def _metric(name: str, text: str, kind: str = "gauge") -> Metric:
    return Metric(f"wirefleet_node_{name}", text, kind)
