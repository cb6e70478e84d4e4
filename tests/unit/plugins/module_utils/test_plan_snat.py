# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""With vpn_forwarding snat nodes need no way to anybody but the balancers."""

from __future__ import annotations

from typing import Any

import pytest

from .test_plan import balancer, client_host, node, plan, problems
from .test_vips import PAIR, lb, reports

ELSEWHERE = {"eth1": "10.30.0.1/24 fd00:30::1/64"}
SECOND = {"haproxy_lb_snat_addresses": ["10.9.0.100", "10.9.0.110"]}


def one(hints: Any = None) -> list[Any]:
    return [
        node("n1", **ELSEWHERE),
        node("n2"),
        balancer(hints, eth0="198.51.100.10/24", eth1="10.9.0.100/24 10.9.0.110/24"),
        client_host("c1"),
    ]


def test_nodes_know_clients_by_the_balancers_own_address() -> None:
    result = plan([node("n1", **ELSEWHERE), node("n2"), balancer(), client_host("c1")], forwarding="snat")
    assert [side["snat_addresses"] for side in result["balancers"]["lb1"]["steered"]] == [["10.9.0.100"]]
    assert result["snat_sources"] == {"ip": ["10.9.0.100"]}
    assert [each["return_routes"] for each in result["nodes"].values()] == [[], []]


def test_nodes_know_clients_by_the_address_that_moves() -> None:
    """And they may be in other networks than that."""
    backend = ["10.9.0.0/24", "fd00:9::/64", "10.30.0.0/24", "fd00:30::/64"]
    elsewhere = [node("n1", **ELSEWHERE), *reports()[1:]]
    result = plan(elsewhere, forwarding="snat", **{**PAIR, "backend_networks": backend})
    for name in ("lb1", "lb2"):
        steered = result["balancers"][name]["steered"]
        assert [side["snat_addresses"] for side in steered] == [["10.9.0.254"], ["fd00:9::254"]]
    assert result["snat_sources"]["ip"] == ["10.9.0.101", "10.9.0.102", "10.9.0.254"]


@pytest.mark.parametrize("backend_vip", [[], ["10.9.0.250/24", "fd00:9::250/64"]])
def test_an_address_that_the_operator_moves_is_not_the_balancers(backend_vip: list[str]) -> None:
    """It may be a router's, and is not needed at all."""
    result = plan(reports(), forwarding="snat", **{**PAIR, "vip_mode": "external", "backend_vip": backend_vip})
    for number in (1, 2):
        steered = result["balancers"][f"lb{number}"]["steered"]
        assert [side["snat_addresses"] for side in steered] == [[f"10.9.0.10{number}"], [f"fd00:9::10{number}"]]


def test_a_pair_may_do_without_a_shared_address_for_nodes() -> None:
    result = plan(reports(), forwarding="snat", **{**PAIR, "backend_vip": []})
    assert [v["address"] for v in result["balancers"]["lb1"]["vips"]] == ["198.51.100.1/24", "2001:db8::1/64"]
    assert result["balancers"]["lb1"]["steered"][0]["snat_addresses"] == ["10.9.0.101"]


def test_the_operator_chooses_addresses_and_the_ledger_knows_them() -> None:
    hints = {**SECOND, "haproxy_lb_backend_addresses": ["10.9.0.100"]}
    result = plan(one(hints), forwarding="snat")
    assert result["balancers"]["lb1"]["steered"][0]["snat_addresses"] == ["10.9.0.100", "10.9.0.110"]
    unreached = [each for each in one() if each["name"] != "lb1"]
    again = plan(unreached, result["ledger"], forwarding="snat")
    assert again["snat_sources"] == result["snat_sources"] == {"ip": ["10.9.0.100", "10.9.0.110"]}
    assert again["ledger"] == result["ledger"]


def test_the_chosen_address_may_be_the_one_that_moves() -> None:
    first = lb(1)
    first["hints"] = {"haproxy_lb_snat_addresses": ["10.9.0.254", "10.9.0.101"]}
    result = plan(reports(first, lb(2)), forwarding="snat", **PAIR)
    steered = result["balancers"]["lb1"]["steered"]
    assert [side["snat_addresses"] for side in steered] == [["10.9.0.101", "10.9.0.254"], ["fd00:9::254"]]


def test_addresses_without_a_use_are_a_warning() -> None:
    reports = [node("n1"), node("n2"), balancer({"haproxy_lb_snat_addresses": ["10.9.0.100"]}), client_host("c1")]
    assert plan(reports)["warnings"] == ["lb1: haproxy_lb_snat_addresses has no use, because vpn_forwarding is direct"]


@pytest.mark.parametrize(
    ("hints", "changes", "problem"),
    [
        ({}, {"forwarding": "masquerade"}, "vpn_forwarding: 'masquerade' is none of direct, snat"),
        (
            {},
            {"forwarding": "snat", "return_path": "routed"},
            "vpn_forwarding is snat and vpn_return_path is routed, which needs what snat does without: that packets"
            " with clients' addresses pass between nodes and balancers. Set vpn_return_path to nat",
        ),
        (
            {"haproxy_lb_snat_addresses": ["10.9.0.200"]},
            {"forwarding": "snat"},
            "lb1: haproxy_lb_snat_addresses: 10.9.0.200 is not on this host",
        ),
    ],
)
def test_what_can_not_work(hints: Any, changes: Any, problem: str) -> None:
    assert problems([node("n1"), node("n2"), balancer(hints), client_host("c1")], **changes) == [problem]
