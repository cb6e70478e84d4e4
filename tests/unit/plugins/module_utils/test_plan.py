# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64
import copy
from hashlib import sha256
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._plan import PlanError, build_plan, host_report
from hypothesis import given, settings
from hypothesis import strategies as st

Entry = dict[str, Any]
NOW, LATER, MUCH_LATER = "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z", "2027-11-22T00:00:00Z"


def key(text: str) -> str:
    """A public key of somebody's own."""
    return base64.b64encode(sha256(text.encode()).digest()).decode()


def interfaces(**addresses: str) -> dict[str, dict[str, list[str]]]:
    """eth0="192.0.2.1/24 2001:db8::1/64" as a report lists it."""
    return {
        name: {
            "ip": [a for a in text.split() if ":" not in a],
            "ip6": [a for a in text.split() if ":" in a],
        }
        for name, text in addresses.items()
    }


def node(name: str, hints: Any = None, **addresses: str) -> Entry:
    return {
        "name": name,
        "interfaces": interfaces(**(addresses or {"eth1": f"10.9.0.{name[1:]}/24"})),
        "keys": {"mesh": key(f"mesh {name}")},
        "hints": hints or {},
    }


def balancer(hints: Any = None, **addresses: str) -> Entry:
    return {
        "name": "lb1",
        "interfaces": interfaces(**(addresses or {"eth0": "198.51.100.10/24", "eth1": "10.9.0.100/24"})),
        "keys": {"mesh": key("mesh lb1"), "probe": key("probe lb1")},
        "hints": hints or {},
    }


def client_host(name: str, public_key: str | None = None) -> Entry:
    return {"name": name, "interfaces": {}, "keys": {"client": public_key or key(name)}, "hints": {}}


def client(name: str, **more: Any) -> Entry:
    return {"name": name, "public_key": key(name), **more}


def cluster(**changes: Any) -> Entry:
    """The settings of two nodes, a balancer and two clients, one a host and one a phone."""
    return {
        "cluster": "default",
        "endpoint": "vpn.example.com",
        "port": 51820,
        "mesh_port": 51821,
        "client_networks": ["10.80.0.0/24"],
        "mesh_networks": ["fd77::/64"],
        "public_networks": ["198.51.100.0/24"],
        "backend_networks": [],
        "vip": [],
        "backend_vip": [],
        "vip_mode": "none",
        "routes": ["10.0.0.0/8"],
        "return_path": "nat",
        "forwarding": "direct",
        "reserved_addresses": [],
        "quarantine_days": 30,
        "max_removals": 0,
        "client_dns": [],
        "device_keys": {},
        "clients": [client("alice")],
        "nodes": ["n1", "n2"],
        "balancers": ["lb1"],
        "monitors": [],
        "managed_clients": ["c1"],
        "leaving": [],
        "replaced_hosts": [],
        "renewed_psks": [],
        "client_states": {},
        "client_addresses": {},
        "client_expires": {},
        "client_groups": {},
        "client_sites": {},
        "access": [],
        "access_default": "allow",
        **changes,
    }


REPORTS = [node("n1"), node("n2"), balancer(), client_host("c1")]


def plan(reports: list[Entry] = REPORTS, ledger: list[Entry] | None = None, now: str = NOW, **changes: Any) -> Entry:
    return build_plan(cluster(**changes), reports, ledger or [], now)


def problems(reports: list[Entry] = REPORTS, ledger: list[Entry] | None = None, **changes: Any) -> list[str]:
    with pytest.raises(PlanError) as caught:
        plan(reports, ledger, **changes)
    assert str(caught.value).split("\n") == caught.value.problems
    return caught.value.problems


def ledger_of(**changes: Any) -> list[Entry]:
    ledger: list[Entry] = plan(**changes)["ledger"]
    return ledger


def entry(plan: Entry, kind: str, name: str) -> Entry:
    [found] = [e for e in plan["ledger"] if (e["kind"], e["name"]) == (kind, name)]
    return found


def released(plan: Entry) -> list[tuple[str, str]]:
    return [(e["kind"], e["name"]) for e in plan["ledger"] if "released" in e]


# -- the whole plan -----------------------------------------------------------------------


def test_a_cluster_of_two_nodes_a_balancer_and_two_clients() -> None:
    result = plan()
    ledger = result.pop("ledger")
    assert result == {
        "families": ["ip"],
        "mesh_sources": {"ip": ["10.9.0.1", "10.9.0.100", "10.9.0.2"]},
        "snat_sources": {},
        "nodes": {
            name: {
                "id": number,
                "addresses": [f"10.80.0.{number + 2}"],
                "mesh_addresses": [f"fd77::{number + 1}"],
                "mesh_public_key": key(f"mesh {name}"),
                "backend": {"ip": {"address": f"10.9.0.{number}", "network": "10.9.0.0/24", "interface": "eth1"}},
                "return_routes": [{"family": 4, "device": "eth1", "network": "10.9.0.0/24", "via": "10.9.0.100"}],
                "client_routes": [],
            }
            for number, name in ((1, "n1"), (2, "n2"))
        },
        "balancers": {
            "lb1": {
                "addresses": ["10.80.0.5"],
                "mesh_addresses": ["fd77::1"],
                "mesh_public_key": key("mesh lb1"),
                "probe_public_key": key("probe lb1"),
                "backend": {"ip": {"address": "10.9.0.100", "network": "10.9.0.0/24", "interface": "eth1"}},
                "public": {"ip": {"address": "198.51.100.10", "network": "198.51.100.0/24", "interface": "eth0"}},
                "steered": [
                    {
                        "family": "ip",
                        "public_address": "198.51.100.10",
                        "public_interface": "eth0",
                        "backend_interface": "eth1",
                        "client_networks": [],
                        "peers": [],
                        "snat_addresses": [],
                    }
                ],
                "vips": [],
            }
        },
        "sites": [],
        "access": {"enforced": False, "default": "allow", "rules": [], "restricted": []},
        "monitors": {},
        "usage": [
            {"network": "10.80.0.0/24", "used": 5, "quarantined": 0, "size": 254},
            {"network": "fd77::/64", "used": 3, "quarantined": 0, "size": 2**64 - 1},
        ],
        "clients": {
            name: {
                "addresses": [address],
                "public_key": key(name),
                "preshared": True,
                "networks": [],
                "suspended": False,
                "expires": None,
                "expired": False,
            }
            for name, address in (("alice", "10.80.0.1"), ("c1", "10.80.0.2"))
        },
        "pending": [],
        "warnings": [],
    }
    assert [(e["kind"], e["name"]) for e in ledger] == [
        ("client", "alice"),
        ("client", "c1"),
        ("mesh", "lb1"),
        ("mesh", "n1"),
        ("mesh", "n2"),
        ("node", "n1"),
        ("node", "n2"),
        ("probe", "lb1"),
    ]


