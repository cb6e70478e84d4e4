# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What a node takes and forwards beside its clients' packets (wireguard_node_firewall).

::

    lb --- backend --- n1 --- private --- server
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..haproxy_lb.test_firewall import Site as Sender
from ..namespaces import Network, alive
from . import rules

LB = {"ip": "10.9.0.10", "ip6": "fd00:9::10"}
NODE = {"ip": "10.9.0.11", "ip6": "fd00:9::11"}
PRIVATE = {"ip": "10.20.0.1", "ip6": "fd00:20::1"}
SERVER = {"ip": "10.20.0.80", "ip6": "fd00:20::80"}
PORT, MESH_PORT = 51820, 51821
FAMILIES = ("ip", "ip6")


class Site(Network):
    arrive = Sender.arrive

    def build(self) -> None:
        for name in ("fabric", "lb", "n1", "server"):
            self.add(name)
        self.bridge("fabric", "backend", "private")
        self.connect("lb", "backend", f"{LB['ip']}/24", f"{LB['ip6']}/64")
        self.connect("n1", "backend", f"{NODE['ip']}/24", f"{NODE['ip6']}/64")
        self.connect("n1", "private", f"{PRIVATE['ip']}/24", f"{PRIVATE['ip6']}/64")
        self.connect("server", "private", f"{SERVER['ip']}/24", f"{SERVER['ip6']}/64")
        self.run("n1", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for network, family in (("10.9.0.0/24", "ip"), ("fd00:9::/64", "ip6")):
            self.run("server", "ip", "route", "add", network, "via", PRIVATE[family])

    def firewall(self, on: bool, routed: bool = False) -> None:
        self.run("n1", "nft", "-f", str(rules.write(self.directory, routed, firewall=on)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from alive(Site(tmp_path_factory.mktemp("site")))


pytestmark = pytest.mark.root


@pytest.mark.parametrize("family", FAMILIES)
def test_clients_packets_come_from_the_backend(site: Site, family: str) -> None:
    site.firewall(False)
    assert site.arrive("server", "n1", PRIVATE[family], PORT) == 3
    site.firewall(True)
    assert site.arrive("server", "n1", PRIVATE[family], PORT) == 0
    assert site.arrive("lb", "n1", NODE[family], PORT) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_meshs_port_is_for_hosts_of_the_cluster(site: Site, family: str) -> None:
    site.firewall(False)
    assert site.arrive("server", "n1", PRIVATE[family], MESH_PORT) == 3
    site.firewall(True)
    assert site.arrive("server", "n1", PRIVATE[family], MESH_PORT) == 0
    assert site.arrive("lb", "n1", NODE[family], MESH_PORT) == 3
    assert site.arrive("server", "n1", PRIVATE[family]) == 3, "other ports are none of its business"


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_nobodys_router(site: Site, family: str, routed: bool) -> None:
    """That clients' own packets still pass, test_return_path shows: the rules there are on."""
    site.firewall(False, routed)
    assert site.arrive("server", "lb", LB[family]) == 3
    site.firewall(True, routed)
    assert site.arrive("server", "lb", LB[family]) == 0
