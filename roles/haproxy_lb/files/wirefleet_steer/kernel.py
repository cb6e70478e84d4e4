# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The steering table in the kernel: load it, read it, change it.

nft 1.0.6 reads every element of every map for most questions ("list tables" takes a second with 200,000 sessions), but
not for "list map" and for what is asked with --terse. Only these are used here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from wirefleet import nft
from wirefleet.command import CommandError, run

from . import translation
from .config import Config
from .elements import KINDS, Elements, mark

# A set or map in the kernel has another definition: so says the kernel ("File exists"), or nft itself, since 1.1 and of
# some differences ("existing set lacks interval flag").
OTHER_DEFINITION = ("File exists", "Error: existing ")


def load_table(config: Config, translations: Mapping[str, translation.Translations] | None = None) -> bool:
    """Apply the ruleset file; maps survive. True when that took a new table, and all sessions with the old one.

    ``translations``: by family, what tables that are not there knew before they were removed.
    """
    rules = Path(config.ruleset).read_text(encoding="utf-8")
    for family, addresses in config.snat.items():
        if _snat_addresses(family, config.table) not in (None, frozenset(addresses)):
            # Another address may stand for each client now: all get their ports anew.
            rules += "".join(translation.removal(family, config.table))
    for family, known in (translations or {}).items():
        rules += translation.script(family, config.table, known)
    try:
        nft.apply(rules)
    except CommandError as error:
        if not any(words in error.stderr for words in OTHER_DEFINITION):
            raise
        # An upgrade: the kernel does not change a set or map in place.
        tables = [f"table {family} {config.table}" for family in config.families]
        removal = "".join(f"add {table}\ndelete {table}\n" for table in tables)
        nft.apply(removal + rules)
        return True
    return False


def _snat_addresses(family: str, table: str) -> frozenset[str] | None:
    """Return the addresses that stand for clients; None where the table, or that set, is missing."""
    try:
        answer = json.loads(run(["nft", "-j", "list", "set", family, table, "snat_addresses"]))
    except CommandError as error:
        if "No such file" not in error.stderr:
            raise
        return None
    found = next(item["set"] for item in answer["nftables"] if "set" in item)
    return frozenset(_text(item) for item in found.get("elem", []))


def read(family: str, table: str) -> Elements | None:
    """Return what the kernel holds; None when the table, or a part of it, is missing."""
    elements: dict[str, dict[str, str | None]] = {}
    for name, kind in KINDS.items():
        try:
            answer = json.loads(run(["nft", "-j", "list", kind, family, table, name]))
        except CommandError as error:
            if "No such file" not in error.stderr:
                raise
            return None
        found = next(item[kind] for item in answer["nftables"] if kind in item)
        elements[name] = dict(_element(name, kind, item) for item in found.get("elem", []))
    return elements


def teach(family: str, table: str, owners: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Add client's key -> its node's mark to "affinity"; return those of whom something else is known.

    The kernel refuses a whole transaction for one key that it has with another value. So a batch that fails is halved
    until that key is alone.
    """
    if not owners:
        return []
    elements = ", ".join(f"{key} : {value}" for key, value in owners)
    try:
        nft.apply(f"add element {family} {table} affinity {{ {elements} }}\n")
    except CommandError as error:
        if "File exists" not in error.stderr:
            raise
        middle = len(owners) // 2
        return teach(family, table, owners[:middle]) + teach(family, table, owners[middle:]) if middle else list(owners)
    return []


def assign(family: str, table: str, owners: Sequence[tuple[str, str]]) -> None:
    """Set client's key -> its node's mark in "affinity", whatever is known of it.

    The kernel refuses a whole transaction for one key to delete that it does not have, so a batch that fails is halved.
    """
    keys = ", ".join(key for key, _owner in owners)
    add = f"add element {family} {table} affinity {{ {', '.join(f'{key} : {value}' for key, value in owners)} }}\n"
    try:
        nft.apply(f"delete element {family} {table} affinity {{ {keys} }}\n{add}")
    except CommandError as error:
        if "No such file" not in error.stderr:
            raise
        middle = len(owners) // 2
        if not middle:
            nft.apply(add)
            return
        for half in (owners[:middle], owners[middle:]):
            assign(family, table, half)


def _element(name: str, kind: str, item: Any) -> tuple[str, str | None]:
    """Translate one element of nft's JSON: a key, or a pair of key and value in a map."""
    key, value = item if kind == "map" else (item, None)
    return str(key) if name == "wheel" else _text(key), None if value is None else _text(value)


def _text(value: Any) -> str:
    """Numbers are marks, strings are addresses, and the rest is a concatenation of these."""
    if isinstance(value, int):
        return mark(value)
    if isinstance(value, str):
        return str(ip_address(value))
    return " . ".join(_text(part) for part in value["concat"])


@dataclass(frozen=True)
class Gauges:
    """What a table says of itself: packets that each named counter has seen, and how much sets and maps can hold."""

    packets: Mapping[str, int]
    sizes: Mapping[str, int]


def gauges(family: str, table: str) -> Gauges:
    answer = json.loads(run(["nft", "--terse", "-j", "list", "ruleset", family]))
    ours = [(kind, item) for entry in answer["nftables"] for kind, item in entry.items() if item.get("table") == table]
    return Gauges(
        {item["name"]: item["packets"] for kind, item in ours if kind == "counter"},
        {item["name"]: item["size"] for kind, item in ours if kind in ("set", "map") and "size" in item},
    )