def test_a_second_run_changes_nothing_whatever_the_order() -> None:
    first = plan()
    again = plan(REPORTS[::-1], first["ledger"][::-1], MUCH_LATER, nodes=["n2", "n1"])
    assert again["ledger"] == first["ledger"]
    assert again["nodes"] == first["nodes"]


def test_nothing_that_was_passed_in_is_changed() -> None:
    ledger, given, reports = ledger_of(), cluster(nodes=["n1", "n3"], clients=[]), [node("n3"), *REPORTS]
    before = copy.deepcopy((ledger, given, reports))
    build_plan({**given, "max_removals": 1}, reports, ledger, LATER)
    assert (ledger, given, reports) == before


def test_one_node_works_without_a_balancer() -> None:
    result = plan([node("n1"), client_host("c1")], nodes=["n1"], balancers=[])
    assert result["nodes"]["n1"]["return_routes"] == []
    assert result["balancers"] == {}


# -- settings that can not work --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"nodes": []}, "no WireGuard node: the inventory group 'wireguard_nodes' is empty"),
        (
            {"balancers": ["lb1", "lb2"]},
            "haproxy_lbs has 2 hosts (lb1, lb2): they need addresses that one of them has at a time: set vpn_vip and"
            " vpn_backend_vip",
        ),
        (
            {"nodes": ["n1", "lb1"]},
            "lb1: is in wireguard_nodes and in haproxy_lbs, but a balancer steers packets that it forwards, and those"
            " for a node on the same host are not forwarded: use two hosts",
        ),
        (
            {"nodes": ["n1", "n2\n[Peer]"]},
            "wireguard_nodes: 'n2\\n[Peer]' is no usable name (letters, digits and _ . @ -, at most 63)",
        ),
        (
            {"balancers": ["lb1\n"]},
            "haproxy_lbs: 'lb1\\n' is no usable name (letters, digits and _ . @ -, at most 63)",
        ),
        *(
            (
                {variable: ["10.0.0.300/8"]},
                f"vpn_{variable}: '10.0.0.300/8' is not a network (such as 10.80.0.0/16 or fd00:80::/48)",
            )
            for variable in ("client_networks", "mesh_networks", "public_networks", "backend_networks", "routes")
        ),
        ({"routes": ["10.1.2.3/8"]}, "vpn_routes: 10.1.2.3/8 has host bits set; the network is 10.0.0.0/8"),
        ({"client_networks": []}, "vpn_client_networks is empty: name at least one network, such as 10.80.0.0/16"),
        ({"mesh_networks": []}, "vpn_mesh_networks is empty: name one network, such as fd77:6972:6566::/64"),
        ({"port": 0}, "vpn_port: 0 is not a port (1 to 65535)"),
        ({"mesh_port": 65536}, "vpn_mesh_port: 65536 is not a port (1 to 65535)"),
        ({"mesh_port": 51820}, "vpn_port and vpn_mesh_port are both 51820: they need two ports"),
        *(
            ({"cluster": text}, f"vpn_cluster: {text!r} has to be 1 to 15 of a-z, 0-9 and '-' (it names units)")
            for text in ("", "Prod", "-prod", "a" * 16, "prod\n", "a b")
        ),
        *(
            ({"endpoint": text}, f"vpn_endpoint: {text!r} is no host name or address")
            for text in ("", "vpn example.com", "[2001:db8::1]", "vpn.example.com\nDNS=", "vpn#1")
        ),
        (
            {"client_networks": ["10.80.0.0"]},
            "vpn_client_networks: '10.80.0.0' is no network (such as 10.80.0.0/16 or fd00:80::/48)",
        ),
        (
            {"client_networks": ["10.80.0.0/30"]},
            "vpn_client_networks: 10.80.0.0/30 is full: 3 of 5 new addresses are missing (0 in quarantine)",
        ),
        (
            {"mesh_networks": ["fd77::/127"]},
            "vpn_mesh_networks: fd77::/127 is full: 1 of 3 new addresses are missing (0 in quarantine)",
        ),
        ({"reserved_addresses": ["10.80.0"]}, "vpn_reserved_addresses: '10.80.0' is no address or network"),
        ({"quarantine_days": -1}, "vpn_quarantine_days: has to be from 0 to 36500, not -1"),
    ],
)
def test_settings_that_can_not_work(changes: Entry, problem: str) -> None:
    assert problem in problems(**changes)


@pytest.mark.parametrize("endpoint", ["vpn.example.com", "192.0.2.1", "2001:db8::1", "vpn-1_a.example.com."])
def test_endpoints_may_be_names_and_addresses(endpoint: str) -> None:
    plan(endpoint=endpoint)


def test_all_problems_are_told_at_once() -> None:
    assert problems(
        port=0,
        mesh_port=0,
        routes=["nowhere"],
        clients=[{"name": "bob", "adress": "10.80.0.9"}, client("a b"), client("c1")],
        ledger=ledger_of(),
    ) == [
        "vpn_routes: 'nowhere' is not a network (such as 10.80.0.0/16 or fd00:80::/48)",
        "vpn_port: 0 is not a port (1 to 65535)",
        "vpn_mesh_port: 0 is not a port (1 to 65535)",
        "vpn_port and vpn_mesh_port are both 0: they need two ports",
        "vpn_clients[0] (bob): 'adress': there is no such key; there are name, public_key, addresses, state, owner,"
        " psk, psk_mask, routes, dns, expires, groups, networks",
        "vpn_clients[1]: 'a b' is no usable name (letters, digits and _ . @ -, at most 63)",
        "vpn_clients[2] (c1): the name is taken by another client",
        "1 known client(s) are missing from the inventory and from vpn_clients: alice."
        " Remove a client with state: absent (wg_client_state for a host), or allow it for this run with"
        " -e vpn_max_removals=1 (now 0)",
    ]


# -- networks that overlap -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"client_networks": ["10.80.0.0/16", "10.80.7.0/24"]},
            ["networks overlap: vpn_client_networks 10.80.0.0/16 and vpn_client_networks 10.80.7.0/24"],
        ),
        (
            {"client_networks": ["10.80.0.0/16", "fd77::/48"]},
            ["networks overlap: vpn_client_networks fd77::/48 and vpn_mesh_networks fd77::/64"],
        ),
        (
            {"client_networks": ["10.9.0.128/25"]},
            ["networks overlap: vpn_client_networks 10.9.0.128/25 and 10.9.0.0/24 (n1, eth1)"],
        ),
        (
            {"mesh_networks": ["198.51.0.0/16"], "client_networks": ["10.8.0.0/15"]},
            [
                "networks overlap: vpn_client_networks 10.8.0.0/15 and 10.9.0.0/24 (n1, eth1)",
                "networks overlap: vpn_mesh_networks 198.51.0.0/16 and 198.51.100.0/24 (lb1, eth0)",
            ],
        ),
    ],
)
def test_overlaps_name_both_sides(changes: Entry, expected: list[str]) -> None:
    assert problems(**changes) == expected


