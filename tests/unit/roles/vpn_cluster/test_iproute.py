# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from typing import Any

import pytest
from wirefleet import nft
from wirefleet.iproute import Route, Rule, _rule, ensure_routes, ensure_rules, missing_routes, missing_rules

GUARD_BIT = 0x10000000
PORT = 51820
BACKEND_MAC = bytes.fromhex("020000000010")

# What the balancer's table does to a node's packet before it is routed.
MARKING = f"""
table inet steer {{
  chain prerouting {{
    type filter hook prerouting priority raw
    udp sport {PORT} meta mark set meta mark | {GUARD_BIT}
  }}
}}
"""

GATEWAY_RULES = [Rule(family, 5182, 51820, table=51820) for family in (4, 6)]
GUARDS = [Rule(family, 5180, 0, GUARD_BIT, iif="backend", udp_sport=PORT) for family in (4, 6)]
ROUTES = [
    Route(4, 51820, "10.9.0.0/24", "backend"),
    Route(4, 51820, "default", "backend", "10.9.0.10"),
    Route(6, 51820, "fd00:9::/64", "backend"),
    Route(6, 51820, "default", "backend", "fd00:9::10"),
]


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def sysctl(*settings: str) -> None:
    subprocess.run(["sysctl", "-q", "-w", *settings], check=True)


@pytest.fixture
def backend(network: None) -> None:
    ip(f"link add backend address {BACKEND_MAC.hex(':')} type veth peer name far")
    ip("link set far up")
    ip("link set backend up")
    ip("address add 10.9.0.11/24 dev backend")
    ip("address add fd00:9::11/64 dev backend nodad")


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (
            {"priority": 9, "src": "all", "fwmark": "0xca6c", "table": "51820"},
            Rule(4, 9, 51820, table=51820),
        ),
        (
            {"priority": 9, "src": "all", "fwmark": "0", "fwmask": "0x10000000", "action": "blackhole"},
            Rule(4, 9, 0, GUARD_BIT),
        ),
        (
            {"priority": 9, "src": "all", "fwmark": "0x1", "iif": "b", "iif_detached": None, "action": "6"},
            Rule(4, 9, 1, iif="b"),
        ),
        (
            {"priority": 9, "src": "all", "fwmark": "1", "ipproto": "udp", "sport": 5, "action": "6", "protocol": "3"},
            Rule(4, 9, 1, udp_sport=5),
        ),
        (
            {"priority": 9, "src": "all", "fwmark": "1", "ipproto": "ipproto-17", "sport": 5, "table": "7"},
            Rule(4, 9, 1, udp_sport=5, table=7),
        ),
        (
            {"priority": 9, "src": "all", "dst": "10.80.0.0", "dstlen": 16, "table": "7"},
            Rule(4, 9, table=7, to="10.80.0.0/16"),
        ),
        (
            {"priority": 9, "src": "all", "dst": "10.80.0.1", "iif": "b", "table": "7"},
            Rule(4, 9, table=7, iif="b", to="10.80.0.1/32"),
        ),
        ({"priority": 0, "src": "all", "table": "255"}, None),
        (  # iproute2 6.15
            {
                "priority": 9,
                "src": "all",
                "fwmark": "1",
                "ipproto": "udp",
                "sport": 5,
                "sport_mask": "0xffff",
                "table": "7",
            },
            Rule(4, 9, 1, udp_sport=5, table=7),
        ),
        (
            {
                "priority": 9,
                "src": "all",
                "fwmark": "1",
                "ipproto": "udp",
                "sport": 4,
                "sport_mask": "0xfffe",
                "table": "7",
            },
            None,
        ),
        ({"priority": 9, "src": "all", "fwmark": "1", "ipproto": "tcp", "sport": 5, "table": "7"}, None),
        ({"priority": 9, "src": "all", "fwmark": "1", "ipproto": "udp", "table": "7"}, None),
        ({"priority": 9, "src": "10.0.0.0", "srclen": 8, "fwmark": "1", "table": "7"}, None),
        ({"not": None, "priority": 9, "src": "all", "fwmark": "1", "table": "7"}, None),
        ({"priority": 9, "src": "all", "fwmark": "1", "action": "8"}, None),
    ],
)
def test_reads_only_rules_that_it_can_say(row: dict[str, Any], rule: Rule | None) -> None:
    assert _rule(4, row) == rule


