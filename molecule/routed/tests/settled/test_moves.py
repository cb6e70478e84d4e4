# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients move to other nodes, and their connections go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest
from testinfra.host import Host
from traffic.cluster import DRAIN_SECONDS, FAILOVER_SECONDS, Client, Cluster, inner_address, new_port
from traffic.download import Download
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.ping import Ping

DOWNLOAD_SECONDS = 10
DRAIN_STALL = 1.0
# TCP's own time-outs double: what was lost for 1.5 s may be sent again after 3.2 s only.
DEATH_STALL = 4.0


def test_a_client_that_comes_is_answered(cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures) -> None:
    cluster.place(c1, "n2")
    while cluster.is_owner("n2", c1):
        time.sleep(1.1)  # handshakes are dated in whole seconds
        c1.reconnect(new_port())
        took = until("c1 is answered", 5, lambda: c1.host.run("ping -c 1 -W 0.1 %s", web[4]).succeeded, pause=0)
    figures.add("client comes to another node: time until it is answered", took, "s")
    assert took < 2


def test_downloads_run_through_a_drain(cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures) -> None:
    cluster.place(c1, "n1")
    with Download(c1.host, web[4], DOWNLOAD_SECONDS) as four, Download(c1.host, web[6], DOWNLOAD_SECONDS) as six:
        time.sleep(2)
        with cluster.drained_at_node("n1"):
            until("c1 has left n1", DRAIN_SECONDS, lambda: not cluster.is_owner("n1", c1))
            time.sleep(3)  # until n1 was told to let go
    for version, download in ((4, four), (6, six)):
        figures.add(f"node drained: stall of a download over IPv{version}", download.stall, "s")
        assert download.complete, str(download)
        assert download.stall < DRAIN_STALL, str(download)


@pytest.fixture
def idle(cluster: Cluster, c2: Client) -> Iterator[str]:
    """The address of c2, which is at n1 and says nothing by itself."""
    cluster.place(c2, "n1")
    keepalive = "wg set wg0 peer %s persistent-keepalive %s"
    c2.host.check_output(keepalive, c2.service_key, "0")
    yield inner_address(c2.host)
    c2.host.check_output(keepalive, c2.service_key, "25")


def test_downloads_run_through_a_nodes_death(
    lab: Lab, cluster: Cluster, server: Host, c1: Client, c2: Client, idle: str, web: dict[int, str], figures: Figures
) -> None:
    cluster.place(c1, "n1")
    with Download(c1.host, web[4], DOWNLOAD_SECONDS) as four, Download(c1.host, web[6], DOWNLOAD_SECONDS) as six:
        time.sleep(2)
        lab.befall("freeze", "n1")
        begin = time.monotonic()
        until("c2 is reached", FAILOVER_SECONDS, lambda: server.run("ping -c 1 -W 0.2 %s", idle).succeeded, pause=0)
        took = time.monotonic() - begin
    figures.add("node dead: time until its idle client is reached from the private network", took, "s")
    for version, download in ((4, four), (6, six)):
        figures.add(f"node dead: stall of a download over IPv{version}", download.stall, "s")
        assert download.complete, str(download)
        assert download.stall < DEATH_STALL, str(download)

    # It comes back, believes that it has them still, and takes nothing away.
    with Ping(server, inner_address(c1.host), 0.1) as busy, Ping(server, idle, 0.1) as quiet:
        lab.befall("start", "n1")
        cluster.wait("n1", "up")
        until("n1 has let them go", 10, partial(_routes_nobody, cluster, "n1", (c1, c2)))
    figures.add("node comes back: pings to clients lost", f"{busy.lost + quiet.lost} of {busy.sent + quiet.sent}")
    assert busy.lost == quiet.lost == 0, f"c1: {busy}; c2: {quiet}"


def _routes_nobody(cluster: Cluster, node: str, clients: tuple[Client, ...]) -> bool:
    routes = cluster.nodes[node].check_output("ip -4 route show table 51821")
    return not any(f"{inner_address(client.host)} " in routes for client in clients)
