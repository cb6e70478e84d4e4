# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks without room for another byte: what runs goes on, what can not be done says why, and room is all it takes."""

from __future__ import annotations

import time

from traffic import disk
from traffic.cluster import Client, Cluster
from traffic.figures import Figures
from traffic.hosts import until
from traffic.ping import Ping

MEMORY, CONFIGURATION = "/run/wirefleet-steer", "/etc/wirefleet/default"
STATE = "/var/lib/wirefleet/default"
REVIEW_SECONDS = 15


def events(cluster: Cluster, name: str, since: float) -> str:
    return cluster.balancer.run(
        "journalctl --no-pager --output cat --unit wirefleet-steer --since @%s | grep event=%s", str(since), name
    ).stdout


def test_the_balancers_memory(cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures) -> None:
    """What the daemon keeps for its next start has no room, and neither does what HAProxy's states are kept in."""
    begin = int(time.time())
    cluster.place(c1, "n1")
    host = cluster.balancer
    with (
        Ping(c1.host, web[4], 0.05) as ping,
        disk.full(host, MEMORY, "wirefleet-steer"),
        disk.full(host, CONFIGURATION),
    ):
        until("it says so", REVIEW_SECONDS, lambda: bool(events(cluster, "memory_failed", begin)))
        host.check_output("systemctl reload haproxy")
        with cluster.drained_in_haproxy("n1"):
            until("c1 is at n2", 10, lambda: cluster.is_owner("n2", c1))
        host.check_output("systemctl restart wirefleet-steer")
        cluster.wait("n1", "up")
        for directory in (MEMORY, CONFIGURATION):
            disk.free(host, directory)
        host.check_output("rm -f %s/clients.json", MEMORY)
        until("it remembers again", REVIEW_SECONDS, lambda: host.file(f"{MEMORY}/clients.json").exists)
    figures.add("balancer's disk full, a drain and a restart meanwhile: pings lost", f"{ping.lost} of {ping.sent}")
    assert ping.outage < 2, str(ping)
    assert "No space left" in events(cluster, "memory_failed", begin)


def test_a_nodes_state(cluster: Cluster, c1: Client, web: dict[int, str], figures: Figures) -> None:
    node = cluster.nodes["n1"]
    cluster.place(c1, "n1")
    with Ping(c1.host, web[4], 0.05) as ping, disk.full(node, STATE, "wirefleet-node"):
        cluster.wait("n1", "up")
        refused = node.run("wirefleet-node drain")
        assert refused.rc != 0
        assert "No space left on device" in refused.stderr
        assert f"{STATE}/drain" in refused.stderr, refused.stderr
        assert node.check_output("ls -A %s", STATE) == ".filler", "nothing is left of it"
        time.sleep(3)
        assert cluster.states()["n1"]["kernel"] == "up"
        disk.free(node, STATE)
        with cluster.drained_at_node("n1"):
            # An order that is there can be taken back without room.
            node.run("dd if=/dev/zero of=%s/.filler bs=4k 2> /dev/null", STATE)
    figures.add("node's disk full, agent restarted twice, drained and back: pings lost", f"{ping.lost} of {ping.sent}")
    assert ping.outage < 2, str(ping)
