# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from wirefleet.config import ConfigError
from wirefleet.iproute import Route, Rule
from wirefleet.routes import Hop
from wirefleet_node.settings import Clients, Config, Old

Configure = Callable[..., Config]
ROUTE = {"network": "10.80.0.0/16", "device": "backend", "via": "10.9.0.10"}


def test_gateway_becomes_rules_and_routes(configure: Configure) -> None:
    config = configure()
    assert config.rules == (Rule(4, 5182, table=51820, mark=51820), Rule(6, 5182, table=51820, mark=51820))
    assert config.routes == (
        Route(4, 51820, "10.9.0.0/24", "backend"),
        Route(4, 51820, "default", "backend", "10.9.0.10", hop_limit=1),
        Route(6, 51820, "fd00:9::/64", "backend"),
        Route(6, 51820, "default", "backend", "fd00:9::10", hop_limit=1),
    )


def test_routers_on_the_way_to_a_balancer_are_counted(configure: Configure) -> None:
    routes = configure(gateway={**gateway(), "hops": 3}).routes
    assert [route.hop_limit for route in routes] == [None, 3]


def test_no_gateway_no_routing(configure: Configure) -> None:
    config = configure(gateway=None)
    assert (config.rules, config.routes) == ((), ())


def test_answers_to_clients_of_an_old_service_key_go_into_their_tunnel(configure: Configure) -> None:
    old = {"interface": "wg0", "addresses": ["10.80.0.1"], "mark": 51810, "table": 51821, "priority": 5179}
    config = configure(interface="wg1", old=old)
    assert config.old == Old("wg0", answer_mark=51821)
    assert Rule(4, 5179, table=51821, mark=51821) in config.rules
    assert Route(4, 51821, "default", "wg0") in config.routes
    assert not [rule for rule in config.rules if rule.family == 6 and rule.table == 51821], "it has no such address"
    # What is encrypted goes back through the balancer from either.
    assert [rule.mark for rule in config.rules if rule.table == 51820] == [51810, 51820] * 2


def test_routed_clients_have_rules_and_their_own_table(configure: Configure) -> None:
    assert configure().clients is None
    config = configure(clients=clients())
    assert config.rules[2:] == (
        Rule(4, 5179, table=51821, to="10.80.0.0/16"),
        Rule(6, 5179, table=51821, to="fd00:80::/48"),
    )
    assert config.clients == Clients(
        51821,
        {
            "10.80.0.0/16": Hop("backend", "10.9.0.10"),
            "fd00:80::/48": Hop("backend", "fd00:9::10"),
            "10.80.0.6/32": Hop("wg0"),
            "fd00:80::6/128": Hop("wg0"),
        },
    )


def clients(**changes: Any) -> dict[str, Any]:
    networks = [
        {"network": "10.80.0.0/16", "device": "backend", "via": "10.9.0.10"},
        {"network": "fd00:80::/48", "device": "backend", "via": "fd00:9::10"},
    ]
    return {"table": 51821, "priority": 5179, "networks": networks, "probes": ["10.80.0.6", "fd00:80::6"], **changes}


def gateway(**changes: Any) -> dict[str, Any]:
    route = {"family": 4, "device": "backend", "network": "10.9.0.0/24", "via": "10.9.0.10", **changes}
    return {"mark": 1, "table": 1, "priority": 1, "routes": [route]}


def check(**changes: Any) -> dict[str, Any]:
    return {"name": "dns", "command": ["true"], "timeout": 1, "interval": 1, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version: this agent reads version 1, got 2"),
        ({"port": 0}, "port: 0 is no port"),
        ({"listen": []}, "listen: expected at least one address"),
        ({"listen": [["n1.example.com", 80]]}, r"listen\[0\]: 'n1.example.com' does not appear"),
        ({"listen": [["::1", 65536]]}, r"listen\[0\]: 65536 is no port"),
        ({"sysctls": {"kernel/hostname": "x"}}, "sysctls.kernel/hostname: expected a path below net/"),
        ({"sysctls": {"net/../kernel/x": "x"}}, "expected a path below net/"),
        ({"checks": [check(), check()]}, r"checks\[1\].name: dns is there twice"),
        ({"checks": [check(command=[])]}, r"checks\[0\].command: is empty"),
        ({"checks": [check(timeout=0)]}, r"checks\[0\]: timeout and interval must exceed 0"),
        ({"gateway": gateway(family=5)}, r"gateway.routes\[0\].family: expected 4 or 6"),
        ({"gateway": gateway(network="10.9.0.1/24")}, r"gateway.routes\[0\].network: .* host bits"),
        ({"gateway": gateway(via="gw")}, r"gateway.routes\[0\].via: 'gw'"),
        ({"gateway": gateway(via="fd00::1")}, r"gateway.routes\[0\]: network and via must be of family 4"),
        ({"clients": clients(networks=[ROUTE | {"network": "10.80.0.1/16"}])}, r"networks\[0\].network: .* host bits"),
        ({"clients": clients(networks=[ROUTE | {"via": "fd00::1"}])}, r"networks\[0\]: network and via must be of one"),
        ({"clients": clients(probes=["lb1"])}, r"clients.probes\[0\]: 'lb1'"),
        ({"gateway": {**gateway(), "hops": 0}}, "gateway.hops: expected 1 to 255, got 0"),
        ({"gateway": {**gateway(), "hops": 256}}, "gateway.hops: expected 1 to 255, got 256"),
        (
            {"gateway": {**gateway(), "routes": gateway()["routes"] * 2}},
            r"gateway.routes\[1\].family: 4 is there twice",
        ),
    ],
)
def test_error_names_file_and_key(configure: Configure, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"node.json: .*{message}"):
        configure(**changes)
