# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What a balancer takes and forwards beside the VPN's packets (haproxy_lb_firewall).

::

    stranger --- public --- lb --- backend --- n1
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from ..namespaces import Network, alive
from .conftest import BACKEND, PUBLIC, render, steer_variables

MESH, MESH_PORT = "fd00:1::1", 51821
STRANGER = {"ip": "198.51.100.66", "ip6": "2001:db8:100::66"}
NODE = {"ip": "10.9.0.11", "ip6": "fd00:9::11"}

# After every chain that has a say, and from 0 each time.
WATCH = """
table inet watch {}
delete table inet watch
table inet watch {
  counter arrived {}
  chain input { type filter hook input priority 100; udp dport { 7, 51820, 51821 } counter name arrived; }
}
"""
SEND = """
import socket, sys
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", int(sys.argv[3])))
    for _ in range(3):
        sock.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
"""


class Site(Network):
    def build(self) -> None:
        for name in ("fabric", "lb", "n1", "stranger"):
            self.add(name)
        self.bridge("fabric", "public", "backend")
        self.connect("lb", "public", f"{PUBLIC['ip']}/24", f"{PUBLIC['ip6']}/64")
        self.connect("lb", "backend", f"{BACKEND['ip']}/24", f"{BACKEND['ip6']}/64")
        self.connect("stranger", "public", f"{STRANGER['ip']}/24", f"{STRANGER['ip6']}/64")
        self.connect("n1", "backend", f"{NODE['ip']}/24", f"{NODE['ip6']}/64")
        self.bridge("lb", "wf0")
        self.run("lb", "ip", "address", "add", f"{MESH}/64", "dev", "wf0")
        self.run("lb", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for network, family in ((f"{MESH}/128", "ip6"), ("10.9.0.0/24", "ip"), ("fd00:9::/64", "ip6")):
            self.run("stranger", "ip", "route", "add", network, "via", PUBLIC[family])

    def firewall(self, on: bool) -> None:
        variables = steer_variables()
        variables["__haproxy_lb_steer"]["host"]["firewall"] = on
        self.run("lb", "nft", "-f", "-", stdin=render("steer.nft.j2", variables))

    def arrive(self, sender: str, at: str, address: str, port: int = 7, source_port: int = 0) -> int:
        """Send three datagrams, and return how many of them get there."""
        self.run(at, "nft", "-f", "-", stdin=WATCH)
        self.run(sender, sys.executable, "-c", SEND, address, str(port), str(source_port))
        return int(
            self.run(at, "nft", "list", "counter", "inet", "watch", "arrived").partition("packets ")[2].split()[0]
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from alive(Site(tmp_path_factory.mktemp("site")))


pytestmark = pytest.mark.root


@pytest.mark.parametrize("on", [False, True])
def test_a_mesh_address_answers_to_the_mesh_only(site: Site, on: bool) -> None:
    site.firewall(on)
    assert site.arrive("stranger", "lb", MESH) == 0
    assert site.arrive("lb", "lb", MESH) == 3


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_the_meshs_port_is_for_hosts_of_the_cluster(site: Site, family: str) -> None:
    site.firewall(False)
    assert site.arrive("stranger", "lb", PUBLIC[family], MESH_PORT) == 3
    site.firewall(True)
    assert site.arrive("stranger", "lb", PUBLIC[family], MESH_PORT) == 0
    assert site.arrive("n1", "lb", BACKEND[family], MESH_PORT) == 3
    assert site.arrive("stranger", "lb", PUBLIC[family]) == 3, "other ports are none of its business"


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_it_is_nobodys_router(site: Site, family: str) -> None:
    """That clients' own packets still pass, every other test of steering shows: the rules there are on."""
    site.firewall(False)
    assert site.arrive("stranger", "n1", NODE[family]) == 3
    site.firewall(True)
    assert site.arrive("stranger", "n1", NODE[family]) == 0
