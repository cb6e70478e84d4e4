# SPDX-License-Identifier: GPL-3.0-or-later
"""A new service key serves on another port beside the old one, until the last client has moved. Nobody is cut off."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from testinfra.host import Host
from traffic.cluster import FAILOVER_SECONDS, Client, Cluster, peers
from traffic.figures import Figures
from traffic.hosts import REPOSITORY, Lab, until
from traffic.ping import Ping
from traffic.site import Play

OVERLAP = REPOSITORY / "molecule" / "rotate" / "overlap"
OVER = REPOSITORY / "molecule" / "rotate" / "over"
SERVED_SECONDS = 30
HEARD_SECONDS = 180
ROTATE = {"vpn_rotate": "service", "vpn_confirm": "rotate-service-key"}


@pytest.fixture
def overlapping(play: Play) -> Play:
    """The old service key serves beside the new one."""
    return partial(play, besides=(OVERLAP,))


def node_of(cluster: Cluster, phone: Host) -> str:
    """The node with the session of the phone, which knows the old service key."""
    key = phone.check_output("wg show vpn public-key")
    handshakes = {name: int(peers(node, "latest-handshakes", "wg0")[key]) for name, node in cluster.nodes.items()}
    return max(handshakes, key=lambda name: handshakes[name])


def kept_here(lab: Lab) -> list[str]:
    """The cluster's secrets on the controller."""
    return sorted(path.name for path in (lab.directory / "state" / "keys").glob("*.key"))


def said(play: Play) -> str:
    run = play("rotate_keys", vpn_rotate="status")
    run.assert_unchanged()
    return run.said


def test_what_is_not_meant_is_refused(play: Play, overlapping: Play) -> None:
    play("rotate_keys", **ROTATE).assert_refused("Nothing was changed. vpn_old_port")
    overlapping("site").assert_refused("begin with rotate_keys")
    overlapping("rotate_keys", vpn_rotate="status").assert_refused("begin with rotate_keys")
    overlapping("rotate_keys", options=("--check",), **ROTATE).assert_refused("a new service key can not be tried")
    run = overlapping("rotate_keys", vpn_rotate="service")
    run.assert_refused("Nothing was changed. If this is what you want")
    assert "Managed clients (2) move in this run" in run.said


def test_clients_move_in_their_own_time(
    play: Play,
    overlapping: Play,
    cluster: Cluster,
    phone: Host,
    conf: Path,
    connect: Callable[[], None],
    c1: Client,
    c2: Client,
    web: dict[int, str],
    figures: Figures,
) -> None:
    # Both in one run: the second has a plan of its own.
    assert play("clients", options=("wirefleet.vpn.site",)).code == 0
    connect()
    conf.unlink()  # delivered
    old = c1.service_key
    with Ping(c1.host, web[4], 0.1) as one, Ping(c2.host, web[6], 0.1) as other, Ping(phone, web[4], 0.1) as slow:
        run = overlapping("rotate_keys", **ROTATE)
        assert run.code == 0, run.output
        until("c1 is served", SERVED_SECONDS, lambda: c1.answered(web[4]))
        until("c2 is served", SERVED_SECONDS, lambda: c2.answered(web[6]))
    figures.add("new service key: pings lost by a client that has not moved", f"{slow.lost} of {slow.sent}")
    figures.add("new service key: longest outages of two managed clients", f"{one.outage:.1f}, {other.outage:.1f}", "s")
    assert slow.lost == 0, str(slow)
    assert max(one.outage, other.outage) < SERVED_SECONDS, f"{one}; {other}"
    new = c1.service_key
    assert c2.service_key == new != old
    for node in cluster.nodes.values():
        assert [node.check_output("wg show %s public-key", name) for name in ("wg0", "wg1")] == [old, new]
    assert phone.check_output("wg show vpn peers") == old
    assert "Not heard with the new service key yet: alice" in run.said


