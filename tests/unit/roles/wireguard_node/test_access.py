# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Where clients get to, with a node's real rules.

::

    staff, guest, ward --- wg0 (10.80.0.0/24, fd00:80::/64) --- n1 --- private (10.20.0.0/24, …) --- server, other

Plain wires are the tunnel: what WireGuard does is not in question here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils import _access

from ..namespaces import Network, alive, eventually
from . import rules

CLIENTS = {"staff": 5, "guest": 6, "ward": 7}
HOSTS = {"server": 80, "other": 81}
PORTS = (443, 8080)
ANSWER = """
import socket, sys, threading
def tcp(port):
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        while True:
            connection = server.accept()[0]
            threading.Thread(target=echo, args=[connection], daemon=True).start()
def echo(connection):
    while data := connection.recv(100):
        connection.sendall(data)
def udp(port):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("::", port))
        while True:
            data, peer = server.recvfrom(2000)
            server.sendto(data, peer)
for port in map(int, sys.argv[1:]):
    for serve in (tcp, udp):
        threading.Thread(target=serve, args=[port]).start()
"""
ASK = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
with socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, kind) as asked:
    asked.settimeout(0.6)
    asked.connect((sys.argv[2], int(sys.argv[3])))
    asked.send(b"x" * int(sys.argv[4]))
    asked.recv(10)
"""


def address(name: str, version: int) -> str:
    network, number = ("80", CLIENTS[name]) if name in CLIENTS else ("20", HOSTS[name])
    return f"10.{network}.0.{number}" if version == 4 else f"fd00:{network}::{number}"


class Private(Network):
    def build(self) -> None:
        for name in ("fabric", "n1", *CLIENTS, *HOSTS):
            self.add(name)
        self.bridge("fabric", "wg0", "private")
        self.connect("n1", "wg0", "10.80.0.1/24", "fd00:80::1/64")
        self.connect("n1", "private", "10.20.0.1/24", "fd00:20::1/64")
        self.run("n1", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for name in CLIENTS:
            self.join(name, "wg0", "80", "20")
        for name in HOSTS:
            self.join(name, "private", "20", "80")
        for name in (*CLIENTS, *HOSTS):
            self.start(name, sys.executable, "-c", ANSWER, *map(str, PORTS))
            eventually(lambda name=name: all(f":{port} " in self.run(name, "ss", "-tuln") for port in PORTS))

    def join(self, name: str, bridge: str, network: str, other: str) -> None:
        self.connect(name, bridge, f"{address(name, 4)}/24", f"{address(name, 6)}/64")
        self.run(name, "ip", "route", "add", f"10.{other}.0.0/24", "via", f"10.{network}.0.1")
        self.run(name, "ip", "route", "add", f"fd00:{other}::/64", "via", f"fd00:{network}::1")

    def load(self, access: list[dict[str, Any]], *, default: str = "allow", routed: bool = True) -> None:
        clients = {
            name: {"groups": [name], "prefixes": [f"{address(name, 4)}/32", f"{address(name, 6)}/128"]}
            for name in CLIENTS
        }
        reachable = [_access.network(route) for route in rules.ROUTES]
        described = _access.describe(access, default, clients, reachable)
        self.run("n1", "nft", "-f", str(rules.write(self.directory, routed, described)))

    def reaches(self, who: str, kind: str, whom: str, port: int, version: int, size: int = 1) -> bool:
        asked = [sys.executable, "-c", ASK, kind, address(whom, version), str(port), str(size)]
        return subprocess.run(["ip", "netns", "exec", self.namespace(who), *asked], capture_output=True).returncode == 0

    def pings(self, who: str, whom: str, version: int) -> bool:
        return ", 0% packet loss" in self.run(who, "ping", "-c1", "-W1", address(whom, version), check=False)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    yield from alive(Private(tmp_path_factory.mktemp("private")))


pytestmark = [pytest.mark.root, pytest.mark.parametrize("version", [4, 6])]
STAFF = {"groups": ["staff"], "to": ["10.20.0.80/32", "fd00:20::80/128"], "ports": ["tcp/443", "udp/8000-8100"]}


@pytest.mark.parametrize("routed", [False, True])
def test_who_is_named_does_what_rules_say_and_no_more(private: Private, version: int, routed: bool) -> None:
    private.load([STAFF], routed=routed)
    assert private.reaches("staff", "tcp", "server", 443, version)
    assert private.reaches("staff", "udp", "server", 8080, version)
    assert not private.reaches("staff", "tcp", "server", 8080, version)
    assert not private.reaches("staff", "udp", "server", 443, version)
    assert not private.reaches("staff", "tcp", "other", 443, version)
    assert not private.pings("staff", "server", version)
    assert private.reaches("guest", "tcp", "other", 8080, version)  # vpn_access_default


def test_the_default_can_be_to_deny(private: Private, version: int) -> None:
    private.load([STAFF, {"ports": ["icmp"]}], default="deny")
    assert private.pings("guest", "other", version)  # a rule for everybody
    assert not private.reaches("guest", "tcp", "server", 443, version)
    assert private.reaches("staff", "tcp", "server", 443, version)
    assert private.pings("staff", "other", version)


def test_a_rule_without_ports_is_for_all_of_them(private: Private, version: int) -> None:
    private.load([{"clients": ["ward"], "to": STAFF["to"]}])
    assert private.reaches("ward", "tcp", "server", 8080, version)
    assert private.reaches("ward", "udp", "server", 443, version)
    assert private.pings("ward", "server", version)
    assert not private.pings("ward", "other", version)


def test_the_private_side_begins_what_it_likes(private: Private, version: int) -> None:
    private.load([], default="deny")
    assert private.reaches("server", "tcp", "guest", 8080, version)
    assert private.reaches("server", "udp", "guest", 8080, version)
    assert private.reaches("server", "udp", "guest", 443, version, size=1800)  # in fragments
    assert private.pings("server", "guest", version)
    assert not private.reaches("guest", "udp", "server", 8080, version)
    assert not private.reaches("guest", "tcp", "server", 8080, version)
    assert not private.pings("guest", "server", version)


def test_a_change_loses_no_packet_of_others(private: Private, version: int) -> None:
    """The elements by themselves, as the agent loads them, while somebody else talks."""
    private.load([STAFF])
    ping = private.start(
        "guest", "ping", "-i", "0.002", "-c", "400", "-q", address("other", version), stdout=subprocess.PIPE
    )
    node = ("n1", "nft", "-f", str(private.directory / "access.nft"))
    written = (private.directory / "access.nft").read_text()
    for who in ("staff", "ward") * 4:
        text = written.replace(address("staff", version), address(who, version))
        (private.directory / "access.nft").write_text(text)
        private.run(*node)
    assert private.reaches("ward", "tcp", "server", 443, version)
    assert not private.reaches("ward", "tcp", "server", 8080, version)
    assert b" 0% packet loss" in ping.communicate(timeout=60)[0]
