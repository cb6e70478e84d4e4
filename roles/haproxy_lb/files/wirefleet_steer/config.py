# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The daemon's configuration, written by Ansible."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from wirefleet import config as document
from wirefleet.config import ConfigError, MapOf, Optional, Shape
from wirefleet.iproute import Rule

from .haproxy import seconds

VERSION = 1
FAMILIES = {"ip": 4, "ip6": 6}  # nftables' name of an address family -> its version number

SHAPE: dict[str, Shape] = {
    "version": int,
    "cluster": str,
    "haproxy_socket": str,
    "backend": str,
    "table": str,
    "ruleset": str,
    "poll_interval": float,
    "families": [str],
    "mark": str,
    "snat": Optional(MapOf([str])),
    "sysctls": Optional(MapOf(str)),
    "nodes": MapOf(
        {
            "mark": int,
            "addresses": MapOf(str),
            "probe_interface": Optional(str),
            "probe_peer": Optional({"public_key": str}),
            "agent": Optional((str, int)),
        }
    ),
    "owners": Optional(
        {"table": int, "priority": int, "networks": [{"network": str, "interface": str}]},
    ),
    "adoption": Optional({"rate": float, "max_idle": float, "rebalance": Optional(float)}),
    "damping": Optional({"downs": int, "window": float, "hold": float, "max_hold": float}),
    "collapse_window": float,
    "check": {"downinter": str, "fastinter": str, "timeout": str, "rise": int},
    "vips": Optional([str]),
    "in_order": Optional(str),
    "certificate_not_after": Optional(float),
    "listen": [(str, int)],
    "status": Optional({"host": str, "listen": [(str, int)], "stats_port": int, "balancers": MapOf((str, int))}),
}


@dataclass(frozen=True)
class Node:
    """``mark`` is the one on packets, with the cluster's bit in it; ``addresses`` are keyed by nftables family."""

    name: str
    mark: int
    addresses: Mapping[str, str]
    probe_interface: str | None = None
    probe_key: str | None = None
    agent: tuple[str, int] | None = None  # its agent's address in the mesh


@dataclass(frozen=True)
class Adoption:
    """How many clients a second one node is asked to adopt, and how many seconds old their handshake may be.

    ``rebalance``: how many clients a minute are moved to where they are missing, or None.
    """

    rate: float
    max_idle: float
    rebalance: float | None = None


@dataclass(frozen=True)
class Damping:
    """A node that went down ``downs`` times within ``window`` seconds gets no clients for ``hold`` seconds.

    With each further time it is twice as long, up to ``max_hold`` seconds.
    """

    downs: int
    window: float
    hold: float
    max_hold: float


@dataclass(frozen=True)
class Owners:
    """Routed mode: ``table`` leads from ``networks`` (clients) to their nodes; ``devices`` are keyed by family."""

    table: int
    rules: tuple[Rule, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]
    devices: Mapping[str, str]


@dataclass(frozen=True)
class Status:
    """The status page: ``listen`` are addresses for it alone, ``balancers`` the other daemons by their hosts."""

    host: str
    listen: tuple[tuple[str, int], ...]
    stats_port: int
    balancers: Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class Config:
    """Times are in seconds."""

    cluster: str
    haproxy_socket: str
    backend: str
    table: str
    ruleset: str
    poll_interval: float
    families: tuple[str, ...]
    snat: Mapping[str, tuple[str, ...]]  # family -> addresses that nodes get clients' packets from; empty: clients' own
    sysctls: Mapping[str, str]  # path below /proc/sys -> the content without which packets are not forwarded
    nodes: Mapping[str, Node]
    owners: Owners | None  # None: nodes translate, and answers find them by themselves
    adoption: Adoption | None
    damping: Damping | None
    collapse_window: float
    return_window: float  # what may lie between the returns of two nodes that come back at once
    vips: tuple[str, ...]  # addresses that only the active balancer has; none: every balancer is
    in_order: str | None  # the file to touch while all is in order
    certificate_not_after: float | None  # Unix time; None: HAProxy serves no TLS
    listen: tuple[tuple[str, int], ...]
    status: Status | None


def load(path: str | os.PathLike[str]) -> Config:
    """Raise a ConfigError that names the file and the key."""
    read = document.load(path, SHAPE)
    try:
        return _config(read)
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from None


