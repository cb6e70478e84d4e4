# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Packets through the real ruleset, HAProxy and daemon. The picture of the network is in conftest.py."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from wirefleet_steer.elements import client_key

from ..namespaces import eventually
from .conftest import CLIENT_ADDRESSES, NODES, PORT, PUBLIC, Cluster, answered

pytestmark = pytest.mark.root

FAMILIES = ("ip", "ip6")

# Sends COUNT datagrams to the balancer. Arguments: family, count, payload as hex, and where it comes from: "ports" (as
# many source ports of its own address as it takes) or "addresses" (a source address of its own for each; IPv4).
SENDER = f"""
import socket, struct, sys
family, count, payload, source = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), sys.argv[4]
target = {PUBLIC!r}[family]
if source == "ports":
    for number in range(count):
        with socket.socket(socket.AF_INET if family == "ip" else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("", 20000 + number % 40000))
            sock.sendto(payload, (target, {PORT}))
else:
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for number in range(count):
        spoofed = struct.pack(">I", 0x0B000000 + number)  # 11.0.0.0/8
        udp = struct.pack(">HHHH", 1024 + number % 60000, {PORT}, 8 + len(payload), 0)
        header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 17, 0, spoofed, socket.inet_aton(target))
        sock.sendto(header + udp + payload, (target, 0))
"""

INITIATION = f"{1:02x}{0:06x}{'ab' * 144}"


def send(cluster: Cluster, family: str, count: int, payload: str, source: str = "ports") -> None:
    cluster.run("c2", sys.executable, "-c", SENDER, family, str(count), payload, source)


def learned(cluster: Cluster, family: str, name: str) -> str:
    """The elements of a map, without their remaining time."""
    text = cluster.nft("list", "map", family, "wirefleet", name)
    return re.sub(r" expires \w+", "", text.partition("elements =")[2])


@pytest.fixture(autouse=True)
def settled(cluster: Cluster) -> Iterator[None]:
    """Begin every test with all nodes up, no limit used up, and end it so."""
    cluster.nft("flush", "set", "ip", "wirefleet", "limits")
    cluster.nft("flush", "set", "ip6", "wirefleet", "limits")
    yield
    for name in NODES:
        cluster.run(name, "ip", "link", "set", "backend", "up")
        cluster.agent(name, 200)
        cluster.haproxy(f"set server vpn_back/{name} state ready")
        cluster.haproxy(f"set weight vpn_back/{name} 1")
    for name in NODES:
        cluster.steerctl("wait", name, "up", "--timeout", "15")


# Two clients: handshakes of one within the same second do not tell whose it is.
@pytest.mark.parametrize(("client", "family"), [("c1", "ip"), ("c2", "ip6")])
def test_a_stock_client_reaches_a_node(cluster: Cluster, client: str, family: str) -> None:
    cluster.client(client, family)
    assert cluster.ping(client) == 0
    host = cluster.endpoint(client).rpartition(":")[0].strip("[]")
    assert host == CLIENT_ADDRESSES[client][family], "the node sees the client's own address"


@pytest.mark.parametrize("family", FAMILIES)
def test_new_clients_are_dealt_out_by_weight(cluster: Cluster, family: str) -> None:
    cluster.haproxy("set weight vpn_back/n3 2")
    eventually(lambda: cluster.rows()["n3"]["slots"] > 460)
    before = {name: cluster.counted(name, "initiations") for name in NODES}
    send(cluster, family, 190, INITIATION)
    got = {name: cluster.counted(name, "initiations") - before[name] for name in NODES}
    assert sum(got.values()) == 190
    assert got["n1"] in range(25, 75)
    assert got["n2"] in range(25, 75)
    assert got["n3"] in range(65, 125)


def steered(cluster: Cluster) -> bool:
    """Whether the tables of both families send clients to every node."""
    return all(row["kernel"] == "up" and row["slots"] for row in cluster.rows().values())


