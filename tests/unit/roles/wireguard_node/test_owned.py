# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A node in routed mode, with a real client, its routes and a balancer's requests."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..namespaces import eventually
from .test_agent import AT, RULESET, Client, Node

NETWORKS = ["10.80.0.5/32", "fd00:80::5/128"]
FIXED = ["10.80.0.0/16 via 10.9.0.10", "10.80.0.6 dev wg0", "fd00:80::/48 via fd00:9::10", "fd00:80::6 dev wg0"]
CLIENT = ["10.80.0.5 dev wg0", "fd00:80::5 dev wg0"]

pytestmark = pytest.mark.root


class RoutedNode(Node):
    def client_routes(self) -> list[str]:
        """Destination, gateway and device of each route to clients."""
        found = []
        for family in ("-4", "-6"):
            rows = json.loads(self.run("ip", family, "-j", "route", "show", "table", "51821").stdout or "[]")
            found += [
                f"{row['dst']} via {row['gateway']}" if "gateway" in row else f"{row['dst']} dev {row['dev']}"
                for row in rows
            ]
        return sorted(found)

    def peer(self) -> dict[str, Any]:
        """The only client that there is, as a balancer sees it."""
        peers = json.loads(self.get("/v1/peers")[1])["peers"]
        return peers[0] if peers else {}

    def release(self, key: str, handshake: object) -> tuple[int, str]:
        body = {"version": 1, "peers": [{"public_key": key, "handshake": handshake}]}
        return self._request("POST", "/v1/release", json.dumps(body))

    def restart_agent(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()
        self.start_agent()


@pytest.fixture
def node(document: dict[str, Any], tmp_path: Path) -> Iterator[RoutedNode]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    networks = [
        {"network": "10.80.0.0/16", "device": "backend", "via": "10.9.0.10"},
        {"network": "fd00:80::/48", "device": "backend", "via": "fd00:9::10"},
    ]
    document["clients"] = {
        "table": 51821,
        "priority": 5179,
        "networks": networks,
        "probes": ["10.80.0.6", "fd00:80::6"],
    }
    (tmp_path / "node.nft").write_text(RULESET)
    (tmp_path / "node.json").write_text(json.dumps({**document, "checks": []}))
    node = RoutedNode(tmp_path / "node.json")
    try:
        node.start_agent()
        yield node
    finally:
        node.stop()


@pytest.fixture
def client(node: RoutedNode, tmp_path: Path) -> Iterator[Client]:
    client = Client(node, tmp_path)
    # In this order: with its last address an interface loses its routes.
    node.run("ip", "address", "add", "10.80.0.1/32", "dev", "wg0")
    node.run("ip", "address", "del", "10.80.0.1/16", "dev", "wg0")
    yield client
    client.stop()


@pytest.fixture
def adopted(node: RoutedNode, client: Client) -> Client:
    assert node.adopt({"public_key": client.key, "endpoint": AT})[0] == 200
    eventually(lambda: client.handshake > 0)
    eventually(lambda: node.peer().get("handshake") == client.handshake)
    return client


def test_without_clients_there_is_the_way_to_probes_and_to_the_balancer(node: RoutedNode) -> None:
    eventually(lambda: node.client_routes() == FIXED)
    assert "from all to 10.80.0.0/16 lookup 51821" in node.run("ip", "rule").stdout
    assert "from all to fd00:80::/48 lookup 51821" in node.run("ip", "-6", "rule").stdout


def test_an_adopted_client_is_routed_into_the_tunnel_before_it_is_called(node: RoutedNode, adopted: Client) -> None:
    # By any other route the call would not have begun the handshake.
    assert node.client_routes() == sorted(FIXED + CLIENT)
    assert node.peer()["networks"] == NETWORKS


def test_a_client_that_is_let_go_is_the_balancers_until_another_handshake(
    node: RoutedNode, adopted: Client, tmp_path: Path
) -> None:
    first = adopted.handshake
    status, body = node.release(adopted.key, first)
    assert (status, json.loads(body)["released"]) == (200, [adopted.key])
    assert node.client_routes() == FIXED
    eventually(lambda: "networks" not in node.peer())
    time.sleep(1.1)  # the clock of handshakes has seconds
    assert node.client_routes() == FIXED, "its session is there still"
    service = node.run("wg", "show", "wgc", "peers").stdout.strip()
    again = f"preshared-key {tmp_path}/psk endpoint 10.9.0.11:51820 allowed-ips 10.80.0.1/32 persistent-keepalive 1"
    node.run("wg", "set", "wgc", "peer", service, "remove", "peer", service, *again.split())
    eventually(lambda: node.client_routes() == sorted(FIXED + CLIENT))


def test_a_client_that_came_back_meanwhile_is_kept(node: RoutedNode, adopted: Client) -> None:
    status, body = node.release(adopted.key, adopted.handshake - 1)
    assert (status, json.loads(body)["released"]) == (200, [])
    assert node.client_routes() == sorted(FIXED + CLIENT)


def test_a_wrong_release_changes_nothing(node: RoutedNode, adopted: Client) -> None:
    assert node.release(adopted.key, "now")[0] == 400
    assert node.release("x", adopted.handshake)[0] == 400
    assert node.client_routes() == sorted(FIXED + CLIENT)


def test_a_restart_of_the_agent_keeps_the_routes(node: RoutedNode, adopted: Client) -> None:
    watch = "timeout 4 ip -4 monitor route > /run/changes"
    node.run("sh", "-c", f"({watch}) &")
    node.restart_agent()
    eventually(lambda: node.peer().get("networks") == NETWORKS)
    assert node.client_routes() == sorted(FIXED + CLIENT)
    assert "10.80" not in node.run("cat", "/run/changes").stdout


def test_routes_and_rules_that_others_delete_come_back(node: RoutedNode, adopted: Client) -> None:
    node.run("ip", "route", "flush", "table", "51821")
    node.run("ip", "-6", "rule", "del", "priority", "5179")
    eventually(lambda: node.client_routes() == sorted(FIXED + CLIENT))
    eventually(lambda: "lookup 51821" in node.run("ip", "-6", "rule").stdout)


def test_a_client_that_was_removed_is_routed_no_more(node: RoutedNode, adopted: Client) -> None:
    node.run("wg", "set", "wg0", "peer", adopted.key, "remove")
    eventually(lambda: node.client_routes() == FIXED)
