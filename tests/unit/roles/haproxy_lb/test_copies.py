# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Other balancers beside the first learn what that one learns, and go on where it stops."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from wirefleet_steer.config import load
from wirefleet_steer.decide import NodeState, Standing, State
from wirefleet_steer.elements import EMPTY, script, wanted

from ..namespaces import alive, eventually
from .conftest import BACKEND, CLIENTS, NODES, PORT, PUBLIC, Cluster, render, steer_variables

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
    "lb3": {
        "public": {"ip": "198.51.100.40", "ip6": "2001:db8:100::40"},
        "backend": {"ip": "10.9.0.40", "ip6": "fd00:9::40"},
    },
}
OTHERS = ("lb2", "lb3")
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


def peers(name: str) -> list[dict[str, str]]:
    """The others' addresses, to which a balancer sends its copies."""
    return [own["backend"] for other, own in OWN.items() if other != name]


class Trio(Cluster):
    """The cluster with two more balancers, whose tables say that all nodes are up; they have no daemon."""

    options: ClassVar[Mapping[str, Any]] = {}  # for all balancers' rules

    def build(self) -> None:
        super().build()
        config = load(self.directory / "steer.json")
        up = State(dict.fromkeys(config.nodes, NodeState(Standing.UP)))
        elements = "".join(script(f, "wirefleet", EMPTY, wanted(config, f, up)) for f in FAMILIES)
        for name in OTHERS:
            self.add(name)
            for bridge in SHARED:
                self.connect(name, bridge)
            rules = render("steer.nft.j2", steer_variables(peers=peers(name), **self.options))
            self.run(name, "nft", "-f", "-", stdin=rules + elements)
            # Strict: copies come from where nodes are, and would pass that, too.
            for setting in ("ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1", "ipv4.conf.backend.rp_filter=1"):
                self.run(name, "sysctl", "-qw", f"net.{setting}")
        for name in CLIENTS:
            self.run(name, "nft", "-f", "-", stdin=MARKED)

    def connect(self, name: str, bridge: str, *addresses: str) -> None:
        """A balancer's own addresses come first, so that its probes speak from them and not from what may move."""
        own = [f"{address}/{PREFIXES[family]}" for family, address in OWN.get(name, {}).get(bridge, {}).items()]
        super().connect(name, bridge, *own, *addresses)

    def write_ruleset(self, **changes: object) -> None:
        super().write_ruleset(peers=peers("lb"), **self.options, **changes)

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
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    yield from alive(Trio(tmp_path_factory.mktemp("trio")))


