# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A second balancer beside the first learns what that one learns, and goes on where it stops."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest
from wirefleet_steer.config import load
from wirefleet_steer.decide import NodeState, Standing, State
from wirefleet_steer.elements import EMPTY, script, wanted

from .conftest import BACKEND, CLIENTS, NODES, PORT, PUBLIC, Cluster, eventually, render, steer_variables

pytestmark = pytest.mark.root

FAMILIES = ("ip", "ip6")
PREFIXES = {"ip": 24, "ip6": 56}
# Each balancer's own addresses, beside those that the active one has.
OWN = {
    "lb": {
        "public": {"ip": "198.51.100.30", "ip6": "2001:db8:100::30"},
        "backend": {"ip": "10.9.0.30", "ip6": "fd00:9::30"},
    },
    "lb2": {
        "public": {"ip": "198.51.100.20", "ip6": "2001:db8:100::20"},
        "backend": {"ip": "10.9.0.20", "ip6": "fd00:9::20"},
    },
}
SHARED = {"public": PUBLIC, "backend": BACKEND}

# What a client gets, by the mark that a copy has, and by the one that the kernel's WireGuard gives handshakes.
MARKED = f"""\
table inet marked {{
  counter copy {{ }}
  counter handshake {{ }}
  chain input {{
    type filter hook prerouting priority raw;
    udp sport {PORT} ip dscp 63 counter name copy
    udp sport {PORT} ip6 dscp 63 counter name copy
    udp sport {PORT} ip dscp af41 counter name handshake
    udp sport {PORT} ip6 dscp af41 counter name handshake
  }}
}}
"""

# The copies that reach a balancer, and a rule that gives them more hops.
COPIES = """\
table inet seen {
  counter copies { }
  chain prerouting {
    type filter hook prerouting priority raw;
    ip dscp 63 counter name copies
    ip6 dscp 63 counter name copies
  }
}
"""
RENEWED = """\
add rule inet seen prerouting ip dscp 63 ip ttl set 64
add rule inet seen prerouting ip6 dscp 63 ip6 hoplimit set 64
"""


class Pair(Cluster):
    """The cluster with a second balancer "lb2", whose table says that all nodes are up; it has no daemon."""

    def build(self) -> None:
        super().build()
        self.add("lb2")
        for bridge in SHARED:
            self.connect("lb2", bridge)
        config = load(self.directory / "steer.json")
        up = State(dict.fromkeys(config.nodes, NodeState(Standing.UP)))
        rules = render("steer.nft.j2", steer_variables(peer=OWN["lb"]["backend"]))
        elements = "".join(script(f, "wirefleet", EMPTY, wanted(config, f, up)) for f in FAMILIES)
        self.run("lb2", "nft", "-f", "-", stdin=rules + elements)
        # Strict: copies come from where nodes are, and would pass that, too.
        for setting in ("ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1", "ipv4.conf.backend.rp_filter=1"):
            self.run("lb2", "sysctl", "-qw", f"net.{setting}")
        for name in CLIENTS:
            self.run(name, "nft", "-f", "-", stdin=MARKED)

    def connect(self, name: str, bridge: str, *addresses: str) -> None:
        """A balancer's own addresses come first, so that its probes speak from them and not from what may move."""
        own = [f"{address}/{PREFIXES[family]}" for family, address in OWN.get(name, {}).get(bridge, {}).items()]
        super().connect(name, bridge, *own, *addresses)

    def write_ruleset(self, **changes: object) -> None:
        super().write_ruleset(peer=OWN["lb2"]["backend"], **changes)

    def learned(self, balancer: str, family: str, name: str) -> set[str]:
        text = self.run(balancer, "nft", "list", "map", family, "wirefleet", name).partition("elements =")[2]
        return {f"{key.strip()} : {mark}" for key, mark in re.findall(r"([^{},]+?) expires \w+ : (\w+)", text)}

    def count_in(self, name: str, family: str, table: str, counter: str) -> int:
        answer = json.loads(self.run(name, "nft", "-j", "list", "counter", family, table, counter))
        return int(answer["nftables"][1]["counter"]["packets"])

    def move(self, source: str, target: str) -> None:
        """Give the shared addresses to the other balancer, and tell everybody."""
        for bridge, addresses in SHARED.items():
            for family, address in addresses.items():
                text = f"{address}/{PREFIXES[family]}"
                self.run(source, "ip", "address", "del", text, "dev", bridge)
                self.run(target, "ip", "address", "add", text, "dev", bridge)
        for name in (*NODES, *CLIENTS):
            self.run(name, "ip", "neigh", "flush", "all")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    pair = Pair(tmp_path_factory.mktemp("pair"))
    try:
        pair.build()
        yield pair
    finally:
        pair.close()


