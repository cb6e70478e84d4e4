# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Does another firewall on a host drop what the cluster needs? Read from `nft --json --terse list ruleset`. Pure.

A packet has to be accepted by every base chain of its hook, so an accept of ours does not help against a drop
elsewhere. iptables-nft (ufw, Docker) and firewalld show up here too.

It follows a new UDP packet to our port from a base chain through the jumps and asks whether any rule may accept it.
What the ruleset does not tell (addresses, most interfaces, the contents of named sets, extensions of iptables) counts
in favour of the firewall: a false alarm would stop a run for nothing, and what is missed here, health checks find.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Item = dict[str, Any]
Chain = tuple[str, str, str]  # family, table, name

# Accepting what comes from here is in every firewall and lets nobody in: loopback, bridges of containers and of VMs.
NO_UPLINK = re.compile(r"lo|(docker|virbr)\d+|br-[0-9a-f]{12}")
OTHER_PROTOCOLS = {"tcp", "icmp", "icmpv6", "icmp6", "igmp", "sctp", "dccp", "esp", "ah"}
REJECT_OF_IPTABLES = {"xt": {"type": "target", "name": "REJECT"}}


def dropping_chains(ruleset: str, hook: str, port: int) -> list[str]:
    """Base chains of `hook` (`input`, `forward`) that drop and from which no rule that accepts UDP `port` is reached.

    Each as `family table chain`. An empty or unreadable ruleset has none.
    """
    try:
        items = json.loads(ruleset)["nftables"] if ruleset.strip() else []
        return list(_dropping(items, hook, port))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return []


def _dropping(items: Sequence[Item], hook: str, port: int) -> Iterator[str]:
    rules: dict[Chain, list[list[Item]]] = {}
    for rule in (item["rule"] for item in items if "rule" in item):
        rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule.get("expr", []))
    for chain in (item["chain"] for item in items if "chain" in item):
        name = (chain["family"], chain["table"], chain["name"])
        if chain.get("hook") != hook or chain.get("type") != "filter" or chain["table"].startswith("wirefleet"):
            continue
        drops = chain.get("policy") == "drop" or any(map(_refuses_all, rules.get(name, [])))
        if drops and not _accepts(rules, name, port):
            yield " ".join(name)


def _accepts(rules: Mapping[Chain, Sequence[list[Item]]], chain: Chain, port: int) -> bool:
    """Whether a rule of the chain, or of one that it jumps to, may accept. The kernel loads no jumps in a circle."""
    for rule in rules.get(chain, []):
        for verdict in _verdicts(rule, port):
            target = verdict.get("jump") or verdict.get("goto")
            if "accept" in verdict or (target and _accepts(rules, (*chain[:2], target["target"]), port)):
                return True
    return False


def _verdicts(rule: list[Item], port: int) -> Iterator[Item]:
    """What a rule may decide about the packet: nothing unless all of its matches may hold."""
    if not all(_may_hold(expression, port) for expression in rule):
        return
    # `-m conntrack` does not show its states. Without a port it is the line for answers that every firewall has.
    if any(_extension(e) in ("conntrack", "state") for e in rule) and not any(map(_names_port, rule)):
        return
    for expression in rule:
        if "vmap" not in expression:
            yield expression
            continue
        key, data = expression["vmap"]["key"], expression["vmap"]["data"]
        if isinstance(data, str):
            yield {"accept": None}  # a named map
            continue
        for value, verdict in data["set"]:
            if _may_hold({"match": {"op": "==", "left": key, "right": value}}, port):
                yield verdict


def _may_hold(expression: Item, port: int) -> bool:
    """Whether a new UDP packet to `port` may get past this expression of a rule."""
    if "match" not in expression:
        return _extension(expression) not in OTHER_PROTOCOLS
    match = expression["match"]
    elements, negated = _elements(match["right"]), match["op"] == "!="
    if _of(match["left"], "meta").get("key") in ("iif", "iifname", "oif", "oifname"):
        return negated or not all(NO_UPLINK.fullmatch(str(element)) for element in elements)
    known = _known(match["left"], port)
    if known is None or (isinstance(match["right"], str) and match["right"].startswith("@")):
        return True
    return any(_is(element, known) for element in elements) != negated


def _known(left: Any, port: int) -> str | int | None:
    """What a match would find in our packet: "" for what no rule asks for, None where the ruleset does not tell."""
    payload, meta, conntrack = (_of(left, kind) for kind in ("payload", "meta", "ct"))
    if payload.get("protocol") in OTHER_PROTOCOLS or payload.get("field") == "sport":
        return ""
    if payload.get("field") == "dport":
        return port
    if payload.get("field") in ("protocol", "nexthdr") or meta.get("key") == "l4proto":
        return "udp"
    return {"state": "new", "status": ""}.get(conntrack.get("key", ""))


def _of(left: Any, kind: str) -> Item:
    """The details of an expression of this kind; empty for any other."""
    return left.get(kind, {}) if isinstance(left, dict) else {}


def _names_port(expression: Item) -> bool:
    return _of(expression.get("match", {}).get("left"), "payload").get("field") == "dport"


def _extension(expression: Item) -> str | None:
    """The name of an iptables match that nft has no expression for; older versions of nft do not tell it."""
    xt = expression.get("xt") or {}
    return xt.get("name") if xt.get("type") == "match" else None


def _elements(right: Any) -> list[Any]:
    """The right side of a match as a list: one value, flags, or an anonymous set."""
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    return right if isinstance(right, list) else [right]


def _is(element: Any, known: str | int) -> bool:
    if isinstance(element, dict) and "range" in element:
        low, high = element["range"]
        return isinstance(known, int) and low <= known <= high
    return bool(element == known)


def _refuses_all(rule: list[Item]) -> bool:
    """Whether a rule refuses whatever comes to it, as firewalld ends its chains, or iptables with `-j REJECT`."""
    statements = [e for e in rule if not {"counter", "log"} & e.keys()]
    return len(statements) == 1 and (
        "drop" in statements[0] or "reject" in statements[0] or statements[0] == REJECT_OF_IPTABLES
    )