def test_both_keys_serve_until_that_is_over(
    lab: Lab, play: Play, overlapping: Play, phone: Host, c1: Client, web: dict[int, str]
) -> None:
    overlapping("site").assert_unchanged()
    overlapping("rotate_keys", **ROTATE).assert_refused("the service key before this one still serves on port 51820")
    # The inventory from before, and a run that would do a part of the end.
    play("site").assert_refused("wg0 (vpn_interface) serves an old service key")
    play("site", options=("--limit", "lb1")).assert_refused("wg0 (vpn_interface) serves an old service key")
    for part in (("--tags", "peers"), ("--limit", "lb1"), ("--limit", "n1")):
        play("site", besides=(OVER,), options=part).assert_refused("run of site without --tags and for all nodes")
    assert kept_here(lab) == ["old-psk.key", "old-service.key", "psk.key", "service.key"]
    assert "Not heard with the new service key yet: alice" in said(overlapping)
    for url in (f"http://{web[4]}/", f"http://[{web[6]}]/"):
        assert "wirefleet lab" in c1.get(url)
        assert "wirefleet lab" in phone.check_output("curl --silent --globoff --fail --max-time 5 %s", url)


def test_who_has_not_moved_is_carried_over_to_other_nodes(
    lab: Lab, cluster: Cluster, phone: Host, c1: Client, web: dict[int, str], figures: Figures
) -> None:
    drained = node_of(cluster, phone)
    with Ping(phone, web[4], 0.1) as ping, cluster.drained_at_node(drained):
        until("the phone is elsewhere", SERVED_SECONDS, lambda: node_of(cluster, phone) != drained)
    figures.add("its node is drained: pings lost by a client that has not moved", f"{ping.lost} of {ping.sent}")
    assert ping.lost == 0, str(ping)

    killed = node_of(cluster, phone)
    with Ping(phone, web[4], 0.1) as ping:
        time.sleep(1)
        lab.befall("kill", killed)
        until("the phone is served", SERVED_SECONDS, lambda: phone.run("ping -c 1 -W 1 %s", web[4]).succeeded)
    figures.add("its node is killed: outage of a client that has not moved", ping.outage, "s")
    lab.befall("start", killed)
    cluster.wait(killed, "up", 90)
    assert ping.outage < FAILOVER_SECONDS, str(ping)
    until("c1 is served", SERVED_SECONDS, lambda: c1.answered(web[4]))


def test_the_last_one_moves_and_the_old_key_ends(
    lab: Lab,
    play: Play,
    overlapping: Play,
    cluster: Cluster,
    phone: Host,
    connect: Callable[[], None],
    c1: Client,
    web: dict[int, str],
    figures: Figures,
) -> None:
    connect()
    assert phone.check_output("wg show vpn peers") == c1.service_key
    # The killed node has forgotten whom it had heard.
    until(
        "all have been heard",
        HEARD_SECONDS,
        lambda: "All clients have been heard with the new service key" in said(overlapping),
    )
    with Ping(c1.host, web[4], 0.1) as one, Ping(phone, web[4], 0.1) as other:
        run = play("site", besides=(OVER,))
        assert run.code == 0, run.output
    figures.add("the old service key ends: pings lost by two clients", f"{one.lost}, {other.lost}")
    assert (one.lost, other.lost) == (0, 0), f"{one}; {other}"
    assert kept_here(lab) == ["psk.key", "service.key"]
    for node in cluster.nodes.values():
        assert sorted(node.check_output("wg show interfaces").split()) == ["wf0", "wg1"]
        assert sorted(node.check_output("ls /etc/wirefleet/default/keys").split()) == [
            "mesh.key",
            "psk.key",
            "service.key",
        ]
        # The numbers of the old port, and of what led into the old tunnel.
        rules = node.check_output("ip -N -4 rule; ip -N -6 rule")
        assert not [number for number in ("51820", "0xca6c", "51831") if number in rules], rules
    play("site", besides=(OVER,)).assert_unchanged()