def test_routes_may_contain_the_client_networks() -> None:
    assert plan(routes=["0.0.0.0/0", "::/0"], client_networks=["10.80.0.0/16"])["clients"]


# -- addresses of the hosts ------------------------------------------------------------------

TWO_INTERFACES = {"eth0": "192.0.2.1/24", "eth1": "10.9.0.1/24"}
HINT = "wireguard_node_backend_addresses"


@pytest.mark.parametrize(
    ("report", "networks", "chosen"),
    [
        pytest.param(node("n1", eth0="10.9.0.1/24"), [], "10.9.0.1 eth0", id="the only interface"),
        pytest.param(node("n1", **TWO_INTERFACES), ["10.9.0.0/16"], "10.9.0.1 eth1", id="the networks"),
        pytest.param(node("n1", **TWO_INTERFACES), ["192.0.2.1"], "192.0.2.1 eth0", id="a network of one address"),
        pytest.param(node("n1", hints={HINT: ["192.0.2.1"]}, **TWO_INTERFACES), [], "192.0.2.1 eth0", id="a hint"),
        pytest.param(node("n1", hints={HINT: "192.0.2.1"}, **TWO_INTERFACES), [], "192.0.2.1 eth0", id="a lone hint"),
        pytest.param(
            node("n1", hints={HINT: ["192.0.2.1"]}, **TWO_INTERFACES),
            ["10.9.0.0/24"],
            "192.0.2.1 eth0",
            id="a hint comes before the networks",
        ),
        pytest.param(
            node("n1", hints={HINT: ["10.9.0.2"]}, eth0="10.9.0.1/24 10.9.0.2/24"),
            [],
            "10.9.0.2 eth0",
            id="one of two addresses of an interface",
        ),
    ],
)
def test_how_a_backend_address_is_found(report: Entry, networks: list[str], chosen: str) -> None:
    address, interface = chosen.split()
    result = plan([report], nodes=["n1"], balancers=[], managed_clients=[], backend_networks=networks)
    backend = result["nodes"]["n1"]["backend"]["ip"]
    assert (backend["address"], backend["interface"]) == (address, interface)


@pytest.mark.parametrize(
    ("report", "networks", "problem"),
    [
        pytest.param(
            node("n1", **TWO_INTERFACES),
            [],
            "n1: which backend address? Candidates: 192.0.2.1 on eth0, 10.9.0.1 on eth1."
            f" Set vpn_backend_networks, or {HINT} for this host",
            id="two interfaces",
        ),
        pytest.param(
            node("n1", eth0="10.9.0.1/24", eth1="10.9.7.1/24"),
            ["10.9.0.0/16"],
            "n1: which backend address? Candidates: 10.9.0.1 on eth0, 10.9.7.1 on eth1."
            f" Set vpn_backend_networks, or {HINT} for this host",
            id="two in the networks",
        ),
        pytest.param(
            node("n1", eth0="10.9.0.1/24 2001:db8::1/64 2001:db8::2/64"),
            [],
            "n1: which backend address? Candidates: 2001:db8::1 on eth0, 2001:db8::2 on eth0."
            f" Set vpn_backend_networks, or {HINT} for this host",
            id="two of one family",
        ),
        pytest.param(
            node("n1", hints={HINT: ["192.0.2.1", "10.9.0.1"]}, **TWO_INTERFACES),
            [],
            f"n1: which backend address? Candidates: 192.0.2.1 on eth0, 10.9.0.1 on eth1. {HINT} can name one of them",
            id="a hint of two",
        ),
        pytest.param(
            node("n1", hints={HINT: ["10.9.0.1", "10.9.0.9"]}, **TWO_INTERFACES),
            [],
            f"n1: {HINT}: 10.9.0.9 is not on this host",
            id="a hint of another host",
        ),
        pytest.param(
            node("n1", hints={HINT: ["10.9.0.0/24"]}, **TWO_INTERFACES),
            [],
            f"n1: {HINT}: '10.9.0.0/24' is no address",
            id="a hint that is no address",
        ),
        pytest.param(
            node("n1", **TWO_INTERFACES),
            ["10.7.0.0/24", "fd07::/64"],
            f"n1: has no backend address in 10.7.0.0/24, fd07::/64: check vpn_backend_networks or set {HINT}",
            id="none in the networks",
        ),
        pytest.param(
            node("n1", eth0=""),
            [],
            f"n1: has no backend address on any interface: check vpn_backend_networks or set {HINT}",
            id="none at all",
        ),
    ],
)
def test_addresses_that_can_not_be_told(report: Entry, networks: list[str], problem: str) -> None:
    assert problems([report], nodes=["n1"], balancers=[], managed_clients=[], backend_networks=networks) == [problem]


@pytest.mark.parametrize(
    ("report", "networks", "sides"),
    [
        pytest.param(balancer(), {"public_networks": ["198.51.100.0/24"]}, "eth0 eth1", id="public named"),
        pytest.param(
            balancer(), {"public_networks": [], "backend_networks": ["10.9.0.0/24"]}, "eth0 eth1", id="backend named"
        ),
        pytest.param(
            balancer(),
            {"public_networks": ["198.51.100.0/24"], "backend_networks": ["10.9.0.0/24"]},
            "eth0 eth1",
            id="both named",
        ),
        pytest.param(
            balancer(
                {"haproxy_lb_public_addresses": ["10.9.0.100"], "haproxy_lb_backend_addresses": ["198.51.100.10"]}
            ),
            {"public_networks": []},
            "eth1 eth0",
            id="hints",
        ),
        pytest.param(balancer(eth0="10.9.0.100/24"), {"public_networks": []}, "eth0 eth0", id="one interface for both"),
    ],
)
def test_the_two_sides_of_a_balancer(report: Entry, networks: Entry, sides: str) -> None:
    lb = plan([node("n1"), node("n2"), report, client_host("c1")], **networks)["balancers"]["lb1"]
    assert f"{lb['public']['ip']['interface']} {lb['backend']['ip']['interface']}" == sides


def test_a_balancer_with_two_interfaces_has_to_be_told_which_is_which() -> None:
    listed = "Candidates: 198.51.100.10 on eth0, 10.9.0.100 on eth1."
    assert problems(public_networks=[]) == [
        f"lb1: which backend address? {listed} Set vpn_backend_networks, or haproxy_lb_backend_addresses for this host",
        f"lb1: which public address? {listed} Set vpn_public_networks, or haproxy_lb_public_addresses for this host",
    ]


# -- families ------------------------------------------------------------------------------

DUAL = {
    "n1": "10.9.0.1/24 2001:db8:9::1/64",
    "n2": "10.9.0.2/24 2001:db8:9::2/64",
    "public": "198.51.100.10/24 2001:db8::10/64",
    "backend": "10.9.0.100/24 2001:db8:9::100/64",
}
V4 = {place: addresses.split()[0] for place, addresses in DUAL.items()}
V6 = {place: addresses.split()[1] for place, addresses in DUAL.items()}


