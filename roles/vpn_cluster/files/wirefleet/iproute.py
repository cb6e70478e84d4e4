# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Policy routing: the rules and routes that a daemon keeps in place.

``missing_*`` only looks, ``ensure_*`` also repairs. Both return the rules or routes that were not there, so that a
caller can say what happened. Numbers instead of names (``ip -N``): somebody may have named our table in rt_tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from .command import CommandError, run

WHOLE_MARK = 0xFFFFFFFF
HOST_BITS = {4: 32, 6: 128}


@dataclass(frozen=True)
class Rule:
    """``ip rule``: packets that have ``mark``, go ``to`` a network and came in by ``iif`` are looked up in ``table``.

    What is None does not matter.
    """

    family: int  # 4 or 6
    priority: int
    table: int
    mark: int | None = None
    iif: str | None = None
    to: str | None = None  # a network

    def arguments(self) -> list[str]:
        words = ["priority", str(self.priority)]
        if self.mark is not None:
            words += ["fwmark", f"{self.mark:#x}"]
        if self.to is not None:
            words += ["to", self.to]
        if self.iif is not None:
            words += ["iif", self.iif]
        return [*words, "table", str(self.table)]

    def __str__(self) -> str:
        return f"ip -{self.family} rule {' '.join(self.arguments())}"


@dataclass(frozen=True)
class Route:
    """``ip route``: ``network`` through ``device``, by way of the neighbour ``via`` or on the link itself.

    ``hop_limit`` is what packets begin with that this host sends by it; None: what they have elsewhere.
    """

    family: int  # 4 or 6
    table: int
    network: str
    device: str
    via: str | None = None
    hop_limit: int | None = None

    def arguments(self) -> list[str]:
        # onlink: a flapping link loses its addresses too, and they may return later than we do.
        hop = ["via", self.via, "dev", self.device, "onlink"] if self.via else ["dev", self.device]
        scope = ["scope", "link"] if self.family == 4 and not self.via else []
        metrics = ["hoplimit", str(self.hop_limit)] if self.hop_limit else []
        return [self.network, *hop, *scope, *metrics, "table", str(self.table)]

    def __str__(self) -> str:
        return f"ip -{self.family} route {' '.join(self.arguments())}"


def missing_rules(wanted: Iterable[Rule]) -> list[Rule]:
    wanted = list(wanted)
    present = {rule for family in {rule.family for rule in wanted} for rule in _rules(family)}
    return [rule for rule in wanted if rule not in present]


def ensure_rules(wanted: Iterable[Rule]) -> list[Rule]:
    missing = missing_rules(wanted)
    for rule in missing:
        run(["ip", f"-{rule.family}", "rule", "add", *rule.arguments()])
    return missing


def remove_rule(rule: Rule) -> None:
    """Remove it, if it is there."""
    if not missing_rules([rule]):
        run(["ip", f"-{rule.family}", "rule", "delete", *rule.arguments()])


def first_tunnel(family: int) -> int | None:
    """Return the priority of the first rule for all but marked packets, as a full tunnel of wg-quick has."""
    taking = (row["priority"] for row in _query(family, "rule", "show") if {"not", "fwmark"} <= row.keys())
    return min(taking, default=None)


def missing_routes(wanted: Iterable[Route]) -> list[Route]:
    wanted = list(wanted)
    tables = {(route.family, route.table) for route in wanted}
    present = {_hop(route) for family, table in tables for route in _routes(family, table)}
    return [route for route in wanted if _hop(route) not in present]


def ensure_routes(wanted: Iterable[Route]) -> list[Route]:
    """Repair with ``replace``: a route to the same network by another way would otherwise stand in the way."""
    missing = missing_routes(wanted)
    for route in missing:
        run(["ip", f"-{route.family}", "route", "replace", *route.arguments()])
    return missing


def _rules(family: int) -> Iterable[Rule]:
    for row in _query(family, "rule", "show"):
        rule = _rule(family, row)
        if rule is not None:
            yield rule


def _rule(family: int, row: dict[str, Any]) -> Rule | None:
    """Parse one rule of ``ip -j -N rule``, or None for a rule that is not of the kind which Rule can say."""
    known = {"priority", "src", "dst", "dstlen", "fwmark", "fwmask", "iif", "iif_detached", "protocol", "table"}
    if row.keys() - known or row.get("src") != "all" or "table" not in row:
        return None
    if not row.keys() & {"fwmark", "dst"} or int(row.get("fwmask", hex(WHOLE_MARK)), 0) != WHOLE_MARK:
        return None
    return Rule(
        family=family,
        priority=row["priority"],
        table=int(row["table"]),
        mark=int(row["fwmark"], 0) if "fwmark" in row else None,
        iif=row.get("iif"),
        to=f"{row['dst']}/{row.get('dstlen', HOST_BITS[family])}" if "dst" in row else None,
    )


def _routes(family: int, table: int) -> Iterable[Route]:
    try:
        rows = _query(family, "route", "show", "table", str(table))
    except CommandError as error:
        if "FIB table does not exist" in error.stderr:  # nobody has put a route into it yet
            return
        raise
    for row in rows:
        if "dev" in row:
            metrics = {name: value for entry in row.get("metrics", []) for name, value in entry.items()}
            yield Route(family, table, row["dst"], row["dev"], row.get("gateway"), metrics.get("hoplimit"))


def _hop(route: Route) -> tuple[object, ...]:
    """Two spellings of one route are equal: "default" is a network, and IPv6 has many spellings."""
    everything = {4: "0.0.0.0/0", 6: "::/0"}[route.family]
    network = ip_network(everything if route.network == "default" else route.network)
    via = ip_address(route.via) if route.via else None
    return route.family, route.table, network, route.device, via, route.hop_limit


def _query(family: int, *words: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run(["ip", f"-{family}", "-j", "-N", *words]) or "[]")
    return rows
