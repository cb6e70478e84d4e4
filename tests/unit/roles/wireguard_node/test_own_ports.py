# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""No client leaves a node, in whose name it speaks, from a port of the node's own.

::

    client --- wg0 (10.80.0.0/24, fd00:80::/64) --- n1 --- private (10.20.0.0/24, …) --- server
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from ..haproxy_lb.test_firewall import Site as Sender
from ..namespaces import Network, alive, eventually
from . import rules

CLIENT = {4: "10.80.0.5", 6: "fd00:80::5"}
INSIDE = {4: "10.80.0.1", 6: "fd00:80::1"}
NODE = {4: "10.20.0.1", 6: "fd00:20::1"}
SERVER = {4: "10.20.0.80", 6: "fd00:20::80"}
PORT, MESH_PORT, NEW_PORT = 51820, 51821, 51830
SERVER_PORT = 7777

# Tells who asks, which port he has here.
ANSWER = f"""
import socket, threading
def tcp():
    with socket.create_server(("::", {SERVER_PORT}), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        while True:
            connection, peer = server.accept()
            with connection:
                connection.sendall(str(peer[1]).encode())
threading.Thread(target=tcp, daemon=True).start()
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("::", {SERVER_PORT}))
    while True:
        peer = server.recvfrom(100)[1]
        server.sendto(str(peer[1]).encode(), peer)
"""
ASK = f"""
import socket, struct, sys
kind = {{"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}}[sys.argv[1]]
with socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, kind) as asked:
    asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    asked.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the port is free at once
    asked.settimeout(1)
    asked.bind(("", int(sys.argv[3])))
    try:
        asked.connect((sys.argv[2], {SERVER_PORT}))
        asked.send(b"?")
        print(asked.recv(100).decode())
    except TimeoutError:
        print(0)
"""
# What the kernel may draw: the first chain that translates a connection decides.
DRAWN = f"""
table inet drawn {{
  chain postrouting {{
    type nat hook postrouting priority srcnat - 1;
    oifname "private" meta l4proto {{ tcp, udp }} masquerade to :{MESH_PORT}
  }}
}}
"""


class Site(Network):
    arrive = Sender.arrive

    def build(self) -> None:
        for name in ("fabric", "client", "n1", "server"):
            self.add(name)
        self.bridge("fabric", "wg0", "private")
        self.connect("client", "wg0", f"{CLIENT[4]}/24", f"{CLIENT[6]}/64")
        self.connect("n1", "wg0", f"{INSIDE[4]}/24", f"{INSIDE[6]}/64")
        self.connect("n1", "private", f"{NODE[4]}/24", f"{NODE[6]}/64")
        self.connect("server", "private", f"{SERVER[4]}/24", f"{SERVER[6]}/64")
        self.run("n1", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for version in (4, 6):
            self.run("client", "ip", f"-{version}", "route", "add", "default", "via", INSIDE[version])
        self.start("server", sys.executable, "-c", ANSWER)
        eventually(lambda: self.run("server", "ss", "-tuln").count(f":{SERVER_PORT} ") == 2)
        self.load()

    def load(self, overlap: bool = False) -> None:
        path = rules.write(self.directory, routed=False, firewall=False, overlap=overlap)
        self.run("n1", "nft", "-f", str(path))

    def source_port(self, kind: str, version: int, port: int) -> int:
        """The port from which the server sees the client, who sends from `port`; 0 without an answer."""
        return int(self.run("client", sys.executable, "-c", ASK, kind, SERVER[version], str(port)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from alive(Site(tmp_path_factory.mktemp("site")))


pytestmark = [pytest.mark.root, pytest.mark.parametrize("version", [4, 6])]


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_a_client_gets_another_port(site: Site, kind: str, version: int) -> None:
    for port in (PORT, MESH_PORT):
        assert site.source_port(kind, version, port) not in {0, port}
    assert site.source_port(kind, version, 40001) == 40001, "others are kept"


def test_a_second_service_key_takes_its_port_from_clients(site: Site, version: int) -> None:
    assert site.source_port("udp", version, NEW_PORT) == NEW_PORT
    site.load(overlap=True)
    assert site.source_port("udp", version, NEW_PORT) == 0, "a connection of before"
    assert site.source_port("tcp", version, NEW_PORT) not in {0, NEW_PORT}
    assert site.source_port("udp", version, PORT) not in {0, PORT}
    site.load()


def test_what_the_node_is_sent_is_no_answer_to_a_client(site: Site, version: int) -> None:
    assert site.source_port("udp", version, PORT)
    assert site.arrive("server", "n1", NODE[version], PORT, SERVER_PORT) == 3


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_a_port_of_the_nodes_own_that_the_kernel_draws_is_not_used(site: Site, kind: str, version: int) -> None:
    site.run("n1", "nft", "-f", "-", stdin=DRAWN)
    assert site.source_port(kind, version, 40000) == 0
    site.run("n1", "nft", "delete", "table", "inet", "drawn")
    assert site.source_port(kind, version, 40000) == 40000
