# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Take over clients of another node: begin a handshake with each, as if this node were the server they know.

A stock client that loses its node notices after 15 s, an idle one after minutes. But it answers at once whoever begins
a handshake with the service key. So the peer is removed and added again, with the client's endpoint: that clears what
is left of an older session here, and the next packet for the client makes WireGuard begin a new one.

That packet is an empty datagram to the client's address inside the tunnel. A persistent keepalive would do the same,
but somebody would have to take it back, and with him dead two nodes would steal the client from each other for ever.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import ip_network

from wirefleet.command import pipe, run
from wirefleet.endpoint import address_of

from .owned import Owned
from .requests import RequestError, public_key
from .sessions import parse

DISCARD = 9  # the UDP port of RFC 863

# Seconds after one balancer's request in which another's is the same one, of somebody who has not heard yet what came
# of it: a handshake under way is waited for, and one that was made since then is enough.
HANDSHAKE_TIME, NEWS_TIME = 1.0, 5.0


@dataclass(frozen=True)
class Candidate:
    """A client to adopt, at ADDRESS:PORT."""

    public_key: str
    endpoint: str


@dataclass(frozen=True)
class Outcome:
    """Who is being adopted, whether that has ``begun`` just now or before, and who is not: public key -> why."""

    adopting: tuple[str, ...]
    refused: Mapping[str, str]
    begun: frozenset[str]

    def or_else(self, other: Outcome) -> Outcome:
        """Both tunnels were tried: whoever is in one of them is being adopted."""
        adopting = tuple(dict.fromkeys(self.adopting + other.adopting))
        refused = {key: reason for key, reason in self.refused.items() if key in other.refused}
        return Outcome(adopting, refused, self.begun | other.begun)


class Adoptions:
    """Adopts for one interface, one request at a time.

    ``mark`` is what packets have that are sent into it, where that is not where clients' addresses lead by themselves.
    """

    def __init__(
        self,
        interface: str,
        probes: Collection[str],
        families: Collection[int],
        owned: Owned | None = None,
        mark: int | None = None,
    ) -> None:
        self._interface = interface
        self._mark = mark
        self._owned = owned
        self._probes = frozenset(probes)
        self._families = frozenset(families)
        self._lock = threading.Lock()
        self._begun: dict[Candidate, tuple[float, str]] = {}  # when, on the monotonic clock, and for which balancer

    def adopt(self, candidates: Iterable[Candidate], balancer: str) -> Outcome:
        """Begin, as the balancer asks. Raises a CommandError when WireGuard does not do it."""
        with self._lock:
            # Read anew each time: a client that was revoked a moment ago must not come back.
            allowed = parse(run(["wg", "show", self._interface, "allowed-ips"]))
            refused: dict[str, str] = {}
            accepted: dict[Candidate, list[str]] = {}
            for candidate in candidates:
                networks = allowed.get(candidate.public_key, "").replace("(none)", "").split()
                reason = self._refusal(candidate, networks)
                if reason:
                    refused[candidate.public_key] = reason
                else:
                    accepted[candidate] = networks
            done = self._done(accepted, balancer)
            begin = {candidate: networks for candidate, networks in accepted.items() if candidate not in done}
            if begin:
                self._renew(begin)
                self._begun.update(dict.fromkeys(begin, (time.monotonic(), balancer)))
                if self._owned:  # before the nudge, which else would not go into the tunnel
                    self._owned.take({peer.public_key: tuple(networks) for peer, networks in begin.items()})
                nudge(filter(None, map(inner_address, begin.values())), self._mark)
            adopting = tuple(candidate.public_key for candidate in accepted)
            return Outcome(adopting, refused, frozenset(candidate.public_key for candidate in begin))

    def _done(self, candidates: Iterable[Candidate], balancer: str) -> set[Candidate]:
        """Return those that another balancer has asked for just before; to begin again would end what has begun."""
        now = time.monotonic()
        self._begun = {candidate: begun for candidate, begun in self._begun.items() if now - begun[0] < NEWS_TIME}
        again = {candidate for candidate in candidates if self._begun.get(candidate, (now, balancer))[1] != balancer}
        done = {candidate for candidate in again if now - self._begun[candidate][0] < HANDSHAKE_TIME}
        if done != again:
            # Renewed peers had none.
            handshakes = parse(run(["wg", "show", self._interface, "latest-handshakes"]))
            done |= {candidate for candidate in again if handshakes.get(candidate.public_key, "0") != "0"}
        return done

    def _refusal(self, candidate: Candidate, networks: list[str]) -> str | None:
        if candidate.public_key in self._probes:
            return "not a client"
        if inner_address(networks) is None:
            return "unknown"
        if self._families and _version(candidate.endpoint) not in self._families:
            return "unreachable"
        if address_of(candidate.endpoint).is_loopback:
            return "comes over TCP"  # to its node, and by itself
        return None

    def _renew(self, accepted: Mapping[Candidate, list[str]]) -> None:
        """Remove each peer and add it as it was, in one request: there is no moment at which one could be lost."""
        secrets = parse(run(["wg", "show", self._interface, "preshared-keys"]))
        command = ["wg", "set", self._interface]
        with ExitStack() as pipes:
            descriptors = []
            for candidate, networks in accepted.items():
                key = candidate.public_key
                command += ["peer", key, "remove", "peer", key, "endpoint", candidate.endpoint]
                command += ["allowed-ips", ",".join(networks)]
                if secrets.get(key, "(none)") != "(none)":
                    descriptors.append(pipe(secrets[key], pipes))
                    command += ["preshared-key", f"/dev/fd/{descriptors[-1]}"]
            run(command, descriptors=descriptors)


def candidate(peer: object, where: str) -> Candidate:
    """Read one peer of a request."""
    if not isinstance(peer, dict) or peer.keys() != {"public_key", "endpoint"}:
        raise RequestError(f'{where}: expected {{"public_key": …, "endpoint": …}}')
    key, endpoint = public_key(peer, where), peer["endpoint"]
    try:
        address = address_of(endpoint)
    except ValueError:
        raise RequestError(f"{where}.endpoint: expected ADDRESS:PORT") from None
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        raise RequestError(f"{where}.endpoint: no client has {address}")
    return Candidate(key, endpoint)


def _version(endpoint: str) -> int:
    return 6 if endpoint.startswith("[") else 4


def inner_address(networks: Iterable[str]) -> str | None:
    """Return the client's own address among its allowed IPs: the first that is a single one."""
    for network in map(ip_network, networks):
        if network.prefixlen == network.max_prefixlen:
            return str(network.network_address)
    return None


def nudge(addresses: Iterable[str], mark: int | None = None) -> None:
    """Send an empty datagram to each, with a mark if there is one.

    What can not be sent begins no handshake, and the balancer will see none.
    """
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, suppress(OSError):
            if mark is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            sock.sendto(b"", (address, DISCARD))