def _config(read: dict) -> Config:
    if read["version"] != VERSION:
        raise ConfigError(f"version: this daemon reads {VERSION}, not {read['version']}")
    for key in ("poll_interval", "collapse_window"):
        if read[key] <= 0:
            raise ConfigError(f"{key}: must be more than 0 seconds")
    for family in read["families"]:
        if family not in FAMILIES:
            raise ConfigError(f"families: {family!r} is none of {', '.join(FAMILIES)}")
    if read["owners"] and not read["adoption"]:
        raise ConfigError("owners: needs adoption, which asks the agents who has whom")
    return Config(
        cluster=read["cluster"],
        haproxy_socket=read["haproxy_socket"],
        backend=read["backend"],
        table=read["table"],
        ruleset=read["ruleset"],
        poll_interval=read["poll_interval"],
        families=tuple(read["families"]),
        snat={
            family: tuple(_address("snat", family, text) for text in addresses)
            for family, addresses in (read["snat"] or {}).items()
        },
        sysctls=read["sysctls"] or {},
        nodes=_nodes(read["nodes"], _bit(read["mark"])),
        owners=_owners(read["owners"]),
        adoption=Adoption(**_positive("adoption", read["adoption"])) if read["adoption"] else None,
        damping=Damping(**_positive("damping", read["damping"])) if read["damping"] else None,
        collapse_window=read["collapse_window"],
        return_window=_return_window(read["check"]),
        vips=_vips(read["vips"] or []),
        in_order=read["in_order"],
        certificate_not_after=read["certificate_not_after"],
        listen=tuple(read["listen"]),
        status=_status(read["status"]),
    )


def _status(read: dict | None) -> Status | None:
    if read is None:
        return None
    return Status(read["host"], tuple(read["listen"]), read["stats_port"], read["balancers"])


def _return_window(check: dict) -> float:
    """As long as the slowest of them takes: checks that are just about to come for one have just failed for another."""
    if check["rise"] < 1:
        raise ConfigError("check.rise: must be 1 or more")
    try:
        down, fast, timeout = (seconds(check[key]) for key in ("downinter", "fastinter", "timeout"))
    except ValueError as error:
        raise ConfigError(f"check: {error}") from None
    return check["rise"] * (max(down, fast) + timeout)


def _bit(text: str) -> int:
    try:
        bit = int(text, 0)
    except ValueError:
        raise ConfigError(f"mark: {text!r} is not a number") from None
    if not 0 < bit <= 0xFFFFFFFF or bit & (bit - 1):
        raise ConfigError(f"mark: {text} is not a single bit of 32")
    return bit


def _nodes(read: dict, bit: int) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    owners: dict[object, str] = {}  # a mark or an address -> the node that has it
    for name, node in read.items():
        if not 0 < node["mark"] <= 0xFFFF or node["mark"] & bit:
            raise ConfigError(f"nodes.{name}.mark: {node['mark']} is not in 1..65535, or has the cluster's bit")
        addresses = {
            family: _address(f"nodes.{name}.addresses", family, text) for family, text in node["addresses"].items()
        }
        for value in (node["mark"], *addresses.values()):
            if value in owners:
                raise ConfigError(f"nodes.{name}: {value} belongs to {owners[value]} already")
            owners[value] = name
        peer = node["probe_peer"]
        nodes[name] = Node(
            name,
            node["mark"] | bit,
            addresses,
            node["probe_interface"],
            peer["public_key"] if peer else None,
            node["agent"],
        )
    return nodes


def _vips(read: list[str]) -> tuple[str, ...]:
    """Spelled as the kernel does."""
    try:
        return tuple(str(ip_address(text)) for text in read)
    except ValueError as error:
        raise ConfigError(f"vips: {error}") from None


def _owners(read: dict | None) -> Owners | None:
    if read is None:
        return None
    networks, rules, devices = [], [], {}
    for i, entry in enumerate(read["networks"]):
        try:
            network = ip_network(entry["network"])
        except ValueError as error:
            raise ConfigError(f"owners.networks[{i}].network: {error}") from None
        networks.append(network)
        devices[next(f for f in FAMILIES if FAMILIES[f] == network.version)] = entry["interface"]
        # Only what comes from there: the balancer's own probes find nodes inside the tunnel by other routes.
        rules.append(
            Rule(network.version, read["priority"], table=read["table"], to=str(network), iif=entry["interface"])
        )
    return Owners(read["table"], tuple(rules), tuple(networks), devices)


def _positive(section: str, read: dict) -> dict:
    for key, value in read.items():
        if value is not None and value <= 0:
            raise ConfigError(f"{section}.{key}: must be more than 0")
    return read


def _address(key: str, family: str, text: str) -> str:
    """Return the address in nftables' spelling."""
    if family not in FAMILIES:
        raise ConfigError(f"{key}.{family}: none of {', '.join(FAMILIES)}")
    try:
        address = ip_address(text)
    except ValueError:
        raise ConfigError(f"{key}.{family}: {text!r} is not an address") from None
    if address.version != FAMILIES[family]:
        raise ConfigError(f"{key}.{family}: {text} is an address of the other family")
    return str(address)
