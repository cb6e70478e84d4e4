# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._devices import (
    lacking_key,
    name_servers,
    problems,
    shown,
    tunnel_routes,
)

KEY = "wD8mWjHnVd1sIuDJXRvSkhgPsd2ehLPkMR9wGwKkFlc="
NETWORK = "is not a network (such as 10.20.0.0/16 or fd00:20::/48)"
SERVER = "is neither the address of a name server nor a search domain"


@pytest.mark.parametrize(
    "item",
    [
        {"name": "alice"},
        {"name": "alice", "owner": "Älice <alice@example.com>", "psk": False, "psk_mask": KEY},
        {"name": "alice", "routes": "full", "dns": []},
        {
            "name": "alice",
            "routes": ["10.20.0.0/16", "fd00:20::/48"],
            "dns": ["10.20.0.53", "fd00::53", "corp.example"],
        },
        {"name": "alice", "owner": None, "routes": None, "dns": None, "psk": None},
    ],
)
def test_nothing_is_wrong_with_it(item: dict[str, Any]) -> None:
    assert list(problems(item)) == []


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("adresses", [], "'adresses': there is no such key; there are name, "),
        ("owner", "Alice\n[Peer]", "owner: 'Alice\\n[Peer]' is no text of one line and at most 200 characters"),
        ("owner", "a" * 201, f"owner: '{'a' * 57}...{'a' * 58}' is no text of one line"),
        ("owner", ["Alice"], "owner: ['Alice'] is no text of one line"),
        ("psk", "no", "psk: 'no' is neither true nor false"),
        ("psk_mask", "short", "psk_mask: a WireGuard key has 44 characters, this text has 5"),
        ("routes", "all", "routes: 'all' is neither a list of networks nor the word full"),
        ("routes", [], "routes: [] is neither a list of networks nor the word full"),
        ("routes", ["10.20.0.0/33"], f"routes: '10.20.0.0/33' {NETWORK}"),
        ("routes", ["10.20.0.1/16"], f"routes: '10.20.0.1/16' {NETWORK}"),
        ("routes", [10], f"routes: 10 {NETWORK}"),
        ("routes", ["10.0.0.0/8\nPostUp = reboot"], f"routes: '10.0.0.0/8\\nPostUp = reboot' {NETWORK}"),
        ("dns", "10.20.0.53", "dns: '10.20.0.53' is no list of addresses"),
        ("dns", ["10.20.0.530"], f"dns: '10.20.0.530' {SERVER}"),
        ("dns", ["corp.example\nPostUp = reboot"], f"dns: 'corp.example\\nPostUp = reboot' {SERVER}"),
        ("dns", [53], f"dns: 53 {SERVER}"),
    ],
)
def test_what_is_wrong_is_told(key: str, value: Any, problem: str) -> None:
    [told] = problems({"name": "alice", key: value})
    assert told.startswith(problem)


def test_all_that_is_wrong_is_told() -> None:
    assert len(list(problems({"name": "alice", "owner": 7, "psk": 7, "routes": 7, "dns": 7, "x": 7}))) == 5


def test_a_value_that_unfolds_without_end_is_shown_in_short() -> None:
    bomb: list[Any] = ["lol"]
    for _level in range(40):
        bomb = [bomb] * 10
    assert len(shown(bomb)) < 5000


def test_a_device_sends_what_it_says_else_what_all_do() -> None:
    assert tunnel_routes({}, ["10.0.0.0/8"]) == ["10.0.0.0/8"]
    assert tunnel_routes({"routes": ["10.1.0.0/16"]}, ["10.0.0.0/8"]) == ["10.1.0.0/16"]
    assert tunnel_routes({"routes": "full"}, ["10.0.0.0/8"]) == ["0.0.0.0/0", "::/0"]
    assert name_servers({}, ["10.20.0.53"]) == ["10.20.0.53"]
    assert name_servers({"dns": []}, ["10.20.0.53"]) == []


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "client", "name": name, "public_key": KEY, **more}


CLIENTS = [{"name": "new"}, {"name": "known"}, {"name": "own", "public_key": KEY}, {"name": "gone", "state": "absent"}]


@pytest.mark.parametrize(
    ("ledger", "among", "rekey", "expected"),
    [
        ([], [], False, ["known", "new"]),
        ([entry("known")], [], False, ["new"]),
        ([entry("known", released="2026-11-22T00:00:00Z")], [], False, ["known", "new"]),
        ([entry("known", kind="node")], [], False, ["known", "new"]),
        ([entry("known")], ["known"], False, []),
        ([entry("known")], ["known", "own", "gone"], True, ["known"]),
    ],
)
def test_who_needs_a_key_from_us(
    ledger: list[dict[str, Any]], among: list[str], rekey: bool, expected: list[str]
) -> None:
    assert lacking_key(CLIENTS, ledger, among, rekey) == expected
