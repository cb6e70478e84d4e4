# SPDX-License-Identifier: GPL-3.0-or-later
"""What is different with source NAT: whom nodes see, and who knows the clients behind that."""

from __future__ import annotations

import time

import pytest
from traffic.cluster import FAILOVER_SECONDS, Client, Cluster, inner_address, new_port, peers
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.ping import Ping

FIRST, LAST = 16384, 32767
READ_AFTER = 6  # seconds after which wirefleet-steer has read the table's maps again


def endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@pytest.mark.parametrize(("name", "version"), [("c1", 4), ("c2", 6)])
def test_nodes_see_the_balancer_which_knows_the_client(lab: Lab, cluster: Cluster, name: str, version: int) -> None:
    client = cluster.clients[name]
    client.reconnect()
    host, _, port = peers(cluster.nodes[cluster.owner(client)], "endpoints")[client.key].rpartition(":")
    assert host.strip("[]") == lab.address("lb1", "front", version)
    assert FIRST <= int(port) <= LAST
    known = cluster.balancer.check_output("wirefleet-steer client %s", f"{host}:{port}").strip()
    assert known == endpoint(lab.address(name, "public", version), client.port)


@pytest.mark.parametrize("version", [4, 6])
def test_nothing_else_would_pass_between_the_sites(lab: Lab, cluster: Cluster, version: int) -> None:
    """The router has no use for a client's address, and nodes have no way to it but by their default route."""
    node, target = cluster.nodes["n1"], lab.address("lb1", "front", version)
    own, foreign = lab.address("n1", "backend", version), {4: "198.51.100.200", 6: "2001:db8:100::200"}[version]
    node.check_output(f"ip address add {foreign} dev lo")
    try:
        assert node.run(f"ping -c 1 -W 2 -I {own} {target}").succeeded
        assert not node.run(f"ping -c 1 -W 2 -I {foreign} {target}").succeeded
    finally:
        node.check_output(f"ip address del {foreign} dev lo")
    for host in cluster.nodes.values():
        assert not host.check_output(f"ip -{version} rule show priority 5182")


def test_a_node_answers_nobody_but_balancers(cluster: Cluster, c1: Client, web: dict[int, str]) -> None:
    """Who came to a node directly and got an answer would stay there when it dies."""
    cluster.place(c1, "n1")
    node = cluster.nodes["n1"]
    node.check_output("wg set wg0 peer %s endpoint 192.0.2.1:40000", c1.key)
    assert not node.run("ping -c 1 -W 1 %s", inner_address(c1.host)).succeeded
    (guard,) = [
        line
        for line in node.check_output("nft list chain inet wirefleet_node output").splitlines()
        if "ip daddr != {" in line or "ip daddr != 10." in line
    ]
    assert "packets 0 " not in guard
    # Its next packet says where it is.
    assert c1.answered(web[4])


def test_a_silent_client_is_fetched_from_a_dead_node(lab: Lab, cluster: Cluster, c1: Client, figures: Figures) -> None:
    """Something wants to reach it after its node died: it has said nothing meanwhile."""
    cluster.place(c1, "n1")
    before = c1.handshake
    time.sleep(2)
    lab.befall("kill", "n1")
    try:
        survivors = ("n2", "n3")
        took = until("c1 has a new session", FAILOVER_SECONDS, lambda: c1.handshake > before, pause=0.05)
        assert cluster.owner(c1, survivors) in survivors
    finally:
        lab.befall("start", "n1")
    figures.add("node killed: time until a silent client has a new session", took, "s")
    cluster.wait("n1", "up", 90)


def test_a_client_that_moved_stays_with_its_session(
    cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures
) -> None:
    c1.reconnect(new_port())
    owner, handshake = cluster.owner(c1), c1.handshake
    with Ping(c1.host, web[4], 0.02) as ping:
        time.sleep(1)
        for _ in range(3):
            c1.host.check_output("wg set wg0 listen-port %s", str(new_port()))
            time.sleep(1)
    figures.add("client's port changes three times: pings lost, at 50/s", f"{ping.lost} of {ping.sent}")
    assert (cluster.owner(c1), c1.handshake) == (owner, handshake)
    # What is on its way to the old port finds nobody there.
    assert ping.lost <= 9, str(ping)


def test_a_flushed_table_knows_the_clients_again(
    cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures
) -> None:
    c1.reconnect(new_port())
    handshake, seen = c1.handshake, peers(cluster.nodes[cluster.owner(c1)], "endpoints")[c1.key]
    time.sleep(READ_AFTER)
    with Ping(c1.host, web[4], 0.02) as ping:
        time.sleep(1)
        cluster.balancer.check_output("nft flush ruleset")
        until("c1 is served", FAILOVER_SECONDS, lambda: c1.answered(web[4]))
        time.sleep(3)
    figures.add("balancer's ruleset flushed: outage of a client that keeps its session", ping.outage, "s")
    assert c1.handshake == handshake
    assert peers(cluster.nodes[cluster.owner(c1)], "endpoints")[c1.key] == seen


def test_metrics_say_how_many_ports_are_taken(cluster: Cluster) -> None:
    page = cluster.balancer.check_output("curl --silent --fail http://127.0.0.1:8052/metrics")
    sizes = [
        line for line in page.splitlines() if line.startswith("wirefleet_steer_map_size{") and 'map="ports"' in line
    ]
    assert sizes
    assert all(line.endswith(f" {LAST + 1 - FIRST}") for line in sizes), sizes
    assert any(line.startswith("wirefleet_steer_map_elements{") and 'map="ports"' in line for line in page.splitlines())
