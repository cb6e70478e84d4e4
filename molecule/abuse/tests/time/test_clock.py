# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's clock jumps a day forth, a day back, and is right again."""

from __future__ import annotations

import json
import time

import pytest
from traffic import clock
from traffic.cluster import DRAIN_SECONDS, FAILOVER_SECONDS, Client, Cluster, fetch, mesh_address
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.ping import Ping

DAY = 86400
NOTICED_SECONDS = 10


def has(cluster: Cluster, node: str, client: Client) -> bool:
    """Whether the balancer believes that the client is, or may be, at the node."""
    page = f"http://[{mesh_address(cluster.balancer)}]:8052/v1/clients?node={node}"
    return client.key in json.loads(fetch(cluster.balancer, page))["handshakes"]


def noticed(cluster: Cluster, name: str, since: float) -> bool:
    words = f"journalctl --no-pager --output cat --unit wirefleet-steer --since @{since:.0f}"
    return f"event={name} node=n1" in cluster.balancer.check_output(words)


def may_begin(cluster: Cluster, address: str) -> bool:
    """Whether the balancer lets the node with this address begin handshakes, to adopt or to rekey."""
    return f"{address} " in cluster.balancer.check_output("nft list set ip wirefleet initiators").replace(",", " ")


@pytest.mark.parametrize("seconds", [DAY, -DAY], ids=["forth", "back"])
def test_a_clock_jumps_by_a_day(
    lab: Lab, cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures, seconds: int
) -> None:
    way = "ahead" if seconds > 0 else "behind"
    node = cluster.nodes["n1"]
    with clock.movable(node) as agent:
        cluster.wait("n1", "up")
        cluster.place(c1, "n1")
        with Ping(c1.host, web[4], 0.05) as ping:
            time.sleep(1)
            begin = time.time()
            agent.set(seconds)
            until("the balancer notices", NOTICED_SECONDS, lambda: noticed(cluster, "clock_wrong", begin))
            until("n1 may begin no handshake", 5, lambda: not may_begin(cluster, lab.address("n1", "backend", 4)))
            # A session that is dated by that clock.
            c1.reconnect()
            until("the node has it", 5, lambda: cluster.owner(c1, among=["n1"]) == "n1")
            time.sleep(2)
            with cluster.drained_at_node("n1"):
                took = until("c1 is at n2", DRAIN_SECONDS, lambda: cluster.is_owner("n2", c1))
                cluster.wait("n1", "empty", 30)
            agent.set(0)
            until("the balancer sees that it is right", NOTICED_SECONDS, lambda: noticed(cluster, "clock_right", begin))
            # Whoever asks anew hears of a handshake that is still to come, or was long before the latest one.
            cluster.balancer.check_output("systemctl restart wirefleet-steer")
            cluster.wait("n1", "up")
            until("it knows where c1 is", 10, lambda: has(cluster, "n2", c1))
            assert not has(cluster, "n1", c1)
        figures.add(f"clock of a node a day {way}: its client is elsewhere after a drain within", took, "s")
        figures.add(f"clock of a node a day {way}, and right again: pings lost", f"{ping.lost} of {ping.sent}")
        assert ping.outage < 2, str(ping)
        cluster.place(c1, "n2")
    # Back in the same time, it is what it was before.
    cluster.wait("n1", "up")
    with Ping(c1.host, web[4], 0.05) as ping:
        time.sleep(1)
        cluster.nodes["n2"].check_output("systemctl stop wg-quick@wg0")
        until("c1 is served", FAILOVER_SECONDS, lambda: c1.answered(web[4]))
    cluster.nodes["n2"].check_output("systemctl start wg-quick@wg0")
    figures.add(f"clock that was a day {way}: the node adopts a client within", ping.outage, "s")
    assert ping.outage < FAILOVER_SECONDS, str(ping)
    cluster.wait("n2", "up")
