# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster on an underlay without IPv4, beside an HAProxy of somebody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from traffic.cluster import Cluster, fetch, peers
from traffic.figures import Figures
from traffic.hosts import Lab

FOREIGN = Path(__file__).resolve().parents[2] / "files" / "foreign.cfg"


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    return Cluster(lab, nodes=["n1"], clients=["c1"])


def test_the_wire_has_no_ipv4(cluster: Cluster) -> None:
    assert cluster.balancer.check_output("ip -4 -brief address show dev public") == ""
    assert cluster.balancer.check_output("ip -4 -brief address show dev backend") == ""


def test_a_handshake_goes_through_the_balancer(lab: Lab, cluster: Cluster, figures: Figures) -> None:
    client = cluster.clients["c1"]
    figures.add("c1: time to a handshake over IPv6", client.reconnect(), "s")
    assert client.endpoint == f"[{lab.address('lb1', 'public', 6)}]:51820"
    seen = peers(cluster.nodes["n1"], "endpoints")[client.key]
    assert seen == f"[{lab.address('c1', 'public', 6)}]:{client.port}"


@pytest.mark.parametrize("version", [4, 6])
def test_the_private_web_server_answers(lab: Lab, cluster: Cluster, version: int) -> None:
    address = lab.address("web", "private", version)
    host = f"[{address}]" if version == 6 else address
    page = cluster.clients["c1"].get(f"http://{host}/")
    # The node stands in for the client, whom the private network does not know.
    assert page.splitlines() == ["wirefleet lab: private web server", lab.address("n1", "private", version)]


def test_the_other_haproxy_is_as_it_was(lab: Lab, cluster: Cluster) -> None:
    configuration = cluster.balancer.file("/etc/haproxy/haproxy.cfg")
    assert configuration.content == FOREIGN.read_bytes()
    before = set(cluster.balancer.check_output("cat /run/foreign-haproxy").split())
    assert before <= set(cluster.balancer.check_output("pidof haproxy").split())
    assert fetch(cluster.balancer, "http://127.0.0.1:8080/") == "somebody else's"


def test_ours_runs_beside_it(cluster: Cluster) -> None:
    assert cluster.balancer.service("wirefleet-haproxy").is_running
    assert cluster.balancer.service("wirefleet-haproxy").is_enabled
    assert cluster.states()["n1"]["haproxy"] == "UP"


def test_haproxy_answers_on_tcp(lab: Lab, cluster: Cluster) -> None:
    for port in ("51820", "443"):
        cluster.clients["c1"].host.check_output("nc -z -w 3 %s %s", lab.address("lb1", "public", 6), port)


def test_a_shim_waits_behind_it(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        assert node.service("wirefleet-shim").is_running
        assert not node.service("v2ray").is_enabled
