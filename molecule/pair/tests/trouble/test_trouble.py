# SPDX-License-Identifier: GPL-3.0-or-later
"""A balancer that is there but not in order, two that are active at once, and a node that dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from traffic.cluster import FAILOVER_SECONDS
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.pair import BALANCERS, Pair

HEALING_SECONDS = 3
# The check looks once a second, twice, at a sign that may be three seconds old; then three advertisements are missed.
DISORDER_SECONDS = 10
DEAF = "table inet deaf { chain input { type filter hook input priority -300; ip protocol 112 drop; }; }"


def test_the_table_is_gone_and_nobody_puts_it_back(pair: Pair, figures: Figures) -> None:
    active, other = pair.roles()
    host = pair.host(active)
    with pair.watched() as seen:
        host.check_output("systemctl stop wirefleet-steer && nft flush ruleset")
        took = pair.wait_active(other)
    host.check_output("systemctl start wirefleet-steer")
    figures.add("table gone and daemon stopped: time until the other is active", took, "s")
    assert seen.outage <= DISORDER_SECONDS, str(seen)
    assert seen.sessions_kept, seen.handshakes
    assert pair.roles() == (other, active)


def test_haproxy_stops_at_one_balancer_and_at_both(pair: Pair, figures: Figures) -> None:
    active, other = pair.roles()
    with pair.watched() as seen:
        pair.host(active).check_output("systemctl stop haproxy")
        pair.wait_active(other)
        pair.host(other).check_output("systemctl stop haproxy")
        until("no balancer is in order", DISORDER_SECONDS, lambda: not any(map(pair.in_order, BALANCERS)))
        time.sleep(DISORDER_SECONDS)
        assert pair.held(other) == pair.vips, "it stays active where nobody is better"
    for name in BALANCERS:
        pair.host(name).check_output("systemctl start haproxy")
    figures.add("HAProxy stopped, at both in the end: pings lost", f"{seen.lost} of {seen.sent}")
    assert seen.lost == 0, str(seen)
    assert pair.roles() == (other, active)


@contextmanager
def deaf_to_each_other(pair: Pair) -> Iterator[None]:
    for name in BALANCERS:
        pair.host(name).check_output("nft %s", DEAF)
    try:
        yield
    finally:
        for name in BALANCERS:
            pair.host(name).check_output("nft delete table inet deaf")


def test_both_are_active_for_a_while(pair: Pair, figures: Figures) -> None:
    pair.roles()
    with pair.watched() as seen:
        with deaf_to_each_other(pair):
            for name in BALANCERS:
                pair.wait_active(name)
            time.sleep(5)
        begin = time.monotonic()
        until("one is active", HEALING_SECONDS, lambda: [*map(pair.held, BALANCERS)].count(set()) == 1, pause=0)
        healed = time.monotonic() - begin
    figures.add("both active, then healed: time until one is", healed, "s")
    figures.add("both active, then healed: longest outage", seen.outage, "s")
    figures.add("both active, then healed: pings lost", f"{seen.lost} of {seen.sent}")
    assert seen.outage <= HEALING_SECONDS, str(seen)
    assert seen.sessions_kept, seen.handshakes
    pair.roles()


def test_a_node_dies(lab: Lab, pair: Pair, figures: Figures) -> None:
    active, _ = pair.roles()
    client = pair.clients["c1"]
    view = pair.views[active]
    view.place(client, "n1")
    with pair.ping(client) as ping:
        time.sleep(1)
        lab.befall("kill", "n1")
        until("c1 is served", FAILOVER_SECONDS, lambda: pair.served(client))
    lab.befall("start", "n1")
    figures.add("node killed behind two balancers: outage of its client", ping.outage, "s")
    assert ping.outage < FAILOVER_SECONDS
    assert view.owner(client) == "n2"
    pair.roles()