def underlay(addresses: dict[str, str]) -> list[Entry]:
    return [
        node("n1", eth1=addresses["n1"]),
        node("n2", eth1=addresses["n2"]),
        balancer(eth0=addresses["public"], eth1=addresses["backend"]),
        client_host("c1"),
    ]


PUBLIC = ["198.51.100.0/24", "2001:db8::/64"]


@pytest.mark.parametrize(
    ("addresses", "families", "warnings"),
    [
        pytest.param(V4, ["ip"], [], id="IPv4 only"),
        pytest.param(V6, ["ip6"], [], id="IPv6 only"),
        pytest.param(DUAL, ["ip", "ip6"], [], id="dual stack"),
        pytest.param(
            {**DUAL, "n2": V4["n2"]}, ["ip"], ["IPv6 is not served: no address at node n2"], id="one node has no IPv6"
        ),
        pytest.param(
            {**DUAL, "n1": V6["n1"], "public": V6["public"]},
            ["ip6"],
            ["IPv4 is not served: no address at node n1, balancer lb1 (public)"],
            id="two places have no IPv4",
        ),
        pytest.param(
            {**V4, "backend": DUAL["backend"]},
            ["ip"],
            ["IPv6 is not served: no address at node n1, node n2, balancer lb1 (public)"],
            id="IPv6 at one place only",
        ),
    ],
)
def test_a_family_is_served_where_a_packet_can_go_all_the_way(
    addresses: dict[str, str], families: list[str], warnings: list[str]
) -> None:
    result = plan(underlay(addresses), public_networks=PUBLIC)
    assert (result["families"], result["warnings"]) == (families, warnings)
    assert [steered["family"] for steered in result["balancers"]["lb1"]["steered"]] == families
    assert [route["family"] for route in result["nodes"]["n1"]["return_routes"]] == [
        {"ip": 4, "ip6": 6}[family] for family in families
    ]


# -- the return path ----------------------------------------------------------------------

BACKEND = ["10.9.0.0/24", "fd00:9::/64"]
DUAL = [
    *(node(f"n{number}", eth1=f"10.9.0.{number}/24 fd00:9::{number}/64") for number in (1, 2)),
    balancer(eth0="198.51.100.10/24 2001:db8::10/64", eth1="10.9.0.100/24 fd00:9::100/64"),
    client_host("c1"),
]
NETWORKS: Entry = {
    "client_networks": ["10.80.0.0/24", "fd00:80::/64"],
    "public_networks": [],
    "backend_networks": BACKEND,
}


def test_in_routed_mode_other_nodes_clients_are_reached_through_the_balancer() -> None:
    result = plan(DUAL, **NETWORKS, return_path="routed")
    assert result["nodes"]["n1"]["client_routes"] == [
        {"network": "10.80.0.0/24", "device": "eth1", "via": "10.9.0.100"},
        {"network": "fd00:80::/64", "device": "eth1", "via": "fd00:9::100"},
    ]
    steered = result["balancers"]["lb1"]["steered"]
    assert [family["client_networks"] for family in steered] == [["10.80.0.0/24"], ["fd00:80::/64"]]


def test_routed_mode_needs_the_clients_families_on_the_backend() -> None:
    lacking = [node("n1"), *DUAL[1:]]
    assert problems(lacking, **NETWORKS, return_path="routed") == [
        "vpn_return_path is routed and vpn_client_networks has fd00:80::/64, but there is no IPv6 address at node n1"
    ]
    assert plan(lacking, **NETWORKS)["families"] == ["ip"]


def test_a_return_path_that_there_is_not() -> None:
    assert problems(return_path="nowhere") == ["vpn_return_path: 'nowhere' is none of nat, routed"]


def test_without_a_common_family_nothing_works() -> None:
    assert problems(underlay({**V4, "n2": V6["n2"]}), public_networks=PUBLIC) == [
        "no address family is common to all nodes and both sides of the balancer: node n1 has IPv4; node n2 has IPv6;"
        " balancer lb1 (public) has IPv4; balancer lb1 (backend) has IPv4"
    ]


# -- clients -------------------------------------------------------------------------------


ADDRESSES = "addresses in vpn_clients or wg_client_addresses"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"clients": ["alice"]}, "vpn_clients[0]: has no name"),
        ({"clients": [{"public_key": key("alice")}]}, "vpn_clients[0]: has no name"),
        (
            {"clients": [client("alice"), client("bob", routes=["10.0.0.0/8", "home"])]},
            "vpn_clients[1] (bob): routes: 'home' is not a network (such as 10.20.0.0/16 or fd00:20::/48)",
        ),
        (
            {"client_dns": ["10.20.0.53", "a b"]},
            "vpn_client_dns: 'a b' is neither the address of a name server nor a search domain",
        ),
        (
            {"clients": [{"name": "alice", "public_key": "short"}]},
            "vpn_clients[0] (alice): public_key: a WireGuard key has 44 characters, this text has 5",
        ),
        (
            {"clients": [{"name": "alice", "public_key": 12345}]},
            "vpn_clients[0] (alice): public_key: a WireGuard key has 44 characters, this text has 5",
        ),
        (
            {"clients": [client("alice"), client("alice")]},
            "vpn_clients[1] (alice): the name is taken by another client",
        ),
        ({"clients": [client("c1")]}, "vpn_clients[0] (c1): the name is taken by another client"),
        (
            {"clients": [client("alice", state="absent"), client("alice")]},
            "vpn_clients[1] (alice): the name is taken by another client",
        ),
        (
            {"clients": [client("alice", state="gone")]},
            "vpn_clients[0] (alice): state 'gone' is none of present, suspended, absent",
        ),
        ({"client_states": {"c1": "gone"}}, "wg_clients (c1): state 'gone' is none of present, suspended, absent"),
        (
            {"clients": [{"name": "alice", "public_key": key("c1")}]},
            f"client c1 and client alice have the same public key {key('c1')}",
        ),
        (
            {"clients": [{"name": "alice", "public_key": key("mesh n1")}]},
            f"mesh n1 and client alice have the same public key {key('mesh n1')}",
        ),
        (
            {"client_addresses": {"c1": ["10.99.0.1"]}},
            f"{ADDRESSES}: 'client c1': 10.99.0.1 is no host address of 10.80.0.0/24",
        ),
        (
            {"clients": [client("alice", addresses="10.80.0.7")]},
            f"{ADDRESSES}: 'client alice': has to be a list, not '10.80.0.7'",
        ),
        (
            {"clients": [client("alice", addresses=["10.80.0.7"])], "client_addresses": {"c1": ["10.80.0.7"]}},
            f"{ADDRESSES}: 10.80.0.7 of 'client alice' is held by 'client c1'",
        ),
        (
            {"clients": [client("alice", addresses=["10.80.0.7"])], "reserved_addresses": ["10.80.0.0/28"]},
            f"{ADDRESSES}: 10.80.0.7 of 'client alice' is reserved:"
            " give it another explicit address, or do not reserve this one",
        ),
    ],
)
def test_clients_that_can_not_work(changes: Entry, problem: str) -> None:
    assert problems(**changes) == [problem]


