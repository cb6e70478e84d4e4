# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Stock clients that move back, to nodes or to addresses, through the real agents, daemon and table."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from ..namespaces import eventually
from .conftest import BACKEND, INSIDE, NODES, PORT, PUBLIC, PYTHONPATH, Cluster, answered, steer_config

pytestmark = pytest.mark.root

CROWD = [f"x{number}" for number in range(1, 10)]  # clients, all in the namespace of c2
AGENT_PORT = 8053


def start_agent(cluster: Cluster, node: str) -> None:
    """The real one, beside the one that HAProxy asks; the backend stands in for the mesh."""
    directory = cluster.directory / node
    directory.mkdir()
    (directory / "node.nft").write_text("table inet wirefleet_node { }\n")
    document = {
        "version": 1,
        "cluster": "default",
        "node": node,
        "interface": cluster.device(node),
        "port": PORT,
        "listen": [[f"10.9.0.{NODES[node]}", AGENT_PORT]],
        "gateway": None,
        "nft": {"family": "inet", "table": "wirefleet_node", "file": str(directory / "node.nft")},
        "sysctls": {},
        "checks": [],
        "adopters": [BACKEND["ip"]],
        "probes": [cluster.key("probe")[1]],
        "state_dir": str(directory),
        "per_peer_metrics": False,
    }
    (directory / "node.json").write_text(json.dumps(document))
    argv = [sys.executable, "-m", "wirefleet_node", "--config", str(directory / "node.json"), "run"]
    cluster.start(node, "env", f"PYTHONPATH={PYTHONPATH}", *argv, stderr=(directory / "log").open("wb"))


@pytest.fixture(scope="module")
def crowd(cluster: Cluster) -> Cluster:
    """A cluster with adoption and rebalancing, and all clients at n1."""
    for node in NODES:
        start_agent(cluster, node)
    nodes = steer_config(cluster.directory)["nodes"]
    for name, part in NODES.items():
        nodes[name]["agent"] = [f"10.9.0.{part}", AGENT_PORT]
    cluster.write_config(nodes=nodes, adoption={"rate": 100, "max_idle": 3600, "rebalance": 120})
    cluster.steer.terminate()
    cluster.steer.wait()
    cluster.start_steer()
    for name in ("n2", "n3"):
        cluster.haproxy(f"set server vpn_back/{name} state maint")
        cluster.steerctl("wait", name, "drained")
    for number, name in enumerate(CROWD, 101):
        for node in NODES:
            peer = ["peer", cluster.key(name)[1], "allowed-ips", f"10.80.0.{number}/32"]
            cluster.run(node, "wg", "set", cluster.device(node), *peer)
        interface = f"[Interface]\nPrivateKey = {cluster.key(name)[0]}\n"
        peer_section = f"[Peer]\nPublicKey = {cluster.key('service')[1]}\nEndpoint = {PUBLIC['ip']}:{PORT}\n"
        allowed = "AllowedIPs = 10.80.0.0/16\n"
        cluster.wireguard("c2", interface + peer_section + allowed, f"10.80.0.{number}/16", device=name)
    return cluster


def owners(cluster: Cluster) -> Counter[str]:
    """Count the clients of each node by their latest handshake."""
    latest: dict[str, tuple[int, str]] = {}
    for node in NODES:
        for line in cluster.run(node, "wg", "show", cluster.device(node), "latest-handshakes").splitlines():
            key, _, at = line.partition("\t")
            latest[key] = max(latest.get(key, (0, "")), (int(at), node))
    return Counter(latest[cluster.key(name)[1]][1] for name in CROWD)


def test_nodes_that_come_back_get_their_share_and_no_packet_is_lost(crowd: Cluster) -> None:
    pings = []
    for name in CROWD:
        argv = ["ping", "-i", "0.1", "-I", crowd.device(name), INSIDE["ip"]]
        pings.append(crowd.start("c2", *argv, stdout=subprocess.PIPE))
    eventually(lambda: owners(crowd) == {"n1": len(CROWD)})
    for name in ("n2", "n3"):
        crowd.haproxy(f"set server vpn_back/{name} state ready")
    eventually(lambda: "event=rebalance_over" in crowd.log(), timeout=120)
    for ping in pings:
        ping.send_signal(signal.SIGINT)
    for ping in pings:
        numbers = answered(ping.communicate(timeout=20)[0].decode())
        assert max(numbers) > 100
        assert numbers == {*range(1, max(numbers) + 1)}, "not one is lost"
    assert set(owners(crowd)) == set(NODES)
    assert all(abs(count - len(CROWD) / len(NODES)) <= 1 for count in owners(crowd).values())
    assert "event=rebalance clients=n1:9,n2:0,n3:0" in crowd.log()
    assert "reason=even" in crowd.log()


def marks(cluster: Cluster, port: int) -> list[int]:
    """Whose client the table takes it for that comes from this port."""
    text = cluster.nft("list", "map", "ip", "wirefleet", "affinity")
    return [int(mark, 16) & 0xFFFF for mark in re.findall(rf" \. {port} expires \w+ : (0x\w+)", text)]


def test_a_client_that_is_back_where_it_was_is_its_present_nodes(crowd: Cluster) -> None:
    """It was one node's there, and went elsewhere before that was drained."""
    device = crowd.device(CROWD[0])

    def come_from(port: int) -> None:
        crowd.run("c2", "wg", "set", device, "listen-port", str(port))
        crowd.run("c2", "ping", "-c", "1", "-W", "2", "-I", device, INSIDE["ip"])

    for port in (41001, 41002):
        come_from(port)
        before = crowd.owner(CROWD[0])
        eventually(lambda: marks(crowd, port) == [NODES[before] - 10])  # noqa: B023
    time.sleep(2)  # until its agent has said where it is
    crowd.haproxy(f"set server vpn_back/{before} state drain")
    eventually(lambda: crowd.owner(CROWD[0]) != before)
    after = crowd.owner(CROWD[0])
    crowd.haproxy(f"set server vpn_back/{before} state ready")
    crowd.steerctl("wait", before, "up", "--timeout", "5")
    assert marks(crowd, 41001) == [NODES[before] - 10]
    come_from(41001)
    assert crowd.owner(CROWD[0]) == after
    eventually(lambda: marks(crowd, 41001) == [NODES[after] - 10])
