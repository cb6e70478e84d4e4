# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Who is behind the addresses and ports of this balancer that nodes know clients by, where it does source NAT.

All of it is decided and kept in the table (see the chains "to_node" and "from_node" in ``steer.nft``). It is read here
because what agents say of clients has to become the table's own words, and because a table that somebody removes takes
it along.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from .adoption import Session
from .census import walk
from .config import Config
from .elements import client_key, mark

MAPS = ("client_addresses", "client_ports", "ports")
TAKEN = "taken"
KEY = {"ip": 4, "ip6": 12}  # bytes of an address that a key has room for: its last ones
PORT = slice(-4, -2)  # of a key: it is padded to four bytes
REVIEW = 5.0  # seconds

Translations = Mapping[str, str]  # ADDRESS:PORT as nodes see it -> ADDRESS:PORT of the client


class Translator:
    """``known``: by family, what the table said when it was last read."""

    def __init__(self, config: Config) -> None:
        self.known: dict[str, Translations] = {}
        self._config = config
        self._due = float("-inf")

    def hurry(self) -> None:
        """Read again in the next round."""
        self._due = float("-inf")

    def follow(self) -> None:
        """Read the table, every now and then. What was known stays when it can not be read; raises OSError then."""
        now = time.monotonic()
        if now >= self._due:
            self.known = {
                family: read(family, self._config.table, addresses) for family, addresses in self._config.snat.items()
            }
            self._due = now + REVIEW

    def client(self, family: str, endpoint: str) -> str | None:
        """Return where a client is whom nodes know at ``endpoint``; None when nobody is known by that."""
        if family not in self._config.snat:
            return endpoint
        return self.known.get(family, {}).get(endpoint)

    def affinities(self, owners: Iterable[tuple[str, Session]]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Yield each family with key and node's mark of the clients that are known in it; ``owners``: node, session."""
        owners = list(owners)
        for family in self._config.families:
            marks = {
                client_key(family, client): mark(self._config.nodes[node].mark)
                for node, session in owners
                if session.family == family and (client := self.client(family, session.endpoint))
            }
            if marks:
                yield family, list(marks.items())


def read(family: str, table: str, addresses: Iterable[str]) -> dict[str, str]:
    """Return what the table knows; ``addresses`` are the balancer's own. Raises OSError when there is no table."""
    size = KEY[family]
    here = {ip_address(address).packed[-size:]: ip_address(address).packed for address in addresses}
    ports = {(key[:size], key[PORT]): value for key, value in walk(family, table, "client_ports")}
    found = {}
    for key, address in walk(family, table, "client_addresses"):
        port = ports.get((address[-size:], key[PORT]))
        if port and key[:size] in here:
            found[_endpoint(here[key[:size]], key[PORT])] = _endpoint(address, port)
    return found


def script(family: str, table: str, translations: Translations) -> str:
    """Return the nft commands that add ``translations`` to maps that do not have them."""
    elements: dict[str, list[str]] = {name: [] for name in (TAKEN, *MAPS)}
    for here, client in translations.items():
        address, port = _parts(client)
        key, port_here = client_key(family, here), _parts(here)[1]
        elements[TAKEN].append(key)
        elements["client_addresses"].append(f"{key} : {address}")
        elements["client_ports"].append(f"{client_key(family, _join(address, port_here))} : {port}")
        elements["ports"].append(f"{client_key(family, client)} : {port_here}")
    return "".join(
        f"add element {family} {table} {name} {{ {', '.join(entries)} }}\n"
        for name, entries in elements.items()
        if entries
    )


def removal(family: str, table: str) -> Iterator[str]:
    """Yield the nft commands after which nobody has a port here."""
    yield f"flush set {family} {table} {TAKEN}\n"
    for name in MAPS:
        yield f"flush map {family} {table} {name}\n"


def _endpoint(address: bytes, port: bytes) -> str:
    return _join(str(ip_address(address)), str(int.from_bytes(port, "big")))


def _join(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _parts(endpoint: str) -> tuple[str, str]:
    address, _colon, port = endpoint.rpartition(":")
    return address.strip("[]"), port