SITE = "networks 10.31.0.0/24 of client alice"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"clients": [client("alice", expires="soon")]},
            "vpn_clients[0] (alice): expires: 'soon' is neither a date such as 2027-01-31 nor such as"
            " 2027-01-31T18:00:00+01:00",
        ),
        (
            {"client_expires": {"c1": "2026-11-21"}},
            "wg_clients (c1): expires: 2026-11-21 is over, and the client is new",
        ),
        (
            {"clients": [client("alice", groups="staff")]},
            "vpn_clients[0] (alice): groups: 'staff' has to be a list of words",
        ),
        (
            {"clients": [client("alice", networks=["10.31.0.1/24"])]},
            "vpn_clients[0] (alice): networks: 10.31.0.1/24 has host bits set; the network is 10.31.0.0/24",
        ),
        (
            {"clients": [client("alice", networks=["10.31.0.0/24"])], "return_path": "nat"},
            "client alice: networks: 10.31.0.0/24 can be reached in routed mode only, and vpn_return_path is nat",
        ),
        (
            {"clients": [client("alice", networks=["10.31.0.0/24"])], "client_sites": {"c1": ["10.31.0.128/25"]}},
            f"networks overlap: {SITE} and networks 10.31.0.128/25 of client c1",
        ),
        (
            {"clients": [client("alice", networks=["10.80.0.0/16"])]},
            "networks overlap: vpn_client_networks 10.80.0.0/24 and networks 10.80.0.0/16 of client alice",
        ),
        (
            {"clients": [client("alice", networks=["10.31.0.0/24"])], "routes": ["10.31.0.7/32"]},
            f"{SITE}: takes in 10.31.0.7/32 of vpn_routes, which is elsewhere",
        ),
        (
            {"clients": [client("alice", networks=["fd00:31::/64"])]},
            "vpn_return_path is routed and a client has networks fd00:31::/64, but there is no IPv6 address at node n1,"
            " node n2, balancer lb1 (public), balancer lb1 (backend)",
        ),
        ({"access_default": "maybe"}, "vpn_access_default: 'maybe' is none of allow, deny"),
        ({"access": [{"clients": ["carol"]}]}, "vpn_access[0]: clients: there is no client carol"),
    ],
)
def test_terms_that_can_not_work(changes: Entry, problem: str) -> None:
    assert problems(**{"return_path": "routed", **changes}) == [problem]


def test_a_suspended_client_keeps_its_address_and_is_told_apart() -> None:
    before = ledger_of()
    result = plan(ledger=before, clients=[client("alice", state="suspended")])
    assert result["clients"]["alice"]["suspended"]
    assert result["clients"]["alice"]["addresses"] == ["10.80.0.1"]
    assert result["ledger"] == before


@pytest.mark.parametrize(("now", "expired"), [(NOW, False), (LATER, True)])
def test_a_known_client_expires_with_the_end_of_the_day(now: str, expired: bool) -> None:
    result = plan(ledger=ledger_of(), clients=[client("alice", expires="2026-11-22")], now=now)
    assert result["clients"]["alice"]["expired"] is expired
    assert result["clients"]["alice"]["expires"] == 1795392000


def test_networks_behind_a_client_are_routed_like_clients() -> None:
    result = plan(clients=[client("alice", networks=["10.31.0.0/24"])], return_path="routed")
    assert result["sites"] == ["10.31.0.0/24"]
    assert {route["network"] for route in result["nodes"]["n1"]["client_routes"]} == {"10.80.0.0/24", "10.31.0.0/24"}
    assert result["balancers"]["lb1"]["steered"][0]["client_networks"] == ["10.80.0.0/24", "10.31.0.0/24"]


def test_rules_for_access_are_for_addresses_and_networks() -> None:
    rule = {"groups": ["staff"], "to": ["10.20.0.0/16"], "ports": ["tcp/443"]}
    alice = client("alice", groups=["staff"], networks=["10.31.0.0/24"])
    result = plan(clients=[alice], return_path="routed", access=[rule, {"groups": ["gone"]}])
    where = ["10.80.0.1/32", "10.31.0.0/24"]
    assert result["access"] == {
        "enforced": True,
        "default": "allow",
        "rules": [
            {"from": where, "to": ["10.20.0.0/16"], "ports": ["tcp . 443"]},
            {"from": [], "to": ["10.0.0.0/8", "10.31.0.0/24"], "ports": ["0-255 . 0-65535"]},
        ],
        "restricted": where,
    }
    assert result["warnings"] == ["vpn_access[1]: no client is in the group gone"]


@pytest.mark.parametrize(
    "name",
    [
        "alice\n",
        "alice\n[Peer]\nPublicKey = x",
        "\nalice",
        "a b",
        "-a",
        ".a",
        "",
        "a/b",
        "a" * 64,
        "zoë",
        "a\u2028b",
        "a#b",
    ],
)
def test_names_that_could_break_out_of_a_comment_or_a_path_are_refused(name: str) -> None:
    assert len(problems(clients=[client(name)])) == 1
    assert problems(managed_clients=[name]) == [
        f"wg_clients: {name!r} is no usable name (letters, digits and _ . @ -, at most 63)"
    ]


@pytest.mark.parametrize("name", ["a", "alice-phone", "alice@example.com", "n_1.a", "0", "a" * 63])
def test_usable_names(name: str) -> None:
    assert name in plan(clients=[client(name)])["clients"]


@pytest.mark.parametrize(
    ("alice", "problem"),
    [
        (client("alice", psk="maybe"), "vpn_clients[0] (alice): psk: 'maybe' is neither true nor false"),
        (client("alice", state="gone"), "vpn_clients[0] (alice): state 'gone' is none of present, suspended, absent"),
    ],
)
def test_a_known_client_with_a_mistake_is_not_called_missing(alice: Entry, problem: str) -> None:
    assert problems(ledger=ledger_of(), clients=[alice]) == [problem]


def test_a_device_without_a_key_is_pending_until_it_has_one() -> None:
    bare = {"name": "bob"}
    before = plan(clients=[bare])
    assert before["pending"] == ["bob"]
    assert ("client", "bob") not in [(e["kind"], e["name"]) for e in before["ledger"]]
    made = plan(clients=[bare], device_keys={"bob": key("bob")})
    assert made["pending"] == []
    assert made["clients"]["bob"]["public_key"] == entry(made, "client", "bob")["public_key"] == key("bob")
    # From then on the ledger knows it, until there is another one.
    assert plan(clients=[bare], ledger=made["ledger"])["clients"]["bob"] == made["clients"]["bob"]
    again = plan(clients=[bare], ledger=made["ledger"], device_keys={"bob": key("bob's new one")})
    assert again["clients"]["bob"]["public_key"] == key("bob's new one")
    assert again["clients"]["bob"]["addresses"] == made["clients"]["bob"]["addresses"]