@pytest.mark.parametrize("family", FAMILIES)
def test_one_source_is_limited_after_its_burst(cluster: Cluster, family: str) -> None:
    before = cluster.dropped(family, "limited")
    send(cluster, family, 1000, INITIATION)
    assert cluster.dropped(family, "limited") - before in range(500, 801), "1000 less the burst of 200 and 50/s"
    cluster.client("c1", family)
    assert cluster.ping("c1") == 0, "another source is not affected"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("00" * 148, "junk"),
        ("", "junk"),
        ("01000000" + "ab" * 143, "junk"),
        ("01000000" + "ab" * 145, "junk"),
        ("01000001" + "ab" * 144, "junk"),
        ("02000000" + "ab" * 89, "junk"),
        ("03000000" + "ab" * 61, "junk"),
        ("04000000" + "ab" * 27, "junk"),
        ("05000000" + "ab" * 60, "junk"),
        ("02000000" + "ab" * 88, "unknown_session"),
        ("03000000" + "ab" * 60, "unknown_session"),
        ("04000000" + "ab" * 28, "unknown_session"),
    ],
)
def test_what_is_no_message_or_nobodys_is_dropped(cluster: Cluster, family: str, payload: str, reason: str) -> None:
    before = {name: cluster.dropped(family, name) for name in ("junk", "unknown_session")}
    send(cluster, family, 3, payload)
    got = {name: cluster.dropped(family, name) - before[name] for name in before}
    assert got == {**dict.fromkeys(before, 0), reason: 3}, "once, and for the right reason"


def test_a_flood_from_100000_addresses_costs_an_honest_client_nothing(cluster: Cluster) -> None:
    """More sources than the set of limits can hold: it fails open, and strangers have taught nothing."""
    send(cluster, "ip", 100_000, INITIATION, "addresses")
    assert not re.search(r"\b11\.\d+\.\d+\.\d+ ", learned(cluster, "ip", "affinity"))
    assert "0xabababab" not in learned(cluster, "ip", "sessions")
    assert subprocess.run(
        [
            "ip",
            "netns",
            "exec",
            cluster.namespace("lb"),
            "nft",
            "add",
            "element",
            "ip",
            "wirefleet",
            "limits",
            "{ 192.0.2.1 }",
        ],
        capture_output=True,
        check=False,
    ).returncode, "the set is full"
    cluster.client("c1", "ip", listen=40001)  # an unknown source
    assert cluster.ping("c1") == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_node_that_does_not_own_the_client_can_not_steal_it(cluster: Cluster, family: str) -> None:
    cluster.client("c1", family)
    assert cluster.ping("c1") == 0
    owner = cluster.owner("c1")
    thief = next(name for name in NODES if name != owner)
    before = cluster.dropped(family, "not_owner")
    cluster.initiate(thief, "c1")
    eventually(lambda: cluster.dropped(family, "not_owner") > before)
    assert cluster.ping("c1") == 0
    assert cluster.owner("c1") == owner


