# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients on networks that let no UDP through, and what befalls their nodes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial

import pytest
from traffic.cluster import FAILOVER_SECONDS, Client, Cluster
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.ping import Ping
from traffic.transport import comes_by, path, without_udp

SETTLE = 3.0  # seconds after a change in which it may still be felt
AUTO_SECONDS = 60  # UDP is doubted after 5 s of silence, and has 3 s to prove itself
RETURN_SECONDS = 90  # UDP is asked for every 30 s
SHIM = "127.0.0.1:51822"


@pytest.fixture(autouse=True)
def cluster_in_order(cluster: Cluster) -> None:
    for node in cluster.nodes:
        cluster.wait(node, "up", 120)


def test_a_client_that_knows_nothing_but_tcp(lab: Lab, cluster: Cluster, c1: Client, web: dict[int, str]) -> None:
    comes_by(c1.host, "tcp", 60)
    assert c1.endpoint == SHIM
    for address in (web[4], f"[{web[6]}]"):
        assert "private web server" in c1.get(f"http://{address}/")
    there = lab.address("lb1", "public", 4)
    assert f"{there}:443" in c1.host.check_output("ss --no-header --numeric --tcp state established")


def test_the_cluster_counts_it(cluster: Cluster, c1: Client) -> None:
    node = cluster.owner(c1)
    until("it is counted", 15, lambda: cluster.states()[node]["clients"] > 0)


def test_what_the_shim_knows_is_for_it_alone(cluster: Cluster, c1: Client) -> None:
    for host in (*cluster.nodes.values(), c1.host):
        file = host.file("/etc/wirefleet/default/shim.json")
        assert (file.user, file.mode) == ("wirefleet-shim", 0o600)
        identity = json.loads(file.content)["inbounds"][0].get("settings", {}).get("clients", [{}])[0].get("id")
        assert not identity or identity not in host.check_output("ps -eo args")


@pytest.fixture
def at_n1(lab: Lab, cluster: Cluster, c1: Client) -> Iterator[None]:
    """c1 is at n1: the other one was drained until then."""
    with cluster.drained_at_node("n2"):
        until("c1 has come to n1", 20, partial(cluster.is_owner, "n1", c1))
    yield
    lab.befall("start", "n1")


@pytest.mark.usefixtures("at_n1")
def test_its_node_dies(lab: Lab, c1: Client, web: dict[int, str], figures: Figures) -> None:
    with Ping(c1.host, web[4]) as ping:
        time.sleep(2)
        lab.befall("freeze", "n1")  # without a word: a killed one's connections are reset
        until("c1 is served again", 30, lambda: c1.answered(web[4]))
        time.sleep(SETTLE)
    figures.add("TCP, node dead: outage", ping.outage, "s")
    assert ping.outage < FAILOVER_SECONDS, str(ping)


@pytest.mark.usefixtures("at_n1")
def test_its_node_is_drained(cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures) -> None:
    with Ping(c1.host, web[4]) as ping:
        time.sleep(2)
        with cluster.drained_at_node("n1"):
            cluster.balancer.check_output("wirefleet-steer wait n1 empty --timeout 60")
            assert cluster.is_owner("n2", c1)
            time.sleep(SETTLE)
    figures.add("TCP, node drained: outage", ping.outage, "s")
    figures.add("TCP, node drained: pings lost", f"{ping.lost} of {ping.sent}")
    assert ping.outage < SETTLE, str(ping)


def test_udp_comes_first_and_tcp_only_while_it_must(
    lab: Lab, cluster: Cluster, c2: Client, web: dict[int, str], figures: Figures
) -> None:
    comes_by(c2.host, "udp", RETURN_SECONDS)
    with Ping(c2.host, web[6]):
        with without_udp(c2.host):
            took = comes_by(c2.host, "tcp", AUTO_SECONDS)
            figures.add("auto, UDP filtered: time until the tunnel is TCP's", took, "s")
            assert "private web server" in c2.get(f"http://{web[4]}/")
            # Everything goes through the tunnel, but what the tunnel goes through.
            route = partial(c2.host.check_output, "ip -6 route get %s")
            assert "dev wg0" in route("2001:db8::1")
            assert "dev public" in route(lab.address("lb1", "public", 6))
            with Ping(c2.host, web[4]) as probed:
                time.sleep(36)  # longer than two probes are apart
            figures.add("auto, on TCP, UDP probed in vain: longest silence", probed.outage, "s")
            assert probed.outage < SETTLE, str(probed)
        with Ping(c2.host, web[4]) as back:
            took = comes_by(c2.host, "udp", RETURN_SECONDS)
            time.sleep(SETTLE)
    figures.add("auto, UDP works again: time until it is used", took, "s")
    figures.add("auto, back to UDP: outage", back.outage, "s")
    assert back.outage < SETTLE, str(back)
    assert path(c2.host)["path"] == "udp"
