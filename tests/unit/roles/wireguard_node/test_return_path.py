# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What becomes of a TCP connection whose client moves to another node, with the nodes' real rules.

::

    client --- wg0 (10.80.0.0/24, fd00:80::/64) --- n1 n2 --- private (10.20.0.0/24, fd00:20::/64) --- server

A plain wire is the tunnel: what WireGuard does is not in question here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from ..namespaces import Network, alive, eventually
from . import rules

SERVER = {4: "10.20.0.80", 6: "fd00:20::80"}
NODES = {"n1": {4: "10.80.0.1", 6: "fd00:80::1"}, "n2": {4: "10.80.0.2", 6: "fd00:80::2"}}

ECHO = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(100):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    address_family, allow_reuse_address = socketserver.socket.AF_INET6, True
Server(("::", 7), Echo).serve_forever()
"""

SILENT = "table inet silent { chain output { type filter hook output priority 0; tcp flags & rst == rst drop; }; }"

# Opens a connection, waits for a word, and says what came of doing that.
TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], 7), 5) as server:
    server.sendall(b"1")
    assert server.recv(1) == b"1"
    print("open", flush=True)
    word = sys.stdin.readline().strip()
    try:
        server.shutdown(socket.SHUT_WR) if word == "end" else server.sendall(b"2")
        print("answered" if server.recv(1) else "closed")
    except TimeoutError:
        print("silence")
    except ConnectionResetError:
        print("reset")
"""


class Site(Network):
    def build(self) -> None:
        for name in ("fabric", "client", "server", *NODES):
            self.add(name)
        self.bridge("fabric", "wg0", "private")
        self.connect("client", "wg0", "10.80.0.5/24", "fd00:80::5/64")
        self.connect("server", "private", "10.20.0.80/24", "fd00:20::80/64")
        for number, name in enumerate(NODES, start=1):
            self.connect(name, "wg0", f"10.80.0.{number}/24", f"fd00:80::{number}/64")
            self.connect(name, "private", f"10.20.0.{number}/24", f"fd00:20::{number}/64")
            self.run(name, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        # In routed mode only: with source NAT nobody asks for this way.
        self.run("server", "ip", "route", "add", "10.80.0.0/24", "via", "10.20.0.2")
        self.run("server", "ip", "route", "add", "fd00:80::/64", "via", "fd00:20::2")
        # About connections that it does not know it says nothing, as if behind a firewall: so clients would hang.
        self.run("server", "nft", "-f", "-", stdin=SILENT)
        self.start("server", sys.executable, "-c", ECHO)
        eventually(lambda: ":7 " in self.run("server", "ss", "-tln"))

    def load(self, routed: bool) -> None:
        for name in NODES:
            self.run(name, "nft", "-f", str(rules.write(self.directory, routed)))

    def move(self, node: str) -> None:
        """The client is at this node now."""
        for version, network in zip((4, 6), rules.ROUTES):
            self.run("client", "ip", "route", "replace", network, "via", NODES[node][version])

    def talk(self, version: int) -> subprocess.Popen[bytes]:
        talk = self.start(
            "client",
            *(sys.executable, "-c", TALK, SERVER[version]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert talk.stdout is not None
        assert talk.stdout.readline() == b"open\n"
        return talk


def outcome(talk: subprocess.Popen[bytes], word: str) -> str:
    return talk.communicate(word.encode() + b"\n", timeout=20)[0].decode().strip()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from alive(Site(tmp_path_factory.mktemp("site")))


pytestmark = pytest.mark.root


@pytest.mark.parametrize("version", [4, 6])
class TestTranslated:
    @pytest.fixture(autouse=True)
    def at_n1(self, site: Site) -> None:
        site.load(routed=False)
        site.move("n1")

    def test_a_connection_that_stays_goes_on(self, site: Site, version: int) -> None:
        assert outcome(site.talk(version), "go on") == "answered"
        assert outcome(site.talk(version), "end") == "closed"

    @pytest.mark.parametrize("word", ["go on", "end"])
    def test_a_connection_that_moves_is_reset(self, site: Site, version: int, word: str) -> None:
        talk = site.talk(version)
        site.move("n2")
        assert outcome(talk, word) == "reset"

    def test_a_connection_that_begins_after_the_move_goes_on(self, site: Site, version: int) -> None:
        site.move("n2")
        assert outcome(site.talk(version), "go on") == "answered"


@pytest.mark.parametrize("version", [4, 6])
def test_a_routed_connection_that_moves_goes_on(site: Site, version: int) -> None:
    site.load(routed=True)
    site.move("n1")
    talk = site.talk(version)
    site.move("n2")
    assert outcome(talk, "go on") == "answered"