@pytest.mark.parametrize("family", FAMILIES)
def test_a_drained_node_keeps_its_session_until_another_adopts_it(cluster: Cluster, family: str) -> None:
    cluster.client("c1", family)
    assert cluster.ping("c1") == 0
    owner = cluster.owner("c1")
    survivor = next(name for name in NODES if name != owner)
    pings = cluster.start("c1", "ping", "-c", "60", "-w", "20", "-i", "0.05", "10.80.0.1", stdout=subprocess.PIPE)
    cluster.agent(owner, 404)  # the node drains itself; HAProxy says NOLB
    cluster.steerctl("wait", owner, "drained", "--timeout", "5")
    assert cluster.state(owner)[:2] == ["NOLB", "draining"]
    time.sleep(1.1)  # handshakes are compared by the second
    cluster.initiate(survivor, "c1")
    eventually(lambda: cluster.owner("c1") == survivor)
    output, _ = pings.communicate(timeout=30)
    assert answered(output.decode()) >= {*range(1, 61)}
    assert cluster.ping("c1") == 0
    before = cluster.dropped(family, "not_owner")
    cluster.initiate(owner, "c1")
    eventually(lambda: cluster.dropped(family, "not_owner") > before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_that_moved_is_known_as_soon_as_its_node_answers(cluster: Cluster, family: str) -> None:
    """Not by what it sends itself: that could be anybody who has seen its index."""
    handshake, data = (f"{kind:02x}000000d00d{len(family):04x}" for kind in (2, 4))
    cluster.send_as_node("n2", family, handshake + "ab" * 84)
    index = handshake[8:]
    eventually(lambda: f"0x{index}" in learned(cluster, family, "sessions"))
    address = CLIENT_ADDRESSES["c1"][family]
    host = address if family == "ip" else client_key(family, f"[{address}]:0").partition(" ")[0]
    cluster.nft("delete", "element", family, "wirefleet", "affinity", "{", host, ".", "40000", "}")
    before = learned(cluster, family, "affinity")
    send(cluster, family, 5, data + "ab" * 60)
    assert learned(cluster, family, "affinity") == before
    cluster.send_as_node("n2", family, data + "ab" * 60)
    eventually(lambda: learned(cluster, family, "affinity") != before)
    assert re.search(r"\. 40000 : 0x10000002\b", learned(cluster, family, "affinity"))


def test_a_dead_nodes_client_is_adopted_and_stays(cluster: Cluster) -> None:
    cluster.client("c1", "ip")
    assert cluster.ping("c1") == 0
    owner = cluster.owner("c1")
    survivor = next(name for name in NODES if name != owner)
    endpoint = cluster.endpoint("c1")
    cluster.run(owner, "ip", "link", "set", "backend", "down")
    eventually(lambda: cluster.state(owner)[:2] == ["DOWN", "down"])
    time.sleep(1.1)
    cluster.initiate(survivor, "c1", endpoint)
    eventually(lambda: cluster.owner("c1") == survivor)
    assert cluster.ping("c1") == 0
    before = cluster.dropped("ip", "not_owner")
    cluster.run(owner, "ip", "link", "set", "backend", "up")
    cluster.restore_gateway(owner)
    cluster.steerctl("wait", owner, "up", "--timeout", "15")
    cluster.initiate(owner, "c1", endpoint)
    eventually(lambda: cluster.dropped("ip", "not_owner") > before)
    assert cluster.owner("c1") == survivor
    assert cluster.ping("c1") == 0


def test_an_index_of_a_living_nodes_session_can_not_be_taken(cluster: Cluster) -> None:
    """Both nodes' answers are made up here: what matters is what the balancer does with them."""
    answer = "02000000" + "d00dfeed" + "ab" * 84
    for name, taken in (("n1", 0), ("n1", 0), ("n2", 1)):
        before = cluster.dropped("ip", "index_taken")
        cluster.send_as_node(name, "ip", answer)
        eventually(lambda: cluster.dropped("ip", "index_taken") - before == taken)  # noqa: B023
        assert "0xd00dfeed : 0x10000001" in learned(cluster, "ip", "sessions")
    cluster.haproxy("set server vpn_back/n1 state maint")
    cluster.steerctl("wait", "n1", "drained")
    cluster.send_as_node("n2", "ip", answer)
    eventually(lambda: "0xd00dfeed : 0x10000002" in learned(cluster, "ip", "sessions"))


def test_fragments_are_reassembled(cluster: Cluster) -> None:
    """The second fragment has no port: without reassembly it would never be steered."""
    cluster.send_as_node("n1", "ip", "02000000" + "d00dfaaa" + "ab" * 84)
    eventually(lambda: "0xd00dfaaa" in learned(cluster, "ip", "sessions"))
    before = cluster.counted("n1", "large")
    send(cluster, "ip", 5, "04000000" + "d00dfaaa" + "ab" * 3000)
    assert cluster.counted("n1", "large") - before == 5


def test_no_node_accepts(cluster: Cluster) -> None:
    for name in NODES:
        cluster.haproxy(f"set server vpn_back/{name} state maint")
    for name in NODES:
        cluster.steerctl("wait", name, "drained")
    before = cluster.dropped("ip6", "no_node")
    send(cluster, "ip6", 3, INITIATION)
    assert cluster.dropped("ip6", "no_node") - before == 3
    assert "maintenance" in cluster.steerctl("explain", "n1")


def test_a_collapse_of_all_checks_is_held(cluster: Cluster) -> None:
    cluster.client("c1", "ip6")
    assert cluster.ping("c1") == 0
    for name in NODES:
        cluster.agent(name, 500)
        time.sleep(0.3)  # one by one, as a broken balancer sees it
    eventually(lambda: cluster.steerctl("status").count("up (held)") == len(NODES))
    assert cluster.ping("c1") == 0
    cluster.client("c1", "ip6", listen=40002)
    assert cluster.ping("c1") == 0, "a new client gets a node, too"
    assert "event=fail_static nodes=n1,n2,n3" in cluster.log()
    cluster.agent("n2", 200)
    cluster.steerctl("wait", "n2", "up")
    eventually(lambda: "event=fail_static_over" in cluster.log())
    eventually(lambda: cluster.steerctl("status").count(" down ") == 2)


def test_a_ruleset_is_applied_again_without_losing_sessions(cluster: Cluster) -> None:
    cluster.client("c1", "ip")
    assert cluster.ping("c1") == 0
    cluster.send_as_node("n1", "ip", "02000000" + "d00dbeef" + "ab" * 84)
    eventually(lambda: "0xd00dbeef" in learned(cluster, "ip", "sessions"))
    cluster.write_ruleset(source_limit={"rate": 60, "burst": 200})
    cluster.steerctl("prepare")
    assert "limit rate over 60/second" in cluster.nft("list", "chain", "ip", "wirefleet", "initiation")
    assert "0xd00dbeef : 0x10000001" in learned(cluster, "ip", "sessions")
    assert cluster.ping("c1") == 0


def test_a_ruleset_with_other_maps_replaces_the_table(cluster: Cluster) -> None:
    cluster.client("c1", "ip")
    assert cluster.ping("c1") == 0
    path = cluster.directory / "steer.nft"
    rules = path.read_text()
    path.write_text(rules.replace("set responders      {", "set responders      { flags interval; "))
    assert "event=table_replaced" in cluster.steerctl("prepare")
    for name in NODES:
        cluster.steerctl("wait", name, "up", "--timeout", "5")
    cluster.client("c1", "ip", listen=40003)
    assert cluster.ping("c1") == 0
    path.write_text(rules)
    cluster.steerctl("prepare")


FULL = 64  # elements


@pytest.fixture
def small_maps(cluster: Cluster) -> Iterator[None]:
    cluster.write_ruleset(sessions_size=FULL, affinity_size=FULL)
    cluster.steerctl("prepare")
    yield
    cluster.write_ruleset()
    cluster.steerctl("prepare")


def fill(cluster: Cluster, family: str) -> None:
    """Leave no room in the maps, as clients do that there should be no room for."""
    address = {"ip": "198.51.100.200", "ip6": "0xc8"}[family]
    keys = {"sessions": lambda n: f"0xee{n:06x}", "affinity": lambda n: f"{address} . {n + 1}"}
    for name, key in keys.items():
        free = FULL - learned(cluster, family, name).count(" : ")
        elements = ", ".join(f"{key(number)} : 0x10000001" for number in range(free))
        cluster.nft("add", "element", family, "wirefleet", name, f"{{ {elements} }}")


@pytest.mark.usefixtures("small_maps")
@pytest.mark.parametrize("family", FAMILIES)
def test_full_maps_keep_those_that_they_know(cluster: Cluster, family: str) -> None:
    for name in NODES:
        cluster.steerctl("wait", name, "up", "--timeout", "5")
    cluster.client("c1", family, listen=40010)
    assert cluster.ping("c1") == 0
    node = cluster.owner("c1")
    fill(cluster, family)
    for _handshake in range(3):
        time.sleep(1.1)  # they are dated in seconds
        cluster.client("c1", family, listen=40010)
        assert cluster.ping("c1") == 0, "its index had no room, but its address is known"
        assert cluster.owner("c1") == node


def test_a_daemon_that_starts_again_changes_nothing(cluster: Cluster) -> None:
    cluster.client("c1", "ip")
    assert cluster.ping("c1") == 0
    lines = cluster.log().count("\n")
    cluster.steer.kill()
    cluster.steer.wait()
    assert cluster.ping("c1") == 0
    cluster.start_steer()
    health = ("curl", "-s", "http://127.0.0.1:8052/healthz")
    eventually(lambda: '"problem": null' in cluster.run("lb", *health, check=False))
    assert cluster.log().count("\n") == lines, "no node has changed its state"
    assert cluster.ping("c1") == 0


def test_a_flushed_ruleset_is_back_by_itself(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.nft("flush", "ruleset")
        eventually(lambda: steered(cluster))
    assert "event=table_restored" in cluster.log()
    cluster.client("c1", "ip6", listen=40004)
    assert cluster.ping("c1") == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_without_its_table_nothing_is_forwarded(cluster: Cluster, family: str) -> None:
    """And it is the hop limit that sees to it: without it, WireGuard's packets leave with the node's own address."""
    cluster.watch_leaks("c1")
    address = CLIENT_ADDRESSES["c1"][family]
    endpoint = f"[{address}]:40009" if ":" in address else f"{address}:40009"
    cluster.steer.send_signal(signal.SIGSTOP)
    try:
        cluster.nft("flush", "ruleset")
        before = [cluster.counted(name, "initiations") for name in NODES]
        send(cluster, family, 3, INITIATION)
        cluster.initiate("n1", "c1", endpoint)
        assert [cluster.counted(name, "initiations") for name in NODES] == before
        assert cluster.leaked("c1", family) == 0
        cluster.restore_gateway("n1", hops=64)
        cluster.initiate("n1", "c1", endpoint)
        eventually(lambda: cluster.leaked("c1", family) > 0)
    finally:
        cluster.restore_gateway("n1")
        cluster.steer.send_signal(signal.SIGCONT)
    eventually(lambda: steered(cluster))


def test_what_is_no_message_of_a_node_is_dropped(cluster: Cluster) -> None:
    before = cluster.dropped("ip", "node_junk")
    for payload in ("00" * 100, "04000000" + "ab" * 27, "01000000" + "ab" * 100):
        cluster.send_as_node("n1", "ip", payload)
    eventually(lambda: cluster.dropped("ip", "node_junk") - before == 3)


def restart_steer(cluster: Cluster, **changes: object) -> None:
    cluster.write_config(**changes)
    cluster.steer.terminate()
    cluster.steer.wait()
    cluster.start_steer()


def test_a_node_that_flaps_gets_no_clients_until_it_has_stayed(cluster: Cluster) -> None:
    restart_steer(cluster, damping={"downs": 2, "window": 600, "hold": 6, "max_hold": 600})
    try:
        for _ in range(2):
            cluster.agent("n1", 500)
            eventually(lambda: cluster.state("n1")[:2] == ["DOWN", "down"])
            cluster.agent("n1", 200)
            eventually(lambda: cluster.state("n1")[0] == "UP")
        eventually(lambda: cluster.state("n1")[:3] == ["UP", "draining", "(damped)"])
        assert "went down too often" in cluster.steerctl("explain", "n1")
        before = cluster.counted("n1", "initiations")
        send(cluster, "ip", 150, INITIATION)
        assert cluster.counted("n1", "initiations") == before
        cluster.steerctl("wait", "n1", "up", "--timeout", "15")
        send(cluster, "ip6", 150, INITIATION)
        assert cluster.counted("n1", "initiations") > before
    finally:
        restart_steer(cluster)
