# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Floods of handshakes that only WireGuard itself can tell from honest ones: their first MAC is right.

Whoever knows the service's public key can make them. A node under load answers with cookies, and is alive.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from traffic.forge import initiation

from ..namespaces import eventually
from .conftest import CLIENT_ADDRESSES, NODES, PORT, PUBLIC, REPOSITORY, Cluster

pytestmark = pytest.mark.root

SPOOF = REPOSITORY / "tests" / "traffic" / "spoof.py"
SOURCES = "11.0.0.0/16"
RATE = 20_000  # a second, for each node


@contextmanager
def flood(cluster: Cluster, *targets: str, rate: int) -> Iterator[None]:
    """Flood the targets during the block, and for 30 s at most."""
    payload = initiation(cluster.key("service")[1]).hex()
    processes = [
        cluster.start("c2", sys.executable, str(SPOOF), target, str(PORT), SOURCES, "30", str(rate), payload)
        for target in targets
    ]
    try:
        yield
        assert all(process.poll() is None for process in processes), "it has flooded all the time"
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", autouse=True)
def roads(cluster: Cluster) -> None:
    """The way to the nodes' own addresses (which haproxy_lb_firewall closes), and back to addresses that nobody has."""
    cluster.nft("flush", "chain", "inet", "wirefleet", "forward")
    cluster.run("c2", "ip", "route", "add", "10.9.0.0/24", "via", PUBLIC["ip"])
    cluster.run("lb", "ip", "route", "add", "11.0.0.0/8", "via", CLIENT_ADDRESSES["c2"]["ip"])


def connected(cluster: Cluster) -> None:
    """Wait: a handshake may still meet the end of the load, and its retry is 5 s later."""
    eventually(lambda: cluster.ping("c1", count=1) == 0, timeout=20)


def transitions(cluster: Cluster) -> int:
    return cluster.log().count("event=node ")


@pytest.mark.parametrize("scope", ["one node", "all nodes"])
def test_nodes_that_are_flooded_stay_up(cluster: Cluster, scope: str) -> None:
    cluster.client("c1", "ip")
    connected(cluster)
    victim = cluster.owner("c1")
    targets, flooded, rate = (
        ([f"10.9.0.{NODES[victim]}"], [victim], RATE) if scope == "one node" else ([PUBLIC["ip"]], NODES, 3 * RATE)
    )
    before = transitions(cluster)
    cookies = {name: cluster.counted(name, "cookies") for name in flooded}
    with flood(cluster, *targets, rate=rate):
        for name in flooded:
            eventually(lambda name=name: cluster.counted(name, "cookies") > cookies[name] + 1000)  # type: ignore[misc]
        lost = cluster.ping("c1", count=80, interval=0.1)
        assert cluster.owner("c1") == victim
    assert transitions(cluster) == before, cluster.log()
    assert lost <= 16, "of 80: the session runs on"
    # What the flood has left in queues goes first.
    eventually(lambda: cluster.ping("c1") == 0)
    cluster.client("c1", "ip", listen=41000 + len(targets[0]))
    connected(cluster)
    assert cluster.ping("c1") == 0, "and a new one is as good as ever"


def test_a_probe_that_meets_a_node_under_load_gets_through(cluster: Cluster) -> None:
    """Its first handshake is answered with a cookie, and WireGuard shows that 5 s later."""
    with flood(cluster, "10.9.0.11", rate=RATE):
        before = cluster.counted("n1", "cookies")
        eventually(lambda: cluster.counted("n1", "cookies") > before + 1000)
        cluster.run("n1", "nft", "add", "rule", "inet", "count", "input", "ip", "saddr", "10.9.0.10", "drop")
        eventually(lambda: cluster.state("n1")[:2] == ["DOWN", "down"])
        time.sleep(2.5)  # the daemon has made the probe's peer a new one, which knows no cookie
        cluster.count("n1")
        cluster.steerctl("wait", "n1", "up", "--timeout", "20")
    assert cluster.ping("c1") == 0
