# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody flushes the balancer's rules, and strangers flood its public address."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host
from traffic.cluster import FAILOVER_SECONDS, Client, Cluster, inner_address, new_port, peers
from traffic.figures import Figures
from traffic.hosts import REPOSITORY, Lab, until
from traffic.ping import Ping

JUNK = 100_000
READ_SECONDS = (
    6  # in which a balancer with source NAT has read who is behind a new port: what it knows by then comes back
)
# The sources that the balancer counts by: addresses of IPv4, networks of IPv6.
SOURCES = {4: [f"198.51.100.{last}" for last in range(64, 128)], 6: [f"2001:db8:f:{n:x}::1" for n in range(64)]}


def test_the_ruleset_is_flushed_and_comes_back(
    lab: Lab, cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures
) -> None:
    cluster.place(c1, "n1")
    inner = inner_address(c1.host)
    public = lab.address("lb1", "public", 4)
    capture = "/run/unsteered.pcap"
    c1.host.check_output(
        "systemd-run --quiet --unit=unsteered tcpdump -Unn -i public -w %s 'udp src port 51820'", capture
    )
    # The node has to send all the while, to a client that it knows.
    with Ping(c1.host, web[4], 0.02) as ping, Ping(cluster.nodes["n1"], inner, 0.02) as back:
        time.sleep(READ_SECONDS)
        # What `systemctl reload nftables` runs: Debian's file begins with "flush ruleset".
        cluster.balancer.check_output("nft --file /etc/nftables.conf")
        took = until(
            "the balancer has its tables",
            5,
            lambda: cluster.balancer.run("nft list table ip wirefleet && nft list table ip6 wirefleet").succeeded,
            pause=0,
        )
        until("c1 is served", FAILOVER_SECONDS, lambda: c1.answered(web[4]))
    c1.host.check_output("systemctl stop unsteered")
    figures.add("balancer's ruleset reloaded: time until ours is back", took, "s")
    figures.add("balancer's ruleset reloaded: outage of a client", ping.outage, "s")
    assert took < 2
    assert back.sent > 0
    # Nothing came with a node's own address: the client would have gone there with all that follows.
    packets = c1.host.check_output("tcpdump -nnr %s 2>/dev/null", capture).splitlines()
    assert {line.split()[2] for line in packets} == {f"{public}.51820"}
    c1.host.check_output("rm %s", capture)
    for node in cluster.nodes:
        cluster.wait(node, "up")


@pytest.fixture
def stranger(lab: Lab) -> Iterator[Host]:
    """A host that has no tunnel, many addresses and bad intentions."""
    host = lab.host("c3")
    host.check_output(
        f"for address in {' '.join(SOURCES[4] + SOURCES[6])}; do"
        " ip address add $address dev public $(case $address in *:*) echo nodad;; esac) || exit; done"
    )
    yield host
    host.check_output("ip address flush dev public to 198.51.100.64/26")
    host.check_output("ip address flush dev public to 2001:db8:f::/48")


def test_a_flood_of_junk_costs_nobody_anything(
    lab: Lab, cluster: Cluster, stranger: Host, c1: Client, c2: Client, web: dict[int, str], figures: Figures
) -> None:
    program = Path(REPOSITORY, "tests", "traffic", "junk.py").read_text()
    targets = [lab.address("lb1", "public", version) for version in (4, 6)]
    cluster.place(c1, "n1")
    before = cluster.dropped()
    with Ping(c1.host, web[4], 0.02) as ping:
        stranger.check_output(
            "systemd-run --quiet --unit=junk --property=LimitNOFILE=8192 python3 -c %s %s %s %s",
            *(program, str(JUNK), *targets),
        )
        handshakes = []
        while stranger.run("systemctl is-active --quiet junk").succeeded:
            handshakes.append(c2.reconnect(new_port()))
    seen = sum(cluster.dropped().values()) - sum(before.values())
    figures.add(f"{JUNK} junk packets: dropped by the balancer", seen)
    figures.add("junk: pings lost by an honest client, at 50/s", f"{ping.lost} of {ping.sent}")
    figures.add("junk: handshakes of a new client meanwhile", len(handshakes))
    figures.add("junk: slowest of them", max(handshakes), "s")
    assert seen > 0.7 * JUNK
    assert ping.lost == 0, str(ping)
    # The junk has taught no node: its sources are nobody's peers.
    endpoints = [e for node in cluster.nodes.values() for e in peers(node, "endpoints").values()]
    assert not [e for e in endpoints if e.rsplit(":", 1)[0].strip("[]") in SOURCES[4] + SOURCES[6]]