def test_of_two_controllers_that_add_a_client_at_once_the_second_takes_the_next_address() -> None:
    """Both have read the same ledger. One can write (see vpn_ledger), and the other goes on from what is there then."""
    before = ledger_of()
    first = plan(ledger=before, clients=[client("alice"), client("bob")])
    second = plan(ledger=before, clients=[client("alice"), client("carol")])
    assert first["clients"]["bob"]["addresses"] == second["clients"]["carol"]["addresses"]
    both = [client("alice"), client("bob"), client("carol")]
    after = plan(ledger=first["ledger"], clients=both)
    assert after["clients"]["bob"] == first["clients"]["bob"]
    assert after["clients"]["carol"]["addresses"] not in [c["addresses"] for c in first["clients"].values()]


def test_explicit_addresses_and_reserved_ones() -> None:
    result = plan(
        clients=[client("alice", addresses=["10.80.0.50"])],
        client_addresses={"c1": ["10.80.0.60"]},
        reserved_addresses=["10.80.0.0/28"],
    )
    assert [c["addresses"] for c in result["clients"].values()] == [["10.80.0.50"], ["10.80.0.60"]]
    assert entry(result, "node", "n1")["addresses"] == ["10.80.0.16"]


def test_a_host_that_was_never_seen_is_pending_and_holds_nothing() -> None:
    result = plan(REPORTS[1:3])
    assert result["pending"] == ["c1", "n1"]
    assert set(result["clients"]) == {"alice"}
    assert set(result["nodes"]) == {"n2"}
    assert {e["name"] for e in result["ledger"]} == {"alice", "n2", "lb1"}


def test_a_host_that_was_reached_before_it_has_a_key_is_pending() -> None:
    result = plan([*REPORTS[:3], {**client_host("c1"), "keys": {}}])
    assert result["pending"] == ["c1"]


def test_who_was_removed_and_comes_back_is_pending_until_seen_again() -> None:
    gone = plan(ledger=ledger_of(), now=LATER, nodes=["n1"], client_states={"c1": "absent"}, max_removals=1)["ledger"]
    back = plan([node("n1"), balancer()], gone, LATER)
    assert back["pending"] == ["c1", "n2"]
    assert (set(back["nodes"]), set(back["clients"])) == ({"n1"}, {"alice"})


def test_known_keys_stay_until_a_host_reports_new_ones() -> None:
    ledger = ledger_of()
    silent = plan([{**report, "keys": {}} for report in REPORTS], ledger)
    assert silent["ledger"] == ledger
    replaced = plan(
        [node("n1"), {**balancer(), "keys": {"probe": key("new")}}, client_host("c1", key("newer"))], ledger
    )
    assert replaced["balancers"]["lb1"]["probe_public_key"] == key("new")
    assert replaced["balancers"]["lb1"]["mesh_public_key"] == key("mesh lb1")
    assert replaced["clients"]["c1"]["public_key"] == key("newer")
    assert [e["addresses"] for e in replaced["ledger"]] == [e["addresses"] for e in ledger]


# -- removals ------------------------------------------------------------------------------

THREE = [client("alice"), client("bob"), client("carol")]


@pytest.mark.parametrize(
    ("clients", "most", "gone"),
    [
        pytest.param([client("alice"), client("bob"), client("carol", state="absent")], 0, ["carol"], id="one absent"),
        pytest.param(
            [client(n, state="absent") for n in ("alice", "bob", "carol")], 0, ["alice", "bob", "carol"], id="all"
        ),
        pytest.param(
            [client("alice"), {"name": "bob", "state": "absent"}], 1, ["bob", "carol"], id="absent counts not"
        ),
        pytest.param([client("alice"), client("bob")], 1, ["carol"], id="one omitted"),
        pytest.param([client("bob")], 5, ["alice", "carol"], id="fewer than may go"),
        pytest.param([client("nobody", state="absent"), *THREE], 0, [], id="an absent one that nobody knows"),
    ],
)
def test_clients_go_when_they_are_absent_or_when_omission_is_allowed(
    clients: list[Entry], most: int, gone: list[str]
) -> None:
    result = plan(ledger=ledger_of(clients=THREE), now=LATER, clients=clients, max_removals=most)
    assert released(result) == [("client", name) for name in gone]
    assert set(result["clients"]) == {"alice", "bob", "carol", "c1"} - set(gone)
    assert not released(plan(ledger=result["ledger"], now=MUCH_LATER, clients=clients)), "the quarantine is over"


def test_a_host_goes_with_its_state() -> None:
    result = plan(ledger=ledger_of(), client_states={"c1": "absent"})
    assert (released(result), set(result["clients"])) == ([("client", "c1")], {"alice"})


@pytest.mark.parametrize(
    ("clients", "most", "names"),
    [
        ([client("alice"), client("bob")], 0, "carol"),
        ([], 0, "alice, bob, carol"),
        ([client("bob")], 1, "alice, carol"),
    ],
)
def test_more_omissions_than_allowed_are_refused_with_their_names(clients: list[Entry], most: int, names: str) -> None:
    count = len(names.split(", "))
    assert problems(ledger=ledger_of(clients=THREE), clients=clients, max_removals=most) == [
        f"{count} known client(s) are missing from the inventory and from vpn_clients: {names}."
        " Remove a client with state: absent (wg_client_state for a host), or allow it for this run with"
        f" -e vpn_max_removals={count} (now {most})"
    ]


@pytest.mark.parametrize(
    ("missing", "group", "names"),
    [
        ({"nodes": ["n1"]}, "wireguard_nodes", "n2"),
        ({"balancers": []}, "haproxy_lbs", "lb1"),
    ],
)
def test_hosts_do_not_disappear_by_omission_either(missing: Entry, group: str, names: str) -> None:
    assert problems(ledger=ledger_of(), **missing) == [
        f"1 known host(s) are missing from {group}: {names}. If they shall leave the cluster, allow it for this run"
        " with -e vpn_max_removals=1 (now 0)"
    ]
    allowed = plan(ledger=ledger_of(), max_removals=1, **missing)
    assert names not in {**allowed["nodes"], **allowed["balancers"]}


@pytest.mark.parametrize(
    ("members", "name", "group"), [("nodes", "n2", "wireguard_nodes"), ("balancers", "lb1", "haproxy_lbs")]
)
def test_a_host_that_is_decommissioned_may_be_missing_and_does_not_come_back_by_itself(
    members: str, name: str, group: str
) -> None:
    before = set(plan()[members])
    without = {members: sorted(before - {name})}
    gone = plan(ledger=ledger_of(), now=LATER, leaving=[name], **without)
    assert set(gone[members]) == before - {name}
    assert {who for _kind, who in released(gone)} == {name}
    assert problems(ledger=gone["ledger"]) == [
        f"{name}: was decommissioned ({LATER}) and is still in {group}: take it out, or let it join anew with"
        f' -e \'{{"vpn_replaced_hosts": ["{name}"]}}\''
    ]
    assert plan(ledger=gone["ledger"], now=LATER, **without)["ledger"] == gone["ledger"]
    back = plan(ledger=gone["ledger"], now=LATER, replaced_hosts=[name])
    assert set(back[members]) == before
    assert not any("decommissioned" in entry for entry in back["ledger"])
    assert plan(ledger=back["ledger"], now=LATER)["ledger"] == back["ledger"]


