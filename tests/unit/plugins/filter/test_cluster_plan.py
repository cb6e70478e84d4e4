# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.filter.cluster_plan import FilterModule
from ansible_collections.wirefleet.vpn.plugins.module_utils._ledger import parse
from ansible_collections.wirefleet.vpn.plugins.module_utils._plan import build_plan

cluster_plan = FilterModule().filters()["cluster_plan"]

SETTINGS: dict[str, Any] = {
    "return_path": "nat",
    "forwarding": "direct",
    **dict.fromkeys(["public_networks", "backend_networks", "routes", "reserved_addresses"], ()),
    **dict.fromkeys(["clients", "balancers", "managed_clients", "leaving", "vip", "backend_vip"], ()),
    "vip_mode": "none",
    "cluster": "default",
    "endpoint": "vpn.example.com",
    "port": 51820,
    "mesh_port": 51821,
    "client_networks": ["10.80.0.0/24"],
    "mesh_networks": ["fd77::/64"],
    "quarantine_days": 30,
    "max_removals": 0,
    "client_dns": [],
    "device_keys": {},
    "replaced_hosts": [],
    "renewed_psks": [],
    "old_keys": "none",
    "old_port": 0,
    "nodes": ["n1"],
    "monitors": [],
    **{f"client_{term}": {} for term in ("states", "addresses", "expires", "groups", "sites")},
    "access": [],
    "access_default": "allow",
}
REPORTS = [{"name": "n1", "interfaces": {"eth0": {"ip": ["192.0.2.1/24"], "ip6": []}}, "keys": {}, "hints": {}}]
NOW = "2026-11-22T00:00:00Z"


KEY = "aGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGU="
CLIENTS = {
    "clients": [{"name": "alice", "public_key": KEY, "expires": "2026-11-21"}],
    "managed_clients": ["c1"],
}
C1 = {"name": "c1", "interfaces": {}, "keys": {"client": KEY.replace("a", "b")}, "hints": {}}


def test_a_plan_without_problems_is_the_planners_with_clients_and_ledger_packed() -> None:
    changes = {**SETTINGS, **CLIENTS, "clients": [{"name": "alice", "public_key": KEY}]}
    expected = build_plan(changes, [*REPORTS, C1], [], NOW)
    plan = cluster_plan(changes, [*REPORTS, C1], "", NOW)
    clients = expected.pop("clients")
    assert json.loads(plan.pop("packed_clients")) == clients
    assert plan.pop("managed_clients") == {"c1": clients["c1"]}
    assert list(parse(plan.pop("ledger")).entries) == expected.pop("ledger")
    assert plan == {**expected, "generation": 1, "expires": {}, "expired": [], "problems": []}


def test_the_ledger_gets_a_new_generation_only_where_something_changes() -> None:
    first = cluster_plan(SETTINGS, REPORTS, "", NOW)
    again = cluster_plan(SETTINGS, REPORTS, first["ledger"], NOW)
    assert (again["ledger"], again["generation"]) == (first["ledger"], 1)
    changed = cluster_plan(
        {**SETTINGS, "clients": [{"name": "alice", "public_key": KEY}]}, REPORTS, first["ledger"], NOW
    )
    assert changed["generation"] == parse(changed["ledger"]).generation == 2
    assert '"name": "alice"' in changed["ledger"]


def test_who_expires_is_told_by_public_key() -> None:
    known = cluster_plan({**SETTINGS, "clients": [{"name": "alice", "public_key": KEY}]}, REPORTS, "", NOW)["ledger"]
    plan = cluster_plan({**SETTINGS, "clients": CLIENTS["clients"]}, REPORTS, known, NOW)
    assert plan["expires"] == {KEY: 1795305600}
    assert plan["expired"] == [KEY]


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"nodes": []}, ["no WireGuard node: the inventory group 'wireguard_nodes' is empty"]),
        (
            {"port": 0, "mesh_port": -1},
            ["vpn_port: 0 is not a port (1 to 65535)", "vpn_mesh_port: -1 is not a port (1 to 65535)"],
        ),
    ],
)
def test_problems_come_alone_and_all_at_once(changes: dict[str, Any], problems: list[str]) -> None:
    assert cluster_plan({**SETTINGS, **changes}, REPORTS, "", NOW) == {"problems": problems}
