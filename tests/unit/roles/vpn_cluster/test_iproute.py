# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest
from wirefleet.iproute import Route, Rule, _rule, ensure_routes, ensure_rules, missing_routes, missing_rules

GATEWAY_RULES = [Rule(family, 5182, table=51820, mark=51820) for family in (4, 6)]
ROUTES = [
    Route(4, 51820, "10.9.0.0/24", "backend"),
    Route(4, 51820, "default", "backend", "10.9.0.10", hop_limit=1),
    Route(6, 51820, "fd00:9::/64", "backend"),
    Route(6, 51820, "default", "backend", "fd00:9::10", hop_limit=1),
]


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


@pytest.fixture
def backend(network: None) -> None:
    ip("link add backend type veth peer name far")
    ip("link set far up")
    ip("link set backend up")
    ip("address add 10.9.0.11/24 dev backend")
    ip("address add fd00:9::11/64 dev backend nodad")


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (
            {"priority": 9, "src": "all", "fwmark": "0xca6c", "table": "51820"},
            Rule(4, 9, table=51820, mark=51820),
        ),
        (
            {
                "priority": 9,
                "src": "all",
                "fwmark": "1",
                "iif": "b",
                "iif_detached": None,
                "protocol": "3",
                "table": "7",
            },
            Rule(4, 9, table=7, mark=1, iif="b"),
        ),
        (
            {"priority": 9, "src": "all", "dst": "10.80.0.0", "dstlen": 16, "table": "7"},
            Rule(4, 9, table=7, to="10.80.0.0/16"),
        ),
        (
            {"priority": 9, "src": "all", "dst": "10.80.0.1", "iif": "b", "table": "7"},
            Rule(4, 9, table=7, iif="b", to="10.80.0.1/32"),
        ),
        ({"priority": 0, "src": "all", "table": "255"}, None),
        ({"priority": 9, "src": "all", "fwmark": "0x1", "fwmask": "0xff", "table": "7"}, None),
        ({"priority": 9, "src": "all", "fwmark": "1", "ipproto": "udp", "sport": 5, "table": "7"}, None),
        ({"priority": 9, "src": "10.0.0.0", "srclen": 8, "fwmark": "1", "table": "7"}, None),
        ({"not": None, "priority": 9, "src": "all", "fwmark": "1", "table": "7"}, None),
        ({"priority": 9, "src": "all", "fwmark": "1", "action": "8"}, None),
    ],
)
def test_reads_only_rules_that_it_can_say(row: dict[str, Any], rule: Rule | None) -> None:
    assert _rule(4, row) == rule


@pytest.mark.root
def test_rules_are_added_once(network: None) -> None:
    clients = [Rule(4, 9, table=7, to="10.80.0.0/16"), Rule(6, 9, table=7, to="fd00:80::/48", iif="lo")]
    wanted = [*GATEWAY_RULES, *clients]
    assert missing_rules(wanted) == wanted
    assert ensure_rules(wanted) == wanted
    assert ensure_rules(wanted) == []
    ip("-6 rule del priority 5182")
    assert ensure_rules(wanted) == [GATEWAY_RULES[1]]


@pytest.mark.root
def test_routes_come_back_after_a_link_flap(backend: None) -> None:
    assert missing_routes(ROUTES) == ROUTES  # the table does not exist yet
    assert ensure_routes(ROUTES) == ROUTES
    assert ensure_routes(ROUTES) == []
    ip("link set backend down")
    ip("link set backend up")
    assert ensure_routes(ROUTES) == ROUTES  # although the flap took the IPv6 address as well
    assert missing_routes(ROUTES) == []


@pytest.mark.root
def test_a_wrong_gateway_is_replaced(backend: None) -> None:
    ensure_routes(ROUTES)
    ip("route replace default via 10.9.0.99 dev backend table 51820")
    ip("-6 route replace default via fd00:9::99 dev backend table 51820")
    assert ensure_routes(ROUTES) == [ROUTES[1], ROUTES[3]]
    for family in ("-4", "-6"):
        routes = subprocess.run(["ip", family, "route", "show", "table", "51820"], capture_output=True, text=True)
        assert routes.stdout.count("default") == 1


@pytest.mark.root
def test_a_wrong_hop_limit_is_replaced(backend: None) -> None:
    ensure_routes([replace(route, hop_limit=None) for route in ROUTES])
    assert ensure_routes(ROUTES) == [ROUTES[1], ROUTES[3]]
    assert missing_routes(ROUTES) == []


@pytest.mark.root
def test_another_spelling_is_the_same_route(backend: None) -> None:
    ensure_routes(ROUTES)
    assert missing_routes([Route(6, 51820, "::/0", "backend", "fd00:9:0:0::0010", 1)]) == []