def test_a_decommissioned_node_is_known_longer_than_its_addresses_rest() -> None:
    gone = plan(ledger=ledger_of(), now=LATER, leaving=["n2"], nodes=["n1"], quarantine_days=0)
    assert [entry for entry in gone["ledger"] if entry["name"] == "n2"] == [
        {"kind": "node", "name": "n2", "id": 2, "released": LATER, "decommissioned": True}
    ]
    assert plan(ledger=gone["ledger"], now=LATER, nodes=["n1"], quarantine_days=0)["ledger"] == gone["ledger"]
    assert "n2: was decommissioned" in problems(ledger=gone["ledger"], quarantine_days=0)[0]
    back = plan(ledger=gone["ledger"], now=LATER, replaced_hosts=["n2"], quarantine_days=0)
    assert back["nodes"]["n2"]["id"] != back["nodes"]["n1"]["id"]


def test_nobody_else_may_be_missing_when_one_is_decommissioned() -> None:
    [problem] = problems(ledger=ledger_of(), leaving=["n2"], nodes=["n1"], balancers=[])
    assert "missing from haproxy_lbs: lb1" in problem


def test_a_pre_shared_key_is_renewed_once_by_a_run_that_is_to() -> None:
    first = plan(ledger=ledger_of(), renewed_psks=["c1"])
    assert [plan["clients"]["c1"].get("psk_renewals") for plan in (plan(), first)] == [None, 1]
    assert "psk_renewals" not in first["clients"]["alice"]
    assert plan(ledger=first["ledger"])["ledger"] == first["ledger"]
    assert plan(ledger=first["ledger"], renewed_psks=["c1"])["clients"]["c1"]["psk_renewals"] == 2


def test_a_long_list_of_omissions_is_shortened() -> None:
    ledger = ledger_of(clients=[client(f"p{n:02}") for n in range(25)])
    [problem] = problems(ledger=ledger, clients=[])
    assert "p18, p19 and 5 more." in problem
    assert "vpn_max_removals=25" in problem


def test_an_empty_inventory_source_removes_nobody_whatever_is_allowed() -> None:
    assert problems(ledger=ledger_of(), clients=[], managed_clients=[], max_removals=100) == [
        "the inventory has no client at all, but the ledger knows alice, c1: this looks like an empty or broken"
        " inventory source. Remove the last clients with state: absent"
    ]


def test_who_comes_back_gets_the_old_address_and_may_bring_a_new_key() -> None:
    first = plan(clients=THREE)
    second = plan(ledger=first["ledger"], now=LATER, clients=[THREE[0], client("bob", state="absent"), THREE[2]])
    third = plan(ledger=second["ledger"], now=LATER, clients=[*THREE, client("dave")])
    assert third["clients"]["bob"] == first["clients"]["bob"]
    fourth = plan(ledger=second["ledger"], now=LATER, clients=[*THREE[::2], {"name": "bob", "public_key": key("new")}])
    assert fourth["clients"]["bob"] == {**first["clients"]["bob"], "public_key": key("new")}


def test_a_key_may_be_used_again_once_its_holder_is_gone() -> None:
    result = plan(
        ledger=ledger_of(), clients=[client("alice", state="absent"), {**client("phone"), "public_key": key("alice")}]
    )
    assert result["clients"]["phone"]["public_key"] == key("alice")


# -- numbers of nodes ------------------------------------------------------------------------


def numbers(plan: Entry) -> dict[str, int]:
    return {name: node["id"] for name, node in plan["nodes"].items()}


def test_a_number_rests_as_long_as_the_tombstone_of_its_node() -> None:
    reports = [*REPORTS, node("n3"), node("n4")]
    first = plan(reports, nodes=["n1", "n2", "n3"])
    assert numbers(first) == {"n1": 1, "n2": 2, "n3": 3}
    second = plan(reports, first["ledger"], LATER, nodes=["n1", "n3"], max_removals=1)
    assert numbers(second) == {"n1": 1, "n3": 3}
    assert entry(second, "node", "n2")["id"] == 2
    third = plan(reports, second["ledger"], LATER, nodes=["n1", "n3", "n4"])
    assert numbers(third) == {"n1": 1, "n3": 3, "n4": 4}
    back = plan(reports, third["ledger"], LATER, nodes=["n1", "n2", "n3", "n4"])
    assert numbers(back) == {"n1": 1, "n2": 2, "n3": 3, "n4": 4}
    free = plan(reports, second["ledger"], MUCH_LATER, nodes=["n1", "n3", "n4"])
    assert numbers(free) == {"n1": 1, "n3": 3, "n4": 2}


# -- stability -------------------------------------------------------------------------------

NODES, CLIENTS, HOSTS = [f"n{n}" for n in range(1, 6)], [f"p{n}" for n in range(6)], [f"h{n}" for n in range(4)]
EVERYBODY = {
    **{name: node(name) for name in NODES},
    "lb1": balancer(),
    **{name: client_host(name) for name in HOSTS},
}


def names_of(names: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), unique=True)


runs = st.fixed_dictionaries(
    {
        "nodes": names_of(NODES).filter(len),
        "balancers": names_of(["lb1"]),
        "clients": names_of(CLIENTS),
        "managed_clients": names_of(HOSTS),
        "reached": names_of([*EVERYBODY]),
        "days": st.integers(0, 20),
    }
)


def run(wanted: Entry, ledger: list[Entry], day: int, reached: list[str]) -> Entry:
    """One run that wants exactly these members: whoever else was a client is absent, other hosts may just be gone."""
    gone = {e["name"] for e in ledger if e["kind"] == "client"} - {*wanted["clients"], *wanted["managed_clients"]}
    return plan(
        [EVERYBODY[name] for name in reached],
        ledger,
        f"2026-{1 + day // 28:02}-{1 + day % 28:02}T00:00:00Z",
        nodes=wanted["nodes"],
        balancers=wanted["balancers"],
        clients=[
            *(client(name) for name in wanted["clients"]),
            *({"name": name, "state": "absent"} for name in sorted(gone)),
        ],
        managed_clients=wanted["managed_clients"],
        max_removals=len(EVERYBODY),
    )


IDENTITY = ("addresses", "id", "public_key", "underlay")


