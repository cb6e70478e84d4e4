# SPDX-License-Identifier: GPL-3.0-or-later
"""A node dies, loses its WireGuard, its rules or its link, and comes back."""

from __future__ import annotations

import json
import time

from traffic.cluster import FAILOVER_SECONDS, Client, Cluster, fetch, inner_address, mesh_address, status
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.ping import Ping


def test_a_node_dies_and_its_clients_go_elsewhere(
    lab: Lab, cluster: Cluster, c1: Client, c2: Client, web: dict[int, str], figures: Figures
) -> None:
    cluster.place(c1, "n1")
    cluster.place(c2, "n2")
    with Ping(c1.host, web[4], 0.1) as victim, Ping(c2.host, web[6], 0.1) as bystander:
        time.sleep(1)
        lab.befall("kill", "n1")
        until(
            "c1 is at another node",
            FAILOVER_SECONDS,
            lambda: c1.answered(web[4]),
        )
    figures.add("node killed: outage of its stock client", victim.outage, "s")
    figures.add("node killed: pings lost by another node's client", f"{bystander.lost} of {bystander.sent}")
    assert victim.outage < FAILOVER_SECONDS, str(victim)
    assert bystander.lost == 0, str(bystander)

    # It comes back as it was, by itself, and takes nothing away from those that have its clients now.
    with Ping(c1.host, web[4], 0.1) as victim, Ping(c2.host, web[6], 0.1) as bystander:
        begin = time.monotonic()
        lab.befall("start", "n1")
        cluster.wait("n1", "up", 90)
        figures.add("node powered on: time until it takes clients", time.monotonic() - begin, "s")
        time.sleep(5)
    figures.add("node comes back: pings lost", f"{victim.lost + bystander.lost} of {victim.sent + bystander.sent}")
    assert victim.lost == bystander.lost == 0, f"c1: {victim}; c2: {bystander}"
    cluster.place(c1, "n1")


def test_a_node_whose_wireguard_stopped_is_down(cluster: Cluster, figures: Figures) -> None:
    node = cluster.nodes["n3"]
    mesh = mesh_address(node)
    node.check_output("systemctl stop wg-quick@wg0")
    try:
        took = until("n3 is down in HAProxy", 15, lambda: cluster.states()["n3"]["haproxy"].startswith("DOWN"))
        figures.add("WireGuard stopped: time until HAProxy says DOWN", took, "s")
        until("n3 is down in the kernel", 5, lambda: cluster.states()["n3"]["kernel"] == "down")
        # Its agent answers all the while.
        assert status(cluster.balancer, f"http://[{mesh}]:8051/healthz") == 503
    finally:
        node.check_output("systemctl start wg-quick@wg0")
    figures.add("WireGuard started: time until the node takes clients", cluster.wait("n3", "up"), "s")
    assert json.loads(fetch(cluster.balancer, f"http://{inner_address(node)}:8051/healthz"))["state"] == "ok"


def test_a_nodes_rules_are_flushed_and_come_back(
    cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures
) -> None:
    cluster.place(c1, "n1")
    node = cluster.nodes["n1"]
    with Ping(c1.host, web[4], 0.02) as ping:
        time.sleep(1)
        node.check_output("nft flush ruleset")
        took = until(
            "the node has its table", 5, lambda: node.run("nft list table inet wirefleet_node").succeeded, pause=0
        )
        time.sleep(3)
    figures.add("node's ruleset flushed: time until it is back", took, "s")
    figures.add("node's ruleset flushed: pings lost, at 50/s", f"{ping.lost} of {ping.sent}")
    assert took < 2
    assert ping.outage < 2, str(ping)
    # A connection that begins now is translated like one that began before.
    assert "wirefleet lab" in c1.get(f"http://{web[4]}/")


def test_a_nodes_link_flaps(cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures) -> None:
    cluster.place(c1, "n1")
    node = cluster.nodes["n1"]
    # The host has nobody who would put its IPv6 address back, as a network manager does.
    node.check_output("sysctl -qw net.ipv6.conf.backend.keep_addr_on_down=1")
    with Ping(c1.host, web[4], 0.1) as ping:
        time.sleep(1)
        node.check_output("ip link set backend down; sleep 1; ip link set backend up")
        cluster.wait("n1", "up")
        until("c1 is served", FAILOVER_SECONDS, lambda: c1.answered(web[4]))
    figures.add("node's link down for a second: outage", ping.outage, "s")
    assert ping.outage < FAILOVER_SECONDS, str(ping)
    routes = node.check_output("ip -4 route show table 51820; ip -6 route show table 51820")
    assert routes.count("default via") == 2, routes