@pytest.mark.root
def test_rules_are_added_once(network: None) -> None:
    clients = [Rule(4, 9, table=7, to="10.80.0.0/16"), Rule(6, 9, table=7, to="fd00:80::/48", iif="lo")]
    wanted = [*GATEWAY_RULES, *GUARDS, *clients]
    assert missing_rules(wanted) == wanted
    assert ensure_rules(wanted) == wanted
    assert ensure_rules(wanted) == []
    ip("-6 rule del priority 5182")
    assert ensure_rules(wanted) == [GATEWAY_RULES[1]]


@pytest.mark.root
def test_routes_come_back_after_a_link_flap(backend: None) -> None:
    assert missing_routes(ROUTES) == ROUTES  # the table does not exist yet
    assert ensure_routes(ROUTES) == ROUTES
    assert ensure_routes(ROUTES) == []
    ip("link set backend down")
    ip("link set backend up")
    assert ensure_routes(ROUTES) == ROUTES  # although the flap took the IPv6 address as well
    assert missing_routes(ROUTES) == []


@pytest.mark.root
def test_a_wrong_gateway_is_replaced(backend: None) -> None:
    ensure_routes(ROUTES)
    ip("route replace default via 10.9.0.99 dev backend table 51820")
    ip("-6 route replace default via fd00:9::99 dev backend table 51820")
    assert ensure_routes(ROUTES) == [ROUTES[1], ROUTES[3]]
    for family in ("-4", "-6"):
        routes = subprocess.run(["ip", family, "route", "show", "table", "51820"], capture_output=True, text=True)
        assert routes.stdout.count("default") == 1


@pytest.mark.root
def test_another_spelling_is_the_same_route(backend: None) -> None:
    ensure_routes(ROUTES)
    assert missing_routes([Route(6, 51820, "::/0", "backend", "fd00:9:0:0::0010")]) == []


@pytest.fixture
def public(backend: None) -> Iterator[socket.socket]:
    """Let the namespace forward from ``backend`` to ``public``; the socket sees what leaves through ``public``."""
    ip("link add public type veth peer name world")
    for link in ("world", "public"):
        ip(f"link set {link} up")
    ip("address add 203.0.113.10/24 dev public")
    ip("address add 2001:db8:113::10/64 dev public nodad")
    ip("neigh replace 203.0.113.50 lladdr 02:00:00:00:00:50 dev public")
    ip("neigh replace 2001:db8:113::50 lladdr 02:00:00:00:00:50 dev public")
    sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    sysctl("net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.backend.rp_filter=0")
    with closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))) as world:  # ETH_P_ALL
        world.bind(("world", 0))
        world.settimeout(0.3)
        yield world


def forwarded(world: socket.socket, source: str, destination: str, sport: int) -> bool:
    """Send a UDP packet into ``backend``, and say whether it comes out of ``public``."""
    payload = struct.pack("!HHHH", sport, 40000, 16, 0) + b"from-hub"
    src, dst = ip_address(source).packed, ip_address(destination).packed
    if len(src) == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 36, 0, 0, 64, 17, 0) + src + dst
        total = sum(struct.unpack("!10H", head))
        checksum = ~(total + (total >> 16)) & 0xFFFF
        packet = b"\x08\x00" + head[:10] + struct.pack("!H", checksum) + head[12:]
    else:
        packet = b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 16, 17, 64) + src + dst
    with closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as far:
        far.bind(("far", 0))
        far.send(BACKEND_MAC + bytes.fromhex("020000000011") + packet + payload)
    try:
        while payload not in world.recv(2000):
            pass
    except TimeoutError:
        return False
    return True


@pytest.mark.root
@pytest.mark.parametrize(
    ("source", "destination"), [("10.9.0.12", "203.0.113.50"), ("fd00:9::12", "2001:db8:113::50")], ids=["ipv4", "ipv6"]
)
def test_guard_drops_what_no_table_marked(public: socket.socket, source: str, destination: str) -> None:
    assert forwarded(public, source, destination, PORT)
    ensure_rules(GUARDS)
    assert not forwarded(public, source, destination, PORT)
    assert forwarded(public, source, destination, PORT + 1)
    nft.apply(MARKING)
    assert forwarded(public, source, destination, PORT)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert not forwarded(public, source, destination, PORT)