@settings(max_examples=150)
@given(st.lists(runs, min_size=2, max_size=6))
def test_whatever_comes_and_goes_nobody_elses_identity_changes(history: list[Entry]) -> None:
    ledger: list[Entry] = []
    day = 0
    for wanted in history:
        day += wanted["days"]
        before = {(e["kind"], e["name"]): e for e in ledger}
        result = run(wanted, ledger, day, wanted["reached"])
        ledger = result["ledger"]
        now = {(e["kind"], e["name"]): e for e in ledger}
        members = {
            "node": set(wanted["nodes"]),
            "probe": set(wanted["balancers"]),
            "mesh": {*wanted["nodes"], *wanted["balancers"]},
            "client": {*wanted["clients"], *wanted["managed_clients"]},
        }
        for (kind, name), old in before.items():
            if name not in members[kind]:
                assert "released" in now.get((kind, name), {"released": None})
            elif "released" not in old:
                # Reached or not: who was there and is still wanted is there as before.
                assert [now[kind, name].get(k) for k in IDENTITY] == [old.get(k) for k in IDENTITY]
                assert "released" not in now[kind, name]
        held = [address for e in ledger for address in e["addresses"]]
        assert len(held) == len(set(held))
        ids = [e["id"] for e in ledger if e["kind"] == "node"]
        assert len(ids) == len(set(ids))
        assert run(wanted, ledger, day, wanted["reached"])["ledger"] == ledger, "its own ledger is a fixed point"


@settings(max_examples=50)
@given(names_of([*EVERYBODY]))
def test_a_run_with_fewer_reports_plans_the_same(reached: list[str]) -> None:
    wanted = {"nodes": NODES, "balancers": ["lb1"], "clients": CLIENTS, "managed_clients": HOSTS}
    whole = run(wanted, [], 0, [*EVERYBODY])
    assert run(wanted, whole["ledger"], 1, reached) == whole


# -- reports -------------------------------------------------------------------------------

V4_FACT = {"address": "192.0.2.5", "netmask": "255.255.255.0", "network": "192.0.2.0", "prefix": "24"}
V6_FACTS = [
    {"address": "2001:db8::5", "prefix": "64", "scope": "global"},
    {"address": "fe80::5", "prefix": "64", "scope": "link"},
]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({}, {}, id="no facts"),
        pytest.param({"interfaces": ["eth0"]}, {}, id="an interface without facts"),
        pytest.param(
            {"interfaces": ["eth0"], "eth0": {"ipv4": V4_FACT, "ipv6": V6_FACTS}},
            interfaces(eth0="192.0.2.5/24 2001:db8::5/64"),
            id="both families, no link-local",
        ),
        pytest.param(
            {
                "interfaces": ["eth0"],
                "eth0": {"ipv4": V4_FACT, "ipv4_secondaries": [{**V4_FACT, "address": "192.0.2.6"}]},
            },
            interfaces(eth0="192.0.2.5/24 192.0.2.6/24"),
            id="secondary addresses",
        ),
        pytest.param(
            {"interfaces": ["eth0"], "eth0": {"ipv4": {"address": "192.0.2.5", "netmask": "255.255.255.0"}}},
            interfaces(eth0="192.0.2.5/255.255.255.0"),
            id="no prefix, as older releases of Ansible",
        ),
        pytest.param(
            # So does ansible-core 2.19 spell the bridge br-x with VLAN 1.
            {"interfaces": ["br-x.1"], "br_x.1": {"ipv4": V4_FACT}},
            interfaces(**{"br-x.1": "192.0.2.5/24"}),
            id="a dash and a dot",
        ),
        pytest.param(
            {
                "interfaces": ["wfp1", "wfp0a1b2c-65535", "wg0", "lo", "wfpx", "eth0", "wf-prod"],
                **{name: {"ipv4": V4_FACT} for name in ("wfp1", "wfp0a1b2c_65535", "wg0", "lo", "wfpx", "wf_prod")},
                "eth0": {"ipv6": V6_FACTS[1:]},
            },
            interfaces(wfpx="192.0.2.5/24"),
            id="neither loopback nor tunnels of ours",
        ),
    ],
)
def test_a_report_lists_the_global_addresses_of_an_underlay(facts: Entry, expected: Entry) -> None:
    report = host_report("n1", facts, {}, {}, ["wg0", "wf-prod"])
    assert report == {"name": "n1", "interfaces": expected, "keys": {}, "hints": {}}


def test_a_report_leaves_out_what_is_empty() -> None:
    report = host_report("n1", {}, {"mesh": key("m"), "client": None}, {HINT: ["10.9.0.1"], "other": []})
    assert report == {"name": "n1", "interfaces": {}, "keys": {"mesh": key("m")}, "hints": {HINT: ["10.9.0.1"]}}


def test_the_plan_reads_a_report_with_a_netmask() -> None:
    facts = {"interfaces": ["eth0"], "eth0": {"ipv4": {"address": "10.9.0.1", "netmask": "255.255.255.0"}}}
    result = plan([host_report("n1", facts, {}, {})], nodes=["n1"], balancers=[], managed_clients=[])
    assert result["nodes"]["n1"]["backend"]["ip"]["network"] == "10.9.0.0/24"


def test_a_controller_without_netaddr_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{build_plan.__module__}.netaddr", None)
    assert problems() == ["the controller's Python has no library netaddr (pip install netaddr)"]


# -- monitors -----------------------------------------------------------------------------

MONITOR = {"name": "mon", "interfaces": {}, "keys": {"mesh": key("mesh mon")}, "hints": {}}


def test_a_monitor_is_in_the_mesh_and_nowhere_else() -> None:
    result = plan([*REPORTS, MONITOR], monitors=["mon"])
    assert result["monitors"] == {"mon": {"mesh_addresses": ["fd77::2"], "mesh_public_key": key("mesh mon")}}
    assert "mon" not in result["nodes"] | result["balancers"] | result["clients"]
    assert (result["pending"], result["warnings"]) == ([], [])


def test_a_monitor_that_this_run_does_not_reach_stays() -> None:
    before = plan([*REPORTS, MONITOR], monitors=["mon"])
    after = plan(ledger=before["ledger"], monitors=["mon"], now=LATER)
    assert after["ledger"] == before["ledger"]
    assert after["monitors"] == before["monitors"]


def test_a_monitor_without_a_key_is_pending() -> None:
    assert plan(monitors=["mon"])["pending"] == ["mon"]


def test_a_balancer_may_be_a_monitor() -> None:
    result = plan(monitors=["lb1"])
    assert result["monitors"]["lb1"]["mesh_addresses"] == result["balancers"]["lb1"]["mesh_addresses"]


def test_a_monitor_does_not_disappear_by_omission() -> None:
    before = ledger_of(reports=[*REPORTS, MONITOR], monitors=["mon"])
    [problem] = problems(ledger=before)
    assert problem.startswith("1 known host(s) are missing from vpn_monitors: mon.")
    after = plan(ledger=before, max_removals=1)
    assert released(after) == [("mesh", "mon")]
    assert after["monitors"] == {}
    assert after["usage"][1]["quarantined"] == 1
