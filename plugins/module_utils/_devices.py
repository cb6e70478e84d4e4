# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Devices of people, as `vpn_clients` describes them: what a description may say, and what follows. Pure."""

from __future__ import annotations

import ipaddress
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError, validate_key

Item = Mapping[str, Any]

KEYS = (
    "name",
    "public_key",
    "addresses",
    "state",
    "owner",
    "psk",
    "psk_mask",
    "routes",
    "dns",
    "expires",
    "groups",
    "networks",
)
OWNER_CHARACTERS = 200
FULL_TUNNEL = ("0.0.0.0/0", "::/0")
# A search domain, which wg-quick takes beside addresses of servers.
_LABEL = "[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring = 2, 120


def problems(item: Item) -> Iterator[str]:
    """Whatever is wrong with one item of `vpn_clients` that concerns the device alone, a line each."""
    unknown = [shown(key) for key in item if key not in KEYS]
    if unknown:
        yield f"{', '.join(unknown)}: there is no such key; there are {', '.join(KEYS)}"
    for key, check in _CHECKS.items():
        value = item.get(key)
        if value is not None:
            complaint = check(value)
            if complaint:
                yield f"{key}: {complaint}"


def dns_problem(servers: Any) -> str | None:
    """What is wrong with a list of name servers and search domains."""
    if not isinstance(servers, list):
        return f"{shown(servers)} is no list of addresses"
    return _first(_server_problem, servers)


def shown(value: object) -> str:
    """The value for an error message, short whatever it is: a file of aliases can unfold to terabytes."""
    return _short.repr(value)


def tunnel_routes(item: Item, default: Sequence[str]) -> list[str]:
    """What the device sends into the tunnel."""
    routes = item.get("routes")
    if routes == "full":
        return list(FULL_TUNNEL)
    return list(default if routes is None else routes)


def name_servers(item: Item, default: Sequence[str]) -> list[str]:
    """The DNS servers and search domains of the device."""
    servers = item.get("dns")
    return list(default if servers is None else servers)


def lacking_key(clients: Iterable[Item], ledger: Iterable[Item], among: Sequence[str], rekey: bool) -> list[str]:
    """The devices that need a key pair from us: they bring none, and the ledger has none, or `rekey` asks for another.

    `among` restricts it to these names, unless it is empty.
    """
    known = {e["name"] for e in ledger if e["kind"] == "client" and e.get("public_key") and "released" not in e}
    return sorted(
        item["name"]
        for item in clients
        if not item.get("public_key")
        and item.get("state", "present") == "present"
        and (not among or item["name"] in among)
        and (rekey or item["name"] not in known)
    )


def _owner(value: Any) -> str | None:
    if not isinstance(value, str) or not value.isprintable() or len(value) > OWNER_CHARACTERS:
        return f"{shown(value)} is no text of one line and at most {OWNER_CHARACTERS} characters"
    return None


def _psk(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"{shown(value)} is neither true nor false"


def _psk_mask(value: Any) -> str | None:
    try:
        validate_key(str(value))
    except KeyFormatError as error:
        return str(error)
    return None


def _routes(value: Any) -> str | None:
    if value == "full":
        return None
    if not isinstance(value, list) or not value:
        return f"{shown(value)} is neither a list of networks nor the word full"
    return _first(_network_problem, value)


def _first(check: Callable[[Any], str | None], values: Iterable[Any]) -> str | None:
    return next((complaint for complaint in map(check, values) if complaint), None)


def _network_problem(value: Any) -> str | None:
    try:
        # A number would be taken for an address.
        ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        return f"{shown(value)} is not a network (such as 10.20.0.0/16 or fd00:20::/48)"
    return None


def _server_problem(value: Any) -> str | None:
    if isinstance(value, str):
        try:
            ipaddress.ip_address(value)
        except ValueError:
            if _DOMAIN.fullmatch(value) and not value.replace(".", "").isdigit():
                return None
        else:
            return None
    return f"{shown(value)} is neither the address of a name server nor a search domain"


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "owner": _owner,
    "psk": _psk,
    "psk_mask": _psk_mask,
    "routes": _routes,
    "dns": dns_problem,
}
