# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The addresses that balancers share, as the plan of a whole cluster has them."""

from __future__ import annotations

from typing import Any

import pytest

from .test_plan import balancer, client_host, entry, ledger_of, node, plan, problems

Entry = dict[str, Any]

NODES = [node(n, eth1=f"10.9.0.{n[1:]}/24 fd00:9::{n[1:]}/64") for n in ("n1", "n2")]
VIPS = {"vip": ["198.51.100.1/24", "2001:db8::1/64"], "backend_vip": ["10.9.0.254/24", "fd00:9::254/64"]}
NETWORKS = {"public_networks": ["198.51.100.0/24", "2001:db8::/64"], "backend_networks": ["10.9.0.0/24", "fd00:9::/64"]}
PAIR: Entry = {"balancers": ["lb1", "lb2"], "vip_mode": "vrrp", **VIPS, **NETWORKS}


def lb(number: int, public: str = "", backend: str = "") -> Entry:
    """A balancer; `public` and `backend` are more addresses that it has just now."""
    return {
        **balancer(
            eth0=f"198.51.100.1{number}/24 2001:db8::1{number}/64 {public}",
            eth1=f"10.9.0.10{number}/24 fd00:9::10{number}/64 {backend}",
        ),
        "name": f"lb{number}",
        "keys": {},
    }


def reports(*balancers: Entry) -> list[Entry]:
    return [*NODES, *(balancers or (lb(1), lb(2))), client_host("c1")]


def test_what_clients_and_nodes_speak_to_is_the_shared_address() -> None:
    result = plan(reports(), **PAIR)
    assert result["families"] == ["ip", "ip6"]
    for name, peers in (("lb1", ["10.9.0.102", "fd00:9::102"]), ("lb2", ["10.9.0.101", "fd00:9::101"])):
        steered = result["balancers"][name]["steered"]
        assert [side["public_address"] for side in steered] == ["198.51.100.1", "2001:db8::1"]
        assert [side["peers"] for side in steered] == [[peer] for peer in peers]
        assert result["balancers"][name]["vips"] == [
            {"address": "10.9.0.254/24", "interface": "eth1"},
            {"address": "fd00:9::254/64", "interface": "eth1"},
            {"address": "198.51.100.1/24", "interface": "eth0"},
            {"address": "2001:db8::1/64", "interface": "eth0"},
        ]
    for each in result["nodes"].values():
        assert [route["via"] for route in each["return_routes"]] == ["10.9.0.254", "fd00:9::254"]


def test_nodes_reach_other_nodes_clients_through_it_too() -> None:
    result = plan(reports(), **PAIR, return_path="routed", client_networks=["10.80.0.0/24", "fd00:80::/64"])
    for each in result["nodes"].values():
        assert [route["via"] for route in each["client_routes"]] == ["10.9.0.254", "fd00:9::254"]


def test_whoever_has_the_addresses_just_now_the_plan_is_the_same() -> None:
    active = lb(1, public="198.51.100.1/24 2001:db8::1/64", backend="10.9.0.254/24 fd00:9::254/64")
    assert plan(reports(active, lb(2)), **PAIR) == plan(reports(), **PAIR)


def test_a_balancer_that_is_not_reached_is_known_from_the_ledger() -> None:
    whole = plan(reports(), **PAIR)
    partial = plan(reports(lb(1)), whole["ledger"], **PAIR)
    assert partial["balancers"] == whole["balancers"]
    assert entry(partial, "probe", "lb2")["underlay"]["backend"]["ip"]["address"] == "10.9.0.102"


def test_one_balancer_may_have_them_too() -> None:
    result = plan(reports(lb(1)), **{**PAIR, "balancers": ["lb1"]})
    assert len(result["balancers"]["lb1"]["vips"]) == 4
    assert [side["peers"] for side in result["balancers"]["lb1"]["steered"]] == [[], []]


def test_one_network_may_have_one_address_for_both_sides() -> None:
    vip = ["10.9.0.254/24"]
    arm = {**balancer(eth1="10.9.0.101/24"), "name": "lb1"}
    changes = {"vip": vip, "backend_vip": vip, "vip_mode": "vrrp", "public_networks": [], "backend_networks": []}
    result = plan([node("n1"), node("n2"), arm, client_host("c1")], **changes)
    assert result["balancers"]["lb1"]["vips"] == [{"address": "10.9.0.254/24", "interface": "eth1"}]


@pytest.mark.parametrize(("vip", "public"), [([], "198.51.100.1{}"), (["203.0.113.7/32"], "203.0.113.7")])
def test_somebody_else_may_move_them(vip: list[str], public: str) -> None:
    """A cloud may translate addresses, so that packets arrive with the balancers' own; or route an address to them."""
    result = plan(reports(), **{**PAIR, "vip_mode": "external", "vip": vip, "backend_vip": ["10.9.0.254/24"]})
    assert result["families"] == ["ip"]
    for number, name in enumerate(("lb1", "lb2"), 1):
        assert result["balancers"][name]["vips"] == []
        assert result["balancers"][name]["steered"][0]["public_address"] == public.format(number)
    assert result["nodes"]["n1"]["return_routes"][0]["via"] == "10.9.0.254"


