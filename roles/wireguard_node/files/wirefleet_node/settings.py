# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The agent's configuration: node.json as typed values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from wirefleet import config
from wirefleet.config import ConfigError, MapOf, Optional, Shape
from wirefleet.iproute import Route, Rule
from wirefleet.routes import Hop

VERSION = 1

SHAPE: dict[str, Shape] = {
    "version": int,
    "cluster": str,
    "node": str,
    "interface": str,
    "port": int,
    "listen": [(str, int)],
    "gateway": Optional(
        {
            "mark": int,
            "table": int,
            "priority": int,
            "hops": Optional(int),
            "routes": [{"family": int, "device": str, "network": str, "via": str}],
        }
    ),
    "old": Optional({"interface": str, "addresses": [str], "mark": int, "table": int, "priority": int}),
    "clients": Optional(
        {
            "table": int,
            "priority": int,
            "networks": [{"network": str, "device": str, "via": str}],
            "probes": [str],
        }
    ),
    "nft": {"family": str, "table": str, "file": str, "access": Optional(str)},
    "expiry": Optional(str),
    "sysctls": MapOf(str),
    "checks": [{"name": str, "command": [str], "timeout": float, "interval": float}],
    "adopters": [str],
    "probes": [str],
    "state_dir": str,
    "usage": Optional(str),
    "per_peer_metrics": bool,
    "audit": Optional({"interval": Optional(float)}),
}


@dataclass(frozen=True)
class Table:
    """The node's own nftables table and the file that restores it."""

    family: str
    name: str
    file: str

    def __str__(self) -> str:
        return f"nftables table {self.family} {self.name}"


@dataclass(frozen=True)
class Check:
    """An operator's check: the node takes clients only while ``command`` exits 0 within ``timeout`` seconds."""

    name: str
    command: tuple[str, ...]
    timeout: float
    interval: float


@dataclass(frozen=True)
class Clients:
    """Routed mode: ``table`` has the routes to clients, and always these ``routes``.

    They lead to the balancers' probes through the tunnel, and to all who are no clients of this node by the balancer.
    """

    table: int
    routes: Mapping[str, Hop]


@dataclass(frozen=True)
class Auditing:
    """Write when clients come and go; with an ``interval`` in seconds, also who is there, that often."""

    interval: float | None


@dataclass(frozen=True)
class Old:
    """While the service key is replaced: where clients are served that have not moved yet.

    What has the ``answer_mark`` is sent into its tunnel, and all else for clients into the new one.
    """

    interface: str
    answer_mark: int


@dataclass(frozen=True)
class Config:
    cluster: str
    node: str
    interface: str
    old: Old | None
    port: int
    listen: tuple[tuple[str, int], ...]
    rules: tuple[Rule, ...]
    routes: tuple[Route, ...]
    clients: Clients | None  # None: whoever is in the client networks is sent into the tunnel
    table: Table
    access: Path | None  # elements of sets in the table, loaded whenever they change
    expiry: Path | None  # when clients expire
    sysctls: Mapping[str, str]  # path below /proc/sys -> wanted content
    checks: tuple[Check, ...]
    adopters: frozenset[str]  # addresses in the mesh that may ask for clients, and tell the node to adopt some
    probes: frozenset[str]  # public keys of peers that are no clients
    state_dir: Path
    usage: Path | None  # the file that says how full the networks are
    per_peer_metrics: bool
    audit: Auditing | None


def load(path: str | os.PathLike[str]) -> Config:
    """Raise a ConfigError that names the file and the key."""
    document = config.load(path, SHAPE)
    try:
        return _parse(document)
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from None


def _parse(document: dict[str, Any]) -> Config:
    if document["version"] != VERSION:
        raise ConfigError(f"version: this agent reads version {VERSION}, got {document['version']}")
    _require(bool(document["listen"]), "listen", "expected at least one address")
    for i, (address, port) in enumerate(document["listen"]):
        _parsed(ip_address, address, f"listen[{i}]")
        _require_port(port, f"listen[{i}]")
    _require_port(document["port"], "port")
    for path in document["sysctls"]:
        _require(path.startswith("net/") and ".." not in path, f"sysctls.{path}", "expected a path below net/")
    names = [check["name"] for check in document["checks"]]
    for i, check in enumerate(document["checks"]):
        _require(names.index(check["name"]) == i, f"checks[{i}].name", f"{check['name']} is there twice")
        _require(bool(check["command"]), f"checks[{i}].command", "is empty")
        _require(check["timeout"] > 0 and check["interval"] > 0, f"checks[{i}]", "timeout and interval must exceed 0")
    rules, routes = _gateway(document["gateway"], document["old"])
    old_rules, old_routes = _old(document["old"])
    client_rules, clients = _clients(document["clients"], document["interface"])
    return Config(
        cluster=document["cluster"],
        node=document["node"],
        interface=document["interface"],
        old=Old(document["old"]["interface"], document["old"]["table"]) if document["old"] else None,
        port=document["port"],
        listen=tuple(document["listen"]),
        rules=rules + old_rules + client_rules,
        routes=routes + old_routes,
        clients=clients,
        table=Table(document["nft"]["family"], document["nft"]["table"], document["nft"]["file"]),
        access=_path(document["nft"]["access"]),
        expiry=_path(document["expiry"]),
        sysctls=document["sysctls"],
        checks=tuple(
            Check(check["name"], tuple(check["command"]), check["timeout"], check["interval"])
            for check in document["checks"]
        ),
        adopters=frozenset(
            str(_parsed(ip_address, address, f"adopters[{i}]")) for i, address in enumerate(document["adopters"])
        ),
        probes=frozenset(document["probes"]),
        state_dir=Path(document["state_dir"]),
        usage=Path(document["usage"]) if document["usage"] else None,
        per_peer_metrics=document["per_peer_metrics"],
        audit=_audit(document["audit"]),
    )


