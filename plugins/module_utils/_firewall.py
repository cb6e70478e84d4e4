# Copyright: Wirefleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does another firewall on a host drop what the cluster needs? Read from `nft --json --terse list ruleset`. Pure.

A packet has to be accepted by every base chain of its hook, so an accept of ours does not help against a drop policy
elsewhere. iptables-nft (ufw, Docker) and firewalld show up here too. This is a heuristic with one question: is there a
base chain with policy drop, and does nothing in its table accept our port?
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def dropping_chains(ruleset: str, hook: str, port: int) -> list[str]:
    """Base chains of `hook` (`input`, `forward`) that drop by policy in a table that nowhere accepts UDP `port`.

    Each as `family table chain`. An empty or unreadable ruleset has none.
    """
    try:
        items = json.loads(ruleset).get("nftables", []) if ruleset.strip() else []
    except ValueError:
        return []
    accepting = {
        _table(item["rule"]) for item in items if "rule" in item and _accepts(item["rule"].get("expr", []), port)
    }
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in (item["chain"] for item in items if "chain" in item)
        if chain.get("hook") == hook
        and chain.get("type") == "filter"
        and chain.get("policy") == "drop"
        and not chain["table"].startswith("wirefleet")
        and _table(chain) not in accepting
    ]


def _table(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["family"], item["table"]


def _accepts(expressions: list[dict[str, Any]], port: int) -> bool:
    """A rule that ends in accept and either names the port or asks for no port at all (for example an interface)."""
    if not any("accept" in expression for expression in expressions):
        return False
    matches = [e["match"] for e in expressions if "match" in e]
    if any("ct" in m.get("left", {}) for m in matches):
        return False  # established, related: says nothing of new packets
    ports = [m["right"] for m in matches if m.get("left", {}).get("payload", {}).get("field") == "dport"]
    if not ports:
        # "accept everything from lo" is in every firewall and helps nobody.
        return not any(m.get("right") == "lo" for m in matches) and not _other_protocol(matches)
    return any(_contains(right, port) for right in ports)


def _other_protocol(matches: list[dict[str, Any]]) -> bool:
    """Whether the rule is only for a protocol that is not UDP."""
    for match in matches:
        left, right = match.get("left", {}), match.get("right")
        if left.get("meta", {}).get("key") in ("l4proto", "protocol") or left.get("payload", {}).get("field") in (
            "protocol",
            "nexthdr",
        ):
            return right != "udp"
        if left.get("payload", {}).get("protocol") in ("icmp", "icmpv6", "tcp"):
            return True
    return False


def _contains(right: Any, port: int) -> bool:
    if isinstance(right, dict):
        if "set" in right:
            return any(_contains(element, port) for element in right["set"])
        if "range" in right:
            low, high = right["range"]
            return low <= port <= high
    # A named set (`@ports`) can not be looked into here: give it the benefit of the doubt.
    return right == port or (isinstance(right, str) and right.startswith("@"))