def test_a_floating_address_is_of_no_network() -> None:
    result = plan(reports(), **{**PAIR, "vip": ["203.0.113.7/32"], "backend_vip": ["10.9.0.254/24"]})
    assert result["balancers"]["lb1"]["vips"] == [
        {"address": "10.9.0.254/24", "interface": "eth1"},
        {"address": "203.0.113.7/32", "interface": "eth0"},
    ]


def test_a_family_without_shared_addresses_is_not_served() -> None:
    result = plan(reports(), **{**PAIR, "vip": VIPS["vip"][:1], "backend_vip": VIPS["backend_vip"][:1]})
    assert result["families"] == ["ip"]
    assert result["warnings"] == ["IPv6 is not served: no address at vpn_vip, vpn_backend_vip"]


SEVERAL = "haproxy_lbs has 2 hosts (lb1, lb2)"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"vip": [], "backend_vip": [], "vip_mode": "none"},
            [f"{SEVERAL}: they need addresses that one of them has at a time: set vpn_vip and vpn_backend_vip"],
            id="none",
        ),
        pytest.param(
            {"vip": VIPS["vip"][:1], "backend_vip": [], "vip_mode": "none"},
            ["vpn_vip_mode is none, but vpn_vip or vpn_backend_vip have addresses (198.51.100.1/24)"],
            id="a mode that denies them",
        ),
        pytest.param(
            {"vip": [], "backend_vip": []},
            ["vpn_vip_mode is vrrp, but vpn_vip is empty: name the address that clients connect to"],
            id="no public one",
        ),
        pytest.param(
            {"backend_vip": VIPS["backend_vip"][:1]},
            ["vpn_vip: 2001:db8::1/64 is IPv6, of which vpn_backend_vip has no address: nodes could not answer"],
            id="a family without a way back",
        ),
        pytest.param(
            {"vip_mode": "external", "vip": [], "backend_vip": []},
            [f"{SEVERAL}, and vpn_vip_mode is external: set vpn_backend_vip, through which nodes answer"],
            id="external without a way back",
        ),
        *(
            pytest.param(
                {"vip": [text]},
                [f"vpn_vip: {text!r} is no address with its prefix (such as 198.51.100.10/24)"],
                id=text or "empty",
            )
            for text in ("198.51.100.1", "198.51.100.0/24", "vpn.example.com/24", "198.51.100.1/33", "")
        ),
        pytest.param(
            {"backend_vip": ["10.9.0.254/24", "10.9.0.253/24"]},
            ["vpn_backend_vip: 10.9.0.253/24 is the second address of IPv4; one is enough"],
            id="two of one family",
        ),
        pytest.param(
            {"vip": ["203.0.113.1/24"]},
            [
                f"vpn_vip: 203.0.113.1/24 is not in 198.51.100.0/24, the public network of {name} (eth0)"
                for name in ("lb1", "lb2")
            ],
            id="public network",
        ),
        pytest.param(
            {"vip_mode": "external", "vip": ["203.0.113.1/32"], "backend_vip": ["192.0.2.1/32"]},
            [
                f"vpn_backend_vip: 192.0.2.1/32 is not in 10.9.0.0/24, the backend network of {name} (eth1)"
                for name in ("n1", "n2")
            ],
            id="backend network",
        ),
        pytest.param(
            {"backend_vip": ["10.9.0.2/24", "fd00:9::254/64"]},
            ["n2: 10.9.0.2 on eth1 is vpn_backend_vip: take another one"],
            id="a node's own",
        ),
    ],
)
def test_variables_that_can_not_work(changes: Entry, expected: list[str]) -> None:
    assert problems(reports(), **{**PAIR, **changes}) == expected


def test_the_own_address_of_a_balancer() -> None:
    first = {**balancer(eth0="198.51.100.1/24 2001:db8::11/64", eth1="10.9.0.101/24 fd00:9::101/64"), "keys": {}}
    assert problems(reports(first, lb(2)), **PAIR) == [
        "lb1: 198.51.100.1 on eth0 is vpn_vip, and the only address there: a balancer needs one of its own beside it"
    ]


def test_the_own_address_of_a_host_that_is_not_reached() -> None:
    ledger = plan(reports(), **PAIR)["ledger"]
    changes = {**PAIR, "backend_vip": ["10.9.0.102/24", "fd00:9::254/64"]}
    assert problems(reports(lb(1)), ledger, **changes) == ["vpn_backend_vip: 10.9.0.102/24 is the own address of lb2"]


def test_a_host_without_the_family() -> None:
    second = {**balancer(eth0="198.51.100.12/24", eth1="10.9.0.102/24"), "name": "lb2", "keys": {}}
    assert problems(reports(lb(1), second), **PAIR) == [
        "vpn_vip: 2001:db8::1/64 is IPv6, and lb2 has no such address on its public side",
        "vpn_backend_vip: fd00:9::254/64 is IPv6, and lb2 has no such address on its backend side",
    ]


def test_a_single_address_need_not_be_a_list() -> None:
    changes = {"vip": VIPS["vip"][:1], "backend_vip": VIPS["backend_vip"][:1]}
    single = {name: addresses[0] for name, addresses in changes.items()}
    assert plan(reports(), **{**PAIR, **single}) == plan(reports(), **{**PAIR, **changes})


def test_without_them_nothing_is_different() -> None:
    assert ledger_of() == ledger_of(vip=[], backend_vip=[], vip_mode="none")
