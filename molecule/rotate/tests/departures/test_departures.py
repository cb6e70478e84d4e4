# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts leave for good: they keep no key, the others know nothing of them, and clients go on."""

from __future__ import annotations

import pytest
from traffic.cluster import Client, Cluster
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.pair import Pair
from traffic.ping import Ping
from traffic.site import Play

SERVED_SECONDS = 30
LEFT = (
    "/etc/wirefleet /etc/wireguard/*.conf /usr/local/lib/wirefleet /usr/local/sbin/wirefleet* /var/lib/wirefleet"
    " /etc/systemd/system/wirefleet* /etc/systemd/system/*.d/wirefleet* /etc/sysctl.d/90-wirefleet*"
)
UNITS = "systemctl list-units --all --plain --no-legend 'wirefleet*'"


def assert_nothing_is_left(lab: Lab, name: str) -> None:
    host = lab.host(name)
    assert host.run(f"ls -d {LEFT} 2> /dev/null").stdout == ""
    assert host.check_output("wg show interfaces") == ""
    assert "wirefleet" not in host.check_output("nft list tables")
    assert host.check_output(UNITS) == ""
    assert not host.service("prometheus-node-exporter").is_running


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({}, "vpn_target: which host leaves?"),
        ({"vpn_target": "c1"}, "vpn_target: c1 is no node and no balancer"),
    ],
)
def test_what_is_not_clear_is_refused(play: Play, variables: dict[str, str], complaint: str) -> None:
    run = play("decommission", **variables)
    run.assert_refused("Nothing was changed")
    assert complaint in " ".join(run.output.split()), run.output


def test_a_node_leaves_and_its_clients_lose_nothing(
    play: Play, lab: Lab, cluster: Cluster, c1: Client, c2: Client, web: dict[int, str], figures: Figures
) -> None:
    cluster.place(c1, "n3")
    mesh = cluster.nodes["n3"].check_output("wg show wf0 public-key")
    with Ping(c1.host, web[4], 0.05) as own, Ping(c2.host, web[6], 0.05) as other:
        run = play("decommission", vpn_target="n3")
        assert run.code == 0, run.output
    figures.add("a node leaves: pings lost by its client, and by another", f"{own.lost}, {other.lost}")
    assert (own.lost, other.lost) == (0, 0), f"{own}; {other}"
    assert_nothing_is_left(lab, "n3")
    assert not [name for name in ("lb1", "lb2", "n1", "n2") if mesh in lab.host(name).check_output("wg show wf0 peers")]
    assert set(cluster.states()) == {"n1", "n2"}
    assert "Take n3 out of the inventory" in " ".join(run.output.split())


def test_it_does_not_come_back_by_itself(play: Play) -> None:
    run = play("site")
    run.assert_refused("n3: was decommissioned")
    play("site", gone=("n3",)).assert_unchanged()


def test_a_node_that_is_lost_is_forgotten_when_that_is_meant(
    play: Play, lab: Lab, c1: Client, web: dict[int, str]
) -> None:
    mesh = lab.host("n2").check_output("wg show wf0 public-key")
    lab.befall("kill", "n2")
    try:
        refused = play("decommission", gone=("n3",), vpn_target="n2")
        assert "n2 can not be reached, and would keep its keys" in " ".join(refused.output.split())
        assert refused.total("changed") == 0
        run = play("decommission", gone=("n3",), vpn_target="n2", vpn_decommission_lost="true")
        assert "n2 could not be reached and has all its keys" in " ".join(run.output.split()), run.output
        assert [name for name in ("lb1", "lb2", "n1") if mesh in lab.host(name).check_output("wg show wf0 peers")] == []
        until("the client is served", SERVED_SECONDS, lambda: c1.answered(web[4]))
        play("site", gone=("n2", "n3")).assert_unchanged()
    finally:
        lab.befall("start", "n2")


def test_the_active_balancer_leaves_and_sessions_go_on(
    play: Play, lab: Lab, pair: Pair, c1: Client, c2: Client, web: dict[int, str], figures: Figures
) -> None:
    until("c2 is served, too", SERVED_SECONDS, lambda: c2.answered(web[6]))
    active, other = sorted(("lb1", "lb2"), key=lambda name: not pair.held(name))
    mesh = lab.host(active).check_output("wg show wf0 public-key")
    gone = ("n2", "n3")
    with Ping(c1.host, web[4], 0.05) as first, Ping(c2.host, web[6], 0.05) as second:
        run = play("decommission", gone=gone, vpn_target=active)
    assert run.code == 0, run.output
    figures.add("the active balancer leaves: pings lost by the clients", f"{first.lost}, {second.lost}")
    assert (first.lost, second.lost) == (0, 0), f"{first}; {second}"
    assert pair.held(other) == pair.vips
    assert_nothing_is_left(lab, active)
    assert not lab.host(active).service("haproxy").is_running
    assert not [name for name in (other, "n1") if mesh in lab.host(name).check_output("wg show wf0 peers")]
    play("site", gone=gone).assert_refused(f"{active}: was decommissioned")
    play("site", gone=(*gone, active)).assert_unchanged()


def test_the_last_ones_stay(play: Play, lab: Lab, pair: Pair) -> None:
    other = next(name for name in ("lb1", "lb2") if pair.held(name))
    gone = ("n2", "n3", *({"lb1", "lb2"} - {other}))
    for name in (other, "n1"):
        play("decommission", gone=gone, vpn_target=name).assert_refused(f"{name} is the only one")
