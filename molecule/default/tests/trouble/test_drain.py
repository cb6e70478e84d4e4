# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes are drained, one in HAProxy and one by itself, while their clients are busy.

Their clients move at once. One stream of pings for each client sees it from the first to the last second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest
from traffic.cluster import DRAIN_SECONDS, Client, Cluster, inner_address, status
from traffic.figures import Figures
from traffic.hosts import until
from traffic.ping import Ping


@dataclass(frozen=True)
class Drain:
    """Pings that watch both drains, and how long they took."""

    took: float
    pings: dict[str, Ping]
    watched: ExitStack


@pytest.fixture(scope="module")
def drain(cluster: Cluster, c1: Client, c2: Client, web: dict[int, str]) -> Iterator[Drain]:
    cluster.place(c1, "n1")
    cluster.place(c2, "n2")
    with ExitStack() as watched:
        pings = {"c1": Ping(c1.host, web[4], 0.02), "c2": Ping(c2.host, web[6], 0.02)}
        for ping in pings.values():
            watched.enter_context(ping)
        time.sleep(1)
        with cluster.drained_in_haproxy("n1"), cluster.drained_at_node("n2"):
            begin = time.monotonic()
            for client in (c1, c2):
                until(f"{client.name} is at n3", DRAIN_SECONDS, partial(cluster.is_owner, "n3", client))
            yield Drain(time.monotonic() - begin, pings, watched)


@pytest.mark.usefixtures("drain")
class TestWhileNodesAreDrained:
    def test_haproxy_and_the_kernel_agree(self, cluster: Cluster) -> None:
        states = cluster.states()
        assert {node: row["kernel"] for node, row in states.items()} == {
            "n1": "draining",
            "n2": "draining",
            "n3": "up",
        }
        assert {node: row["slots"] for node, row in states.items()} == {"n1": 0, "n2": 0, "n3": 1024}

    def test_the_agent_says_so(self, cluster: Cluster) -> None:
        inner = inner_address(cluster.nodes["n2"])
        # Asked as HAProxy does, through the balancer's tunnel to the node.
        assert status(cluster.balancer, f"http://{inner}:8051/healthz") == 404
        explained = cluster.balancer.check_output("wirefleet-steer explain n2")
        assert "undrain" in explained

    @pytest.mark.parametrize(
        ("what", "command"),
        [
            ("HAProxy reloaded", "systemctl reload haproxy"),
            ("HAProxy restarted", "systemctl restart haproxy"),
            ("wirefleet-steer restarted", "systemctl restart wirefleet-steer"),
        ],
    )
    def test_the_balancers_programs_come_and_go(
        self, cluster: Cluster, c1: Client, figures: Figures, web: dict[int, str], what: str, command: str
    ) -> None:
        with Ping(c1.host, web[4], 0.02) as ping:
            cluster.balancer.check_output(command)
            time.sleep(3)
        figures.add(f"{what}: pings lost, at 50/s", f"{ping.lost} of {ping.sent}")
        assert ping.lost == 0, str(ping)
        # The drain by hand outlived it; the node's own drain is the node's to say.
        cluster.wait("n1", "drained")
        cluster.wait("n2", "drained")
        assert cluster.states()["n1"]["haproxy"].startswith("DRAIN")
        cluster.wait("n3", "up")

    def test_their_clients_have_moved_and_lost_nothing(self, cluster: Cluster, drain: Drain, figures: Figures) -> None:
        drain.watched.close()
        figures.add("nodes drained: time until their clients are elsewhere", drain.took, "s")
        assert {node: row["clients"] for node, row in cluster.states().items()} == {"n1": 0, "n2": 0, "n3": 2}
        for name, ping in drain.pings.items():
            where = {"c1": "in HAProxy", "c2": "by wirefleet-node"}[name]
            figures.add(f"drained {where}: pings lost by {name}, which moved", f"{ping.lost} of {ping.sent}")
            assert ping.sent >= 1000
            assert ping.lost == 0, str(ping)
