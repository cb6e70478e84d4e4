# SPDX-License-Identifier: GPL-3.0-or-later
"""keepalived elects one of three balancers, and a script asks the cloud for the packets."""

from __future__ import annotations

import time

from testinfra.host import Host
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.pair import Pair

OUTAGE_SECONDS = 3
ASKING_SECONDS = 30  # each asks again every 10 s
CLOUD_AWAY = 3  # seconds
DEAF = "table inet deaf { chain input { type filter hook input priority -300; ip protocol 112 drop; }; }"


def has_packets(cloud: Host) -> str:
    """The balancer to which the cloud sends them."""
    return cloud.check_output("curl --silent --fail http://127.0.0.1:8080/active")


def wait_for_packets(cloud: Host, name: str) -> float:
    return until(f"{name} has the packets", ASKING_SECONDS, lambda: has_packets(cloud) == name, pause=0.05)


def test_each_balancer_takes_over(trio: Pair, cloud: Host, figures: Figures) -> None:
    """Whoever is active next has learned the sessions from the one before, or from the one before that."""
    active, *others = trio.roles()
    assert has_packets(cloud) == active
    with trio.watched() as seen:
        for name in others:
            for other in trio.views.keys() - {active, name}:
                trio.host(other).check_output("systemctl stop wirefleet-keepalived")
            trio.host(active).check_output("systemctl stop wirefleet-keepalived")
            trio.wait_active(name)
            wait_for_packets(cloud, name)
            for other in trio.views.keys() - {name}:
                trio.host(other).check_output("systemctl start wirefleet-keepalived")
            active = name
    figures.add("two planned takeovers among three balancers: pings lost", f"{seen.lost} of {seen.sent}")
    assert seen.lost == 0, str(seen)
    assert seen.sessions_kept, seen.handshakes
    assert trio.roles()[0] == active


def test_the_active_balancer_is_lost(lab: Lab, trio: Pair, cloud: Host, figures: Figures) -> None:
    active = trio.roles()[0]
    try:
        with trio.watched() as seen:
            lab.befall("cut", active)
            until("the cloud knows", ASKING_SECONDS, lambda: has_packets(cloud) != active)
    finally:
        lab.befall("mend", active)
    figures.add("active balancer of three cut: longest outage", seen.outage, "s")
    assert seen.outage <= OUTAGE_SECONDS, str(seen)
    assert seen.sessions_kept, seen.handshakes
    assert trio.roles()[0] == has_packets(cloud) != active


def test_a_cloud_that_is_away_is_asked_again(trio: Pair, cloud: Host) -> None:
    active = trio.roles()[0]
    cloud.check_output("touch /run/cloud-away")
    try:
        trio.host(active).check_output("systemctl restart wirefleet-keepalived")
        time.sleep(CLOUD_AWAY)
        assert has_packets(cloud) == active
    finally:
        cloud.check_output("rm /run/cloud-away")
    name = trio.roles()[0]
    assert name != active
    wait_for_packets(cloud, name)


def test_of_several_that_were_active_the_elected_one_has_the_packets(trio: Pair, cloud: Host) -> None:
    trio.roles()
    for name in trio.views:
        trio.host(name).check_output("nft %s", DEAF)
    try:
        for name in trio.views:
            trio.wait_active(name)
        # Whoever asks last has them.
        trio.host("lb1").check_output("systemctl restart wirefleet-take-over")
        wait_for_packets(cloud, "lb1")
    finally:
        for name in trio.views:
            trio.host(name).check_output("nft delete table inet deaf")
    assert trio.roles()[0] == "lb3", "of equals, VRRP prefers the one with the greatest address"
    wait_for_packets(cloud, "lb3")
    with trio.watched() as seen:
        pass
    assert seen.lost == 0, str(seen)