@pytest.mark.parametrize(("client", "family"), [("c1", "ip"), ("c2", "ip6")])
def test_the_other_balancer_learns_every_handshake(pair: Pair, client: str, family: str) -> None:
    pair.watch_leaks(client)
    before = pair.learned("lb2", family, "sessions")
    pair.client(client, family)
    assert pair.ping(client) == 0
    for name in ("sessions", "affinity"):
        eventually(lambda: pair.learned("lb2", family, name) == pair.learned("lb", family, name) != set())  # noqa: B023
    assert pair.learned("lb2", family, "sessions") > before
    assert pair.leaked(client, family) == 0, "a copy goes no further"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_is_marked_and_the_packet_itself_is_as_it_was(pair: Pair, family: str) -> None:
    for number, dscp in enumerate((34, 0)):
        index = f"d00df0{number:02x}"
        before = pair.count_in("lb2", family, "wirefleet", "copies"), pair.count_in("c1", "inet", "marked", "handshake")
        pair.send_as_node("n1", family, f"02000000{index}{'ab' * 84}", dscp)
        eventually(lambda: any(index in key for key in pair.learned("lb2", family, "sessions")))  # noqa: B023
        assert pair.count_in("lb2", family, "wirefleet", "copies") == before[0] + 1
        assert pair.count_in("c1", "inet", "marked", "handshake") - before[1] == (1 if dscp else 0)
    assert pair.count_in("c1", "inet", "marked", "copy") == 0
    assert pair.count_in("lb", family, "wirefleet", "copies") == 0, "nobody copies a copy"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_handshake_that_is_refused_teaches_nobody(pair: Pair, family: str) -> None:
    answer = "02000000" + "d00dfeed" + "ab" * 84
    pair.send_as_node("n1", family, answer)
    eventually(lambda: "0xd00dfeed : 0x10000001" in pair.learned("lb2", family, "sessions"))
    before = pair.dropped(family, "index_taken")
    pair.send_as_node("n2", family, answer)
    eventually(lambda: pair.dropped(family, "index_taken") == before + 1)
    assert "0xd00dfeed : 0x10000001" in pair.learned("lb2", family, "sessions")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_balancer_without_its_table_forwards_no_copy(pair: Pair, family: str) -> None:
    pair.watch_leaks("c1")
    table = ("table", family, "wirefleet")
    rules = pair.run("lb2", "nft", "list", *table)
    pair.run("lb2", "nft", "delete", *table)
    pair.run("lb2", "nft", "-f", "-", stdin=COPIES)
    try:
        pair.send_as_node("n1", family, "02000000" + "d00dfee1" + "ab" * 84)
        eventually(lambda: pair.count_in("lb2", "inet", "seen", "copies") == 1)
        assert pair.leaked("c1", family) == 0
        # What makes the difference is the hop limit.
        pair.run("lb2", "nft", "-f", "-", stdin=RENEWED)
        pair.send_as_node("n1", family, "02000000" + "d00dfee2" + "ab" * 84)
        eventually(lambda: pair.leaked("c1", family) == 1)
    finally:
        pair.run("lb2", "nft", "delete", "table", "inet", "seen")
        pair.run("lb2", "nft", "-f", "-", stdin=rules)


def test_data_is_not_copied(pair: Pair) -> None:
    pair.client("c1", "ip")
    assert pair.ping("c1") == 0
    before = pair.count_in("lb2", "ip", "wirefleet", "copies")
    assert pair.ping("c1", count=50, interval=0.01) == 0
    assert pair.count_in("lb2", "ip", "wirefleet", "copies") == before


def test_sessions_go_on_at_the_other_balancer_and_back(pair: Pair) -> None:
    for client, family in (("c1", "ip"), ("c2", "ip6")):
        pair.client(client, family)
        assert pair.ping(client) == 0
    owners = {client: pair.owner(client) for client in CLIENTS}
    before = {name: pair.counted(name, "initiations") for name in NODES}
    for source, target in (("lb", "lb2"), ("lb2", "lb")):
        pair.move(source, target)
        for client in CLIENTS:
            # Neighbours have to find each other first, and a busy machine's checks may fail for a moment.
            eventually(lambda: pair.ping(client, count=20, wait=1) == 0)  # noqa: B023
    assert {client: pair.owner(client) for client in CLIENTS} == owners
    assert {name: pair.counted(name, "initiations") for name in NODES} == before, "nobody had to begin anew"
