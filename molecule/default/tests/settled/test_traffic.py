# SPDX-License-Identifier: GPL-3.0-or-later
"""Stock clients reach the private network, by any node, and the nodes see who they are."""

from __future__ import annotations

from collections import Counter

import pytest
from traffic.cluster import SLOTS, SLOTS_TOLERANCE, Cluster, peers, reaches
from traffic.figures import Figures
from traffic.hosts import Lab, until

GREETING = "wirefleet lab: private web server"
SESSIONS = 24


@pytest.mark.parametrize(("name", "version"), [("c1", 4), ("c2", 6)])
def test_a_handshake_goes_through_the_balancer(
    lab: Lab, cluster: Cluster, figures: Figures, name: str, version: int
) -> None:
    client = cluster.clients[name]
    figures.add(f"{name}: time to a handshake over IPv{version}", client.reconnect(), "s")
    shape = "[{}]:51820" if version == 6 else "{}:51820"
    assert client.endpoint == shape.format(lab.address("lb1", "public", version))


@pytest.mark.parametrize(("name", "version"), [("c1", 4), ("c2", 6)])
def test_the_node_sees_the_clients_real_address(lab: Lab, cluster: Cluster, name: str, version: int) -> None:
    client = cluster.clients[name]
    shape = "[{}]:{}" if version == 6 else "{}:{}"
    seen = peers(cluster.nodes[cluster.owner(client)], "endpoints")[client.key]
    assert seen == shape.format(lab.address(name, "public", version), client.port)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", ["c1", "c2"])
def test_the_private_web_server_answers(cluster: Cluster, web: dict[int, str], name: str, version: int) -> None:
    host = f"[{web[version]}]" if version == 6 else web[version]
    assert GREETING in cluster.clients[name].get(f"http://{host}/")


@pytest.mark.parametrize("name", ["c1", "c2"])
def test_large_pages_arrive_whole(cluster: Cluster, web: dict[int, str], name: str) -> None:
    size = 20_000_000
    digest = "import hashlib; print(hashlib.sha256((bytes(range(251)) * (N // 251 + 1))[:N]).hexdigest())"
    expected = cluster.balancer.check_output("python3 -c %s", f"N = {size}; {digest}")
    fetched = cluster.clients[name].host.check_output(
        f"curl --silent --fail --max-time 30 http://{web[4]}/bytes/{size} | sha256sum"
    )
    assert fetched.split()[0] == expected


@pytest.mark.parametrize("version", [4, 6])
def test_without_the_tunnel_nobody_answers(lab: Lab, web: dict[int, str], version: int) -> None:
    # A host in the public network that is no client: nobody there takes the server's address for his own.
    outsider = lab.host("c3")
    host = f"[{web[version]}]" if version == 6 else web[version]
    outsider.check_output(f"ip -{version} route add {web[version]} dev public")
    try:
        assert not reaches(outsider, f"http://{host}/")
    finally:
        outsider.check_output(f"ip -{version} route del {web[version]}")


def test_the_wheel_gives_every_node_its_share(cluster: Cluster) -> None:
    slots = {node: row["slots"] for node, row in cluster.states().items()}
    assert sum(slots.values()) == SLOTS
    assert all(abs(share - SLOTS / len(slots)) < SLOTS_TOLERANCE for share in slots.values()), slots


def test_weights_set_in_haproxy_turn_the_wheel(cluster: Cluster, figures: Figures) -> None:
    share = SLOTS * 50 // 250
    cluster.admin("set weight vpn_back/n3 50%")
    try:
        figures.add(
            "weight set in HAProxy: time until the kernel follows",
            until(
                f"n3 has about {share} slots",
                5,
                lambda: abs(cluster.states()["n3"]["slots"] - share) < SLOTS_TOLERANCE,
                pause=0.05,
            ),
            "s",
        )
    finally:
        cluster.admin("set weight vpn_back/n3 100%")
    until("n3 has its full share", 5, lambda: abs(cluster.states()["n3"]["slots"] - SLOTS // 3) < SLOTS_TOLERANCE)


def test_sessions_spread_over_all_nodes(cluster: Cluster, figures: Figures) -> None:
    client = cluster.clients["c1"]
    chosen: Counter[str] = Counter()
    for port in range(41000, 41000 + SESSIONS):
        client.reconnect(port)
        chosen[cluster.owner(client)] += 1
    figures.add(f"{SESSIONS} sessions from {SESSIONS} ports", " ".join(f"{n}:{chosen[n]}" for n in cluster.nodes))
    assert set(chosen) == set(cluster.nodes)
