# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that can track no more connections. What is steered is not tracked; checks are, and what clients do beyond."""

from __future__ import annotations

import time

from traffic import conntrack
from traffic.cluster import FAILOVER_SECONDS
from traffic.figures import Figures
from traffic.hosts import until
from traffic.pair import Pair
from traffic.ping import Ping

RECOVERY_SECONDS = 60


def test_balancers_can_track_nothing_more(pair: Pair, figures: Figures) -> None:
    """The worst case: whatever fills the tables does not go. No check gets through at either balancer."""
    pair.roles()
    with pair.watched() as seen, conntrack.filled(pair.host("lb1"), 1), conntrack.filled(pair.host("lb2"), 1):
        time.sleep(20)
    figures.add("both balancers' connection tracking full: pings lost", f"{seen.lost} of {seen.sent}")
    figures.add("both balancers' connection tracking full: longest outage", seen.outage, "s")
    assert seen.outage < FAILOVER_SECONDS, str(seen)
    assert seen.sessions_kept, seen.handshakes
    begin = time.monotonic()
    pair.roles()
    figures.add("… and then not: all is well again after", time.monotonic() - begin, "s")


def test_a_node_can_track_nothing_more(pair: Pair, web: dict[int, str], figures: Figures) -> None:
    """Its client's connections go on, and new ones get through, there or at the node that adopts it."""
    view, client = pair.views[pair.roles()[0]], pair.clients["c1"]
    view.place(client, "n1")
    node = view.nodes["n1"]
    conntrack.install(node)
    with Ping(client.host, web[4], 0.05) as ping:
        time.sleep(1)
        with conntrack.filled(node, 1):
            time.sleep(10)
            until("a new connection gets through", FAILOVER_SECONDS, lambda: client.answered(web[4]))
    figures.add("node's connection tracking full: outage of its client", ping.outage, "s")
    assert ping.outage < FAILOVER_SECONDS, str(ping)
    figures.add("… and then not: the node takes clients again after", view.wait("n1", "up", RECOVERY_SECONDS), "s")
