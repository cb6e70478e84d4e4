# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packets for clients go, and where they never go."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from testinfra.host import Host
from traffic.cluster import Client, Cluster, inner_address
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.ping import Ping

NOBODY = "10.80.200.1"
TABLE = 51821
COUNT = """
table inet watch {
  counter leaked {}
  chain out {
    type filter hook postrouting priority 300;
    oifname { "public", "uplink" } ip daddr 10.80.0.0/16 counter name leaked
  }
}
"""


def inner(client: Client, version: int) -> str:
    """The client's own address inside the tunnel."""
    line = client.host.check_output("ip -%s -brief address show wg0 scope global", str(version))
    return line.split()[2].split("/")[0]


def guarded(node: Host) -> int:
    """How many packets for clients of others a node has refused to send back."""
    listed = json.loads(node.check_output("nft --json list chain inet wirefleet_node to_client"))
    rule = next(
        item["rule"] for item in listed["nftables"] if item.get("rule", {}).get("comment", "").startswith("not a")
    )
    return next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)


def reaches(server: Host, address: str) -> bool:
    return server.run("ping -c 1 -W 0.5 %s", address).succeeded


@pytest.mark.parametrize("version", [4, 6])
def test_the_private_network_sees_the_client_itself(c1: Client, web: dict[int, str], version: int) -> None:
    host = f"[{web[6]}]" if version == 6 else web[4]
    assert c1.get(f"http://{host}/").splitlines() == ["wirefleet lab: private web server", inner(c1, version)]


@pytest.mark.parametrize("version", [4, 6])
def test_clients_of_two_nodes_reach_each_other(cluster: Cluster, c1: Client, c2: Client, version: int) -> None:
    cluster.place(c1, "n1")
    cluster.place(c2, "n2")
    there, back = inner(c2, version), inner(c1, version)
    until("c1 reaches c2", 3, lambda: c1.answered(there))
    assert c2.answered(back)


def test_the_daemons_come_and_go(cluster: Cluster, server: Host, c1: Client, figures: Figures) -> None:
    node = cluster.nodes[cluster.owner(c1)]
    with Ping(server, inner_address(c1.host), 0.02) as ping:
        cluster.balancer.check_output("systemctl restart wirefleet-steer")
        node.check_output("systemctl restart wirefleet-node")
        time.sleep(3)
    figures.add("wirefleet-steer and wirefleet-node restarted: pings to a client lost", f"{ping.lost} of {ping.sent}")
    assert ping.lost == 0, str(ping)


@pytest.mark.parametrize("where", ["balancer", "node"])
def test_routes_that_somebody_deletes_come_back(
    cluster: Cluster, server: Host, c1: Client, figures: Figures, where: str
) -> None:
    address = inner_address(c1.host)
    host = cluster.balancer if where == "balancer" else cluster.nodes[cluster.owner(c1)]
    host.check_output(f"ip rule delete priority 5179; ip route flush table {TABLE}")
    took = until("c1 is reached", 5, lambda: reaches(server, address), pause=0)
    figures.add(f"{where}'s routes to clients deleted: time until they are back", took, "s")
    until("the rule is back", 5, lambda: "10.80.0.0/16" in host.check_output("ip rule show priority 5179"))


@contextmanager
def without_steer(balancer: Host) -> Iterator[None]:
    balancer.check_output("systemctl stop wirefleet-steer")
    try:
        yield
    finally:
        balancer.check_output("systemctl start wirefleet-steer")


def test_a_wrong_route_is_no_loop(lab: Lab, cluster: Cluster, server: Host, c1: Client) -> None:
    cluster.place(c1, "n1")
    address, wrong = inner_address(c1.host), cluster.nodes["n2"]
    until("c1 is reached, and no longer n2's", 5, lambda: reaches(server, address) and address not in _routes(wrong))
    with without_steer(cluster.balancer):
        via = lab.address("n2", "backend", 4)
        cluster.balancer.check_output(f"ip route replace {address} via {via} dev backend table {TABLE}")
        before = guarded(wrong)
        assert server.run("ping -c 5 -i 0.2 -W 1 %s", address).failed
        assert guarded(wrong) - before == 5
    until("c1 is reached again", 5, lambda: reaches(server, address))


def test_packets_for_nobody_stay_here(cluster: Cluster, server: Host) -> None:
    cluster.balancer.check_output("echo %s | nft --file -", COUNT)
    try:
        assert "Unreachable" in server.run("ping -c 2 -W 1 %s", NOBODY).stdout
        with without_steer(cluster.balancer):
            # Not even without the rule that leads to the routes.
            cluster.balancer.check_output("ip rule delete priority 5179")
            assert server.run("ping -c 2 -W 1 %s", NOBODY).failed
        assert "packets 0 " in cluster.balancer.check_output("nft list counter inet watch leaked")
    finally:
        cluster.balancer.check_output("nft delete table inet watch")


def _routes(node: Host) -> str:
    return node.check_output(f"ip -4 route show table {TABLE}")
