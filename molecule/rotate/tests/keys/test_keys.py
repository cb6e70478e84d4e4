# SPDX-License-Identifier: GPL-3.0-or-later
"""Each kind of key is made anew on a running cluster: whoever it concerns is served with the new one only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from testinfra.host import Host
from traffic.cluster import Client, Cluster, peers, reaches
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.ping import Ping
from traffic.site import Play

SERVED_SECONDS = 30


def preshared(host: Host, key: str) -> str:
    """The pre-shared key that a host has for a peer."""
    return peers(host, "preshared-keys")[key]


def answered(client: Client, target: str) -> float:
    return until(f"{client.name} is served", SERVED_SECONDS, lambda: client.answered(target))


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({}, "vpn_rotate: what?"),
        ({"vpn_rotate": "all"}, "value of vpn_rotate must be one of"),
        ({"vpn_rotate": "client"}, "client: whose keys?"),
        ({"vpn_rotate": "client", "client": "nobody"}, "client: there is no nobody"),
        ({"vpn_rotate": "psk", "client": "c1,alice"}, "client: alice: its key was made here"),
        ({"vpn_rotate": "node"}, "vpn_target: whose keys?"),
        ({"vpn_rotate": "node", "vpn_target": "lb1"}, "vpn_target: lb1 is no node"),
    ],
)
def test_what_is_not_clear_is_refused(play: Play, variables: dict[str, str], complaint: str) -> None:
    run = play("rotate_keys", **variables)
    run.assert_refused("Nothing was changed" if "must be one of" not in complaint else complaint)
    assert complaint in run.said, run.output


def test_a_clients_pre_shared_key(
    play: Play, cluster: Cluster, c1: Client, c2: Client, web: dict[int, str], figures: Figures
) -> None:
    """The session goes on, and the next one is made with the new key."""
    c1.reconnect()
    before = preshared(c1.host, c1.service_key)
    others = {name: preshared(node, c2.key) for name, node in cluster.nodes.items()}
    with Ping(c1.host, web[4], 0.1) as own, Ping(c2.host, web[6], 0.1) as other:
        run = play("rotate_keys", vpn_rotate="psk", client="c1")
        assert run.code == 0, run.output
    figures.add("pre-shared key made anew: pings lost by its client, and by another", f"{own.lost}, {other.lost}")
    after = preshared(c1.host, c1.service_key)
    assert after != before
    assert {preshared(node, c1.key) for node in cluster.nodes.values()} == {after}
    assert {name: preshared(node, c2.key) for name, node in cluster.nodes.items()} == others
    assert (own.lost, other.lost) == (0, 0), f"{own}; {other}"
    c1.reconnect()
    assert c1.answered(web[4])
    play("site").assert_unchanged()


def test_a_managed_clients_key_pair(
    play: Play, cluster: Cluster, c1: Client, c2: Client, web: dict[int, str], figures: Figures
) -> None:
    before = c1.key
    with Ping(c1.host, web[4], 0.1) as own, Ping(c2.host, web[6], 0.1) as other:
        run = play("rotate_keys", vpn_rotate="client", client="c1")
        assert run.code == 0, run.output
        answered(c1, web[4])
    figures.add("a client's key pair made anew: its longest time without an answer", own.outage, "s")
    assert c1.key != before
    for node in cluster.nodes.values():
        known = peers(node, "allowed-ips")
        assert c1.key in known
        assert before not in known
    assert other.lost == 0, str(other)


def test_a_devices_key_pair(
    play: Play,
    cluster: Cluster,
    phone: Host,
    conf: Path,
    connect: Callable[[], None],
    c1: Client,
    web: dict[int, str],
) -> None:
    run = play("clients")
    assert run.code == 0, run.output
    connect()
    before = phone.check_output("wg show vpn public-key")
    conf.unlink()  # delivered
    with Ping(c1.host, web[4], 0.1) as other:
        run = play("rotate_keys", vpn_rotate="client", client="alice")
        assert run.code == 0, run.output
    assert other.lost == 0, str(other)
    assert not reaches(phone, f"http://{web[4]}/"), "the old key is worth nothing"
    connect()
    assert phone.check_output("wg show vpn public-key") != before
    assert not any(before in peers(node, "allowed-ips") for node in cluster.nodes.values())


def test_a_nodes_key_in_the_mesh(
    play: Play, lab: Lab, cluster: Cluster, c1: Client, c2: Client, web: dict[int, str], figures: Figures
) -> None:
    cluster.place(c1, "n2")
    before = cluster.nodes["n2"].check_output("wg show wf0 public-key")
    with Ping(c1.host, web[4], 0.05) as own, Ping(c2.host, web[6], 0.05) as other:
        run = play("rotate_keys", vpn_rotate="node", vpn_target="n2")
        assert run.code == 0, run.output
        after = cluster.nodes["n2"].check_output("wg show wf0 public-key")
        for name in ("lb1", "lb2", "n1", "n3"):
            known = lab.host(name).check_output("wg show wf0 peers").split()
            assert after in known
            assert before not in known
    figures.add("a node's own key made anew: pings lost by two clients", f"{own.lost}, {other.lost}")
    assert (own.lost, other.lost) == (0, 0), f"{own}; {other}"
    # Balancers hear the agent again: it moves its clients when it is told to.
    with Ping(c1.host, web[4], 0.05) as ping, cluster.drained_at_node("n2"):
        until("the client is elsewhere", SERVED_SECONDS, lambda: cluster.owner(c1) != "n2")
    assert ping.lost == 0, str(ping)
