# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators and their monitoring read, and who else does not get to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from traffic.cluster import Client, Cluster, fetch, reaches
from traffic.hosts import Lab, until

NODES = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def ledger(lab: Lab) -> dict[tuple[str, str], list[str]]:
    """Addresses by kind and name."""
    lines = Path(lab.directory, "state", "ledger.jsonl").read_text().splitlines()
    entries = [entry for entry in map(json.loads, lines) if "addresses" in entry]
    return {(entry["kind"], entry["name"]): entry["addresses"] for entry in entries}


@pytest.mark.parametrize("node", NODES)
def test_the_balancer_reaches_a_nodes_agent_in_the_mesh(cluster: Cluster, ledger: dict, node: str) -> None:
    (address,) = ledger["mesh", node]
    page = json.loads(fetch(cluster.balancer, f"http://[{address}]:8051/healthz"))
    assert (page["node"], page["state"], page["drain"]) == (node, "ok", None)
    assert f'wirefleet_node_healthy{{cluster="default",node="{node}"}} 1' in fetch(
        cluster.balancer, f"http://[{address}]:8051/metrics"
    )


# Opens what it can, asks one byte at a time, and says when it has begun.
SLOW = """
import socket, sys, time
held = []
for _ in range(100):
    held.append(socket.create_connection((sys.argv[1], 8051), 5))
print("holding", flush=True)
for byte in b"GET /healthz HTTP/1.0":
    for connection in held:
        try:
            connection.send(bytes([byte]))
        except OSError:
            pass
    time.sleep(1)
"""


def test_a_slow_neighbour_keeps_no_check_waiting(cluster: Cluster, ledger: dict) -> None:
    """One that somebody took over, say: a stranger does not get that far."""
    (address,) = ledger["mesh", "n1"]
    neighbour = cluster.nodes["n2"]
    run = "nohup python3 -c %s %s > /run/slow 2>&1 & echo $! > /run/slow.pid"
    neighbour.check_output(run, SLOW, address)
    try:
        until("it holds connections", 30, lambda: neighbour.file("/run/slow").contains("holding"))
        for _ in range(10):
            assert json.loads(fetch(cluster.balancer, f"http://[{address}]:8051/healthz"))["state"] == "ok"
    finally:
        neighbour.check_output("kill $(cat /run/slow.pid); rm /run/slow /run/slow.pid")


def test_haproxy_shows_its_statistics(cluster: Cluster) -> None:
    assert "vpn_back" in fetch(cluster.balancer, "http://127.0.0.1:8404/")
    metrics = fetch(cluster.balancer, "http://127.0.0.1:8404/metrics")
    for node in NODES:
        assert f'haproxy_server_status{{proxy="vpn_back",server="{node}",state="UP"}} 1' in metrics


def test_the_steering_daemon_shows_its_metrics_in_the_mesh(cluster: Cluster, ledger: dict) -> None:
    (address,) = ledger["mesh", "lb1"]
    metrics = fetch(cluster.nodes["n1"], f"http://[{address}]:8052/metrics")
    assert 'wirefleet_steer_haproxy_up{cluster="default"} 1' in metrics
    for node in NODES:
        assert f'wirefleet_steer_node_state{{cluster="default",node="{node}",state="up"}} 1' in metrics


def test_nothing_of_it_listens_to_the_outside(lab: Lab, c1: Client) -> None:
    for version in (4, 6):
        address = lab.address("lb1", "public", version)
        host = f"[{address}]" if version == 6 else address
        assert reaches(c1.host, f"http://{host}:22/"), "it is there, and has a way to us"
        for port in (8404, 8051, 8052):
            assert not reaches(c1.host, f"http://{host}:{port}/metrics")


def test_the_meshs_addresses_answer_to_nobody_beside_the_balancer(lab: Lab, c1: Client, ledger: dict) -> None:
    """Linux takes packets for any of its addresses from any network."""
    (address,) = ledger["mesh", "lb1"]
    c1.host.check_output(f"ip route add {address}/128 via {lab.address('lb1', 'public', 6)}")
    try:
        assert reaches(c1.host, f"http://[{lab.address('lb1', 'public', 6)}]:22/"), "the way is open"
        for port in (8404, 8052):
            assert not reaches(c1.host, f"http://[{address}]:{port}/metrics")
    finally:
        c1.host.check_output(f"ip route del {address}/128")


@pytest.fixture
def curious(cluster: Cluster, c1: Client) -> Iterator[Client]:
    """A client that sends everything into the tunnel, whatever it was told."""
    allowed = c1.host.check_output("wg show wg0 allowed-ips").split("\t")[1].replace(" ", ",")
    beyond = ["10.80.0.0/16", "fd00:80::/48", "fd77:6972:6566::/64", "10.9.1.0/24"]
    c1.host.check_output(f"wg set wg0 peer {c1.service_key} allowed-ips {','.join([allowed, *beyond])}")
    for network in beyond:
        c1.host.check_output(f"ip route replace {network} dev wg0")
    yield c1
    for network in beyond:
        c1.host.check_output(f"ip route del {network} dev wg0")
    c1.host.check_output(f"wg set wg0 peer {c1.service_key} allowed-ips {allowed}")


def test_a_client_reaches_no_agent_and_nothing_behind_that_is_not_routed(
    lab: Lab, cluster: Cluster, curious: Client, ledger: dict
) -> None:
    owner = cluster.owner(curious)
    inner = next(address for address in ledger["node", owner] if ":" not in address)
    # Its packets do get there.
    curious.host.check_output("ping -c 2 -i 0.2 -W 2 %s", inner)
    assert not reaches(curious.host, f"http://{inner}:8051/healthz")
    (mesh,) = ledger["mesh", owner]
    assert not reaches(curious.host, f"http://[{mesh}]:8051/healthz")
    (elsewhere,) = ledger["mesh", "lb1"]
    assert not reaches(curious.host, f"http://[{elsewhere}]:8404/metrics")
    # A network of the nodes that is not in vpn_routes.
    assert not reaches(curious.host, f"http://{lab.address('lb1', 'backend', 4)}:22/")
