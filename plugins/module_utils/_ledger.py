# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The ledger: who holds which address and public key, as one text file.

JSON Lines, because it has to merge well in git: one line per entry, sorted, so that two people who add two clients
touch two lines. Only the header, with its generation, collides on purpose.

    {"cluster": "default", "generation": 7, "version": 1}
    {"addresses": ["10.80.0.2"], "kind": "client", "name": "alice", "public_key": "..."}

A `Ledger` that exists is valid and in its one order, so equality means "says the same". Pure: text in, text out.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

VERSION = 1

# Anything but the control characters (C0, DEL, C1) and lone surrogates.
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_HEADER_KEYS = {"cluster", "generation", "version"}
# git merges two lines without a conflict: whose address it is then, somebody has to say.
_ADVICE = (
    ". Where two branches gave it out, the one in the ledger of the nodes keeps it, else the one of the upper line:"
    " delete the other's line, and it gets another with the next run"
)
_CONFLICT_MARKERS = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")


class LedgerError(ValueError):
    """What is wrong with a ledger, and where."""


class _EntryError(LedgerError):
    """What is wrong with one entry; `parse` turns its index into a line number."""

    def __init__(self, index: int, problem: str, advice: str = "") -> None:
        super().__init__(f"entries[{index}]: {problem}")
        self.index = index
        self.problem = problem
        self.advice = advice


class _Clash(ValueError):
    """Two entries hold what only one can."""


@dataclass(frozen=True)
class Ledger:
    """One generation of a cluster's ledger.

    `generation` counts the writes, from 1. Entries have a `kind` (a to z), a `name` that is unique within its kind,
    and optionally `addresses`, `public_key` and `released` (ISO 8601: removed, in quarantine since). Whatever else an
    entry says is kept as it is. Raises LedgerError for entries that contradict each other.
    """

    cluster: str
    generation: int
    entries: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not is_name(self.cluster):
            raise LedgerError(f"cluster has to be a name, not {self.cluster!r}")
        if not isinstance(self.generation, int) or isinstance(self.generation, bool) or self.generation < 1:
            raise LedgerError(f"generation has to be a number from 1, not {self.generation!r}")
        _check_entries(self.entries)
        in_order = sorted(self.entries, key=lambda entry: (entry["kind"], entry["name"]))
        object.__setattr__(self, "entries", tuple(in_order))


def is_name(value: object) -> bool:
    """Whether this is a usable name: not empty, no control characters, and nothing that UTF-8 can not write."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def parse(text: str) -> Ledger:
    """Read a ledger from its text. LedgerError names the line that is at fault; the order of the lines is free."""
    # Not splitlines(): it would also split at characters such as U+2028 that JSON allows inside a string.
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise LedgerError("line 1: the file is empty")
    header, *entries = (_object(number, line) for number, line in enumerate(lines, 1))
    if header.get("version") != VERSION:
        raise LedgerError(f"line 1: version is {header.get('version')!r}; this release reads version {VERSION}")
    if header.keys() != _HEADER_KEYS:
        raise LedgerError(f"line 1: has to have the keys {', '.join(sorted(_HEADER_KEYS))} and no other")
    try:
        return Ledger(header["cluster"], header["generation"], tuple(entries))
    except _EntryError as error:
        raise LedgerError(f"line {error.index + 2}: {error.problem}{error.advice}") from None
    except LedgerError as error:
        raise LedgerError(f"line 1: {error}") from None


def render(ledger: Ledger) -> str:
    """Write the one text of a ledger."""
    header = {"cluster": ledger.cluster, "generation": ledger.generation, "version": VERSION}
    return "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in (header, *ledger.entries))


def _object(number: int, line: str) -> dict[str, Any]:
    if line.startswith(_CONFLICT_MARKERS):
        raise LedgerError(f"line {number}: git conflict marker: finish the merge first")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"line {number}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LedgerError(f"line {number}: has to be a JSON object")
    return value


def _check_entries(entries: Iterable[Any]) -> None:
    names: set[tuple[str, str]] = set()
    holders: dict[str, str] = {}
    key_holders: dict[tuple[str, str], str] = {}
    for index, entry in enumerate(entries):
        try:
            kind, name = _identity(entry)
            who = f"{kind} {name}"
            if (kind, name) in names:
                raise ValueError(f"{who} is there twice")
            names.add((kind, name))
            for address in _addresses(entry):
                if address in holders:
                    raise _Clash(f"address {address} of {who} already belongs to {holders[address]}")
                holders[address] = who
            key = entry.get("public_key")
            # Somebody who was removed may come back under another name with the same key.
            if key is not None and "released" not in entry:
                if not isinstance(key, str):
                    raise ValueError(f"public_key of {who} has to be a string")
                if (kind, key) in key_holders:
                    raise ValueError(f"public_key of {who} already belongs to {key_holders[kind, key]}")
                key_holders[kind, key] = who
        except ValueError as problem:
            raise _EntryError(index, str(problem), _ADVICE if isinstance(problem, _Clash) else "") from None


def _identity(entry: Any) -> tuple[str, str]:
    if not isinstance(entry, Mapping):
        raise ValueError("has to be an object")
    kind, name = entry.get("kind"), entry.get("name")
    if not isinstance(kind, str) or not re.fullmatch("[a-z]+", kind):
        raise ValueError(f"kind has to be a word of a to z, not {kind!r}")
    if not is_name(name):
        raise ValueError(f"name has to be a string that is not empty and has no control characters, not {name!r}")
    return kind, str(name)


def _addresses(entry: Mapping[str, Any]) -> list[str]:
    """The addresses of an entry in their one spelling, so that two spellings of one address count as one."""
    addresses = entry.get("addresses", [])
    if not isinstance(addresses, list):
        raise ValueError(f"addresses has to be a list, not {addresses!r}")
    if not all(isinstance(address, str) for address in addresses):
        # ip_address() would take the number 1 for 0.0.0.1.
        raise ValueError(f"addresses has to be a list of strings, not {addresses!r}")
    return [str(ipaddress.ip_address(address)) for address in addresses]