def _audit(audit: dict[str, Any] | None) -> Auditing | None:
    if audit is None:
        return None
    interval: float | None = audit["interval"]
    _require(interval is None or interval > 0, "audit.interval", "must exceed 0")
    return Auditing(interval)


def _gateway(gateway: dict[str, Any] | None, old: dict[str, Any] | None) -> tuple[tuple[Rule, ...], tuple[Route, ...]]:
    """What sends WireGuard's own packets, which carry the mark (or the old one's), back through the balancer.

    The backend network stays on-link, so that a balancer's probe is answered directly whoever holds ``via`` just now.
    The rest may go no further than to the balancer, whose table gives it more hops: without the table nothing leaves
    with this node's own address. WireGuard takes the hop limit from the route.
    """
    if gateway is None:
        return (), ()
    table, hops = gateway["table"], 1 if gateway["hops"] is None else gateway["hops"]
    _require(1 <= hops <= 255, "gateway.hops", f"expected 1 to 255, got {hops}")
    marks = sorted({gateway["mark"], old["mark"] if old else gateway["mark"]})
    rules: list[Rule] = []
    routes: list[Route] = []
    for i, route in enumerate(gateway["routes"]):
        key, family = f"gateway.routes[{i}]", route["family"]
        _require(family in (4, 6), f"{key}.family", f"expected 4 or 6, got {family}")
        _require(all(rule.family != family for rule in rules), f"{key}.family", f"{family} is there twice")
        network = _parsed(ip_network, route["network"], f"{key}.network")
        via = _parsed(ip_address, route["via"], f"{key}.via")
        _require(network.version == via.version == family, key, f"network and via must be of family {family}")
        device = route["device"]
        rules += [Rule(family, gateway["priority"], table, mark) for mark in marks]
        routes += [
            Route(family, table, str(network), device),
            Route(family, table, "default", device, str(via), hop_limit=hops),
        ]
    return tuple(rules), tuple(routes)


def _old(old: dict[str, Any] | None) -> tuple[tuple[Rule, ...], tuple[Route, ...]]:
    """What sends answers to clients that have not moved into their tunnel. Its table's number is their mark, too."""
    if old is None:
        return (), ()
    addresses = [_parsed(ip_address, text, f"old.addresses[{i}]") for i, text in enumerate(old["addresses"])]
    families, table = sorted({address.version for address in addresses}), old["table"]
    rules = tuple(Rule(family, old["priority"], table, table) for family in families)
    return rules, tuple(Route(family, table, "default", old["interface"]) for family in families)


def _clients(clients: dict[str, Any] | None, interface: str) -> tuple[tuple[Rule, ...], Clients | None]:
    if clients is None:
        return (), None
    rules: list[Rule] = []
    routes: dict[str, Hop] = {}
    for i, route in enumerate(clients["networks"]):
        key = f"clients.networks[{i}]"
        network = _parsed(ip_network, route["network"], f"{key}.network")
        via = _parsed(ip_address, route["via"], f"{key}.via")
        _require(network.version == via.version, key, "network and via must be of one family")
        rules.append(Rule(network.version, clients["priority"], table=clients["table"], to=str(network)))
        routes[str(network)] = Hop(route["device"], str(via))
    for i, probe in enumerate(clients["probes"]):
        routes[str(ip_network(_parsed(ip_address, probe, f"clients.probes[{i}]")))] = Hop(interface)
    return tuple(rules), Clients(clients["table"], routes)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _parsed(parse: Any, text: str, key: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


def _require_port(port: int, key: str) -> None:
    _require(0 < port < 65536, key, f"{port} is no port")


def _require(condition: bool, key: str, message: str) -> None:
    if not condition:
        raise ConfigError(f"{key}: {message}")
