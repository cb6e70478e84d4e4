# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What a client may do and until when: its groups and networks, when it expires, and the rules of `vpn_access`. Pure.

Whatever is wrong raises a ValueError whose text fits behind the name of the variable.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

try:
    import netaddr
except ImportError:  # The plan says so before it comes here.
    netaddr = None

DEFAULTS = ("allow", "deny")
GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")
GROUP_RULE = "letters, digits and _ . @ -, at most 63"
RULE_KEYS = frozenset({"groups", "clients", "to", "ports"})

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:?\d\d))?")
_PORT = re.compile(r"(tcp|udp)/([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?")
_ANY_PORT = "0-65535"  # and the bytes in their place where a protocol has none


def expiry(value: object) -> int:
    """The moment at which a client expires, in seconds since the epoch.

    A date means its end in UTC. YAML makes a date of what looks like one, so both come as text or as dates.
    """
    wrong = ValueError(f"{str(value)!r} is neither a date such as 2027-01-31 nor such as 2027-01-31T18:00:00+01:00")
    text = value.isoformat() if isinstance(value, datetime.date) else value
    if not isinstance(text, str) or not _MOMENT.fullmatch(text):
        raise wrong
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.timezone.utc) + datetime.timedelta(days=1)
    except (ValueError, OverflowError):
        raise wrong from None
    return int(moment.timestamp())


def groups(value: object) -> list[str]:
    """The groups of a client, or of a rule."""
    for group in _words(value):
        if not GROUP.fullmatch(group):
            raise ValueError(f"{group!r} is no usable name ({GROUP_RULE})")
    return sorted(set(_words(value)))


def network(value: object) -> netaddr.IPNetwork:
    try:
        found = netaddr.IPNetwork(str(value))
    except (netaddr.AddrFormatError, ValueError):
        raise ValueError(f"{value!r} is not a network (such as 10.80.0.0/16 or fd00:80::/48)") from None
    if found.ip != found.network:
        raise ValueError(f"{value} has host bits set; the network is {found.cidr}")
    return found


def networks(value: object) -> list[str]:
    """The networks behind a client."""
    return [str(network(word)) for word in _words(value)]


def overlap(one: netaddr.IPNetwork, other: netaddr.IPNetwork) -> bool:
    return one.version == other.version and (one in other or other in one)


def ports(value: object) -> list[str]:
    """What a rule allows, as elements `PROTOCOL . PORTS` of an nftables set. Nothing named is everything."""
    words = _words(value)
    elements = []
    for word in words:
        found = _PORT.fullmatch(word)
        first, last = (int(found[2]), int(found[3] or found[2])) if found else (0, 0)
        if word == "icmp":
            elements += [f"icmp . {_ANY_PORT}", f"icmpv6 . {_ANY_PORT}"]
        elif found and first <= last <= 65535:
            elements.append(f"{found[1]} . {found[2]}" + (f"-{found[3]}" if last > first else ""))
        else:
            raise ValueError(f"{word!r} is not such as tcp/443, udp/8000-8100 or icmp")
    return elements if words else [f"0-255 . {_ANY_PORT}"]


def describe(
    rules: Sequence[Any], default: str, clients: Mapping[str, Mapping[str, Any]], reachable: Iterable[netaddr.IPNetwork]
) -> dict[str, Any]:
    """What nodes enforce.

    `clients`: name -> {groups, prefixes (where its packets come from)}. `reachable`: where clients may go at all.
    Returns the rules in their order, each with `from` and `to` (prefixes) and `ports`; `restricted` is who is named by
    any rule and so may do what rules say and no more; `warnings` are names that nobody has.
    """
    reachable = list(reachable)
    restricted: set[str] = set()
    described, warnings = [], []
    for index, rule in enumerate(rules):
        of_rule, named = _names(rule, clients.keys())
        in_groups = {name for name, client in clients.items() if of_rule & set(client["groups"])}
        empty = of_rule - {group for client in clients.values() for group in client["groups"]}
        warnings += [f"vpn_access[{index}]: no client is in the group {group}" for group in sorted(empty)]
        everybody = not of_rule and not named
        who = set(clients) if everybody else in_groups | named
        restricted |= set() if everybody else who
        described.append(
            {
                "from": [prefix for name in sorted(who) for prefix in clients[name]["prefixes"]],
                "to": [str(net) for net in _destinations(rule, reachable)],
                "ports": ports(rule.get("ports")),
            }
        )
    return {
        "enforced": bool(rules) or default == "deny",
        "default": default,
        "rules": described,
        "restricted": [prefix for name in sorted(restricted) for prefix in clients[name]["prefixes"]],
        "warnings": warnings,
    }


def check(rules: object, default: object, names: Collection[str], reachable: Iterable[netaddr.IPNetwork]) -> list[str]:
    """What is wrong with `vpn_access` and `vpn_access_default`; `names` are those of all clients."""
    problems = []
    if default not in DEFAULTS:
        problems.append(f"vpn_access_default: {default!r} is none of {', '.join(DEFAULTS)}")
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        return [*problems, "vpn_access: has to be a list of rules"]
    reachable = list(reachable)
    for index, rule in enumerate(rules):
        try:
            _names(rule, names)
            _destinations(rule, reachable)
            ports(rule.get("ports"))
        except ValueError as error:
            problems.append(f"vpn_access[{index}]: {error}")
    return problems


def _names(rule: Any, clients: Collection[str]) -> tuple[set[str], set[str]]:
    """The groups and the clients that a rule names."""
    if not isinstance(rule, Mapping) or not rule.keys() <= RULE_KEYS:
        raise ValueError(f"has to have keys of {', '.join(sorted(RULE_KEYS))}, and no other")
    named = set(_words(rule.get("clients")))
    if named - set(clients):
        raise ValueError(f"clients: there is no client {', '.join(sorted(named - set(clients)))}")
    return set(groups(rule.get("groups"))), named


def _destinations(rule: Mapping[str, Any], reachable: Sequence[netaddr.IPNetwork]) -> list[netaddr.IPNetwork]:
    """Where a rule leads to; a network that clients can not reach anyway is a mistake."""
    destinations = [network(value) for value in _words(rule.get("to"))]
    for destination in destinations:
        if not any(overlap(destination, net) for net in reachable):
            raise ValueError(f"to: {destination} is neither in vpn_routes nor behind a client")
    return destinations or list(reachable)


def _words(value: object) -> list[str]:
    """A list of words. A single one in its place would else be read letter by letter."""
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{value!r} has to be a list of words")
    return list(value)