@pytest.mark.parametrize(("client", "family"), [("c1", "ip"), ("c2", "ip6")])
def test_the_other_balancers_learn_every_handshake(trio: Trio, client: str, family: str) -> None:
    trio.watch_leaks(client)
    before = {other: trio.learned(other, family, "sessions") for other in OTHERS}
    trio.client(client, family)
    assert trio.ping(client) == 0
    for other in OTHERS:
        for name in ("sessions", "affinity"):
            eventually(lambda: trio.learned(other, family, name) == trio.learned("lb", family, name) != set())  # noqa: B023
        assert trio.learned(other, family, "sessions") > before[other]
    assert trio.leaked(client, family) == 0, "a copy goes no further"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_is_marked_and_the_packet_itself_is_as_it_was(trio: Trio, family: str) -> None:
    for number, dscp in enumerate((34, 0)):
        index = f"d00df0{number:02x}"
        copies = {other: trio.count_in(other, family, "wirefleet", "copies") for other in OTHERS}
        marked = trio.count_in("c1", "inet", "marked", "handshake")
        trio.send_as_node("n1", family, f"02000000{index}{'ab' * 84}", dscp)
        for other in OTHERS:
            eventually(lambda: any(index in key for key in trio.learned(other, family, "sessions")))  # noqa: B023
            assert trio.count_in(other, family, "wirefleet", "copies") == copies[other] + 1
        assert trio.count_in("c1", "inet", "marked", "handshake") - marked == (1 if dscp else 0)
    assert trio.count_in("c1", "inet", "marked", "copy") == 0
    assert trio.count_in("lb", family, "wirefleet", "copies") == 0, "nobody copies a copy"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_handshake_that_is_refused_teaches_nobody(trio: Trio, family: str) -> None:
    answer = "02000000" + "d00dfeed" + "ab" * 84
    trio.send_as_node("n1", family, answer)
    eventually(lambda: all("0xd00dfeed : 0x10000001" in trio.learned(other, family, "sessions") for other in OTHERS))
    before = trio.dropped(family, "index_taken")
    trio.send_as_node("n2", family, answer)
    eventually(lambda: trio.dropped(family, "index_taken") == before + 1)
    for other in OTHERS:
        assert "0xd00dfeed : 0x10000001" in trio.learned(other, family, "sessions")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_balancer_without_its_table_forwards_no_copy(trio: Trio, family: str) -> None:
    trio.watch_leaks("c1")
    tables = [("table", family, "wirefleet"), ("table", "inet", "wirefleet")]  # the latter would drop it, too
    rules = "".join(trio.run("lb2", "nft", "list", *table) for table in tables)
    for table in tables:
        trio.run("lb2", "nft", "delete", *table)
    trio.run("lb2", "nft", "-f", "-", stdin=COPIES)
    try:
        trio.send_as_node("n1", family, "02000000" + "d00dfee1" + "ab" * 84)
        eventually(lambda: trio.count_in("lb2", "inet", "seen", "copies") == 1)
        assert trio.leaked("c1", family) == 0
        # What makes the difference is the hop limit.
        trio.run("lb2", "nft", "-f", "-", stdin=RENEWED)
        trio.send_as_node("n1", family, "02000000" + "d00dfee2" + "ab" * 84)
        eventually(lambda: trio.leaked("c1", family) == 1)
    finally:
        trio.run("lb2", "nft", "delete", "table", "inet", "seen")
        trio.run("lb2", "nft", "-f", "-", stdin=rules)


def test_data_is_not_copied(trio: Trio) -> None:
    trio.client("c1", "ip")
    assert trio.ping("c1") == 0
    before = [trio.count_in(other, "ip", "wirefleet", "copies") for other in OTHERS]
    assert trio.ping("c1", count=50, interval=0.01) == 0
    assert [trio.count_in(other, "ip", "wirefleet", "copies") for other in OTHERS] == before


def test_sessions_go_on_at_the_other_balancers_and_back(trio: Trio) -> None:
    for client, family in (("c1", "ip"), ("c2", "ip6")):
        trio.client(client, family)
        assert trio.ping(client) == 0
    owners = {client: trio.owner(client) for client in CLIENTS}
    before = {name: trio.counted(name, "initiations") for name in NODES}
    for source, target in (("lb", "lb2"), ("lb2", "lb3"), ("lb3", "lb")):
        trio.move(source, target)
        for client in CLIENTS:
            # Neighbours have to find each other first, and a busy machine's checks may fail for a moment.
            eventually(lambda: trio.ping(client, count=20, wait=1) == 0)  # noqa: B023
    assert {client: trio.owner(client) for client in CLIENTS} == owners
    assert {name: trio.counted(name, "initiations") for name in NODES} == before, "nobody had to begin anew"


def test_each_of_them_teaches_the_others(trio: Trio) -> None:
    """What begins at a second balancer goes on at a third, of which the first knows as well."""
    trio.move("lb", "lb2")
    try:
        eventually(lambda: trio.ping("c1", count=2, wait=1) == 0)
        trio.client("c1", "ip")
        eventually(lambda: trio.ping("c1", count=2, wait=1) == 0)
        for other in ("lb", "lb3"):
            eventually(lambda: trio.learned("lb2", "ip", "sessions") <= trio.learned(other, "ip", "sessions"))  # noqa: B023
    finally:
        trio.move("lb2", "lb")
