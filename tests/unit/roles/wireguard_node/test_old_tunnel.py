# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""While the service key is replaced, answers go into the tunnel that their client speaks through.

::

    client ===(wg0, the old one)=== n1 --- private --- server
           ===(wg1, the new one)===
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wirefleet.iproute import Route, Rule

from ..namespaces import Network, alive
from . import rules

CLIENT = {4: "10.80.0.2", 6: "fd00:80::2"}
NODE = {4: "10.80.0.1", 6: "fd00:80::1"}
SERVER = {4: "10.20.0.80", 6: "fd00:20::80"}
MARK = 51831


class Site(Network):
    def build(self) -> None:
        for name in ("fabric", "client", "n1", "server"):
            self.add(name)
        self.bridge("fabric", "wg0", "wg1", "private")
        for tunnel in ("wg0", "wg1"):
            self.connect("client", tunnel, f"{CLIENT[4]}/32", f"{CLIENT[6]}/128")
        self.connect("n1", "wg0", f"{NODE[4]}/32", f"{NODE[6]}/128")
        self.connect("n1", "wg1", f"{NODE[4]}/24", f"{NODE[6]}/64")
        self.connect("n1", "private", "10.20.0.1/24", "fd00:20::1/64")
        self.connect("server", "private", f"{SERVER[4]}/24", f"{SERVER[6]}/64")
        self.run("n1", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for family in (4, 6):
            self.run("n1", "ip", f"-{family}", "rule", "add", *Rule(family, 5179, MARK, MARK).arguments())
            self.run("n1", "ip", f"-{family}", "route", "add", *Route(family, MARK, "default", "wg0").arguments())
        self.run("n1", "nft", "-f", str(rules.write(self.directory, routed=False, overlap=True)))

    def speak_through(self, tunnel: str, network: str, family: int) -> None:
        onward = [] if network == NODE[family] else ["via", NODE[family]]
        words = [network, *onward, "dev", tunnel, "src", CLIENT[family]]
        self.run("client", "ip", f"-{family}", "route", "replace", *words)

    def answered(self, target: str) -> bool:
        """All pings are of one connection to the node, whichever tunnel they come through."""
        return " 0% packet loss" in self.run("client", "ping", "-e77", "-c2", "-i0.1", "-W1", target, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from alive(Site(tmp_path_factory.mktemp("site")))


pytestmark = pytest.mark.root


@pytest.mark.parametrize("family", [4, 6])
def test_answers_follow_their_client(site: Site, family: int) -> None:
    for tunnel in ("wg0", "wg1", "wg0"):
        for target in (NODE[family], SERVER[family]):
            site.speak_through(tunnel, target, family)
            assert site.answered(target), f"{target}, through {tunnel}"


@pytest.mark.parametrize("family", [4, 6])
def test_the_old_tunnel_leads_no_further_than_the_new_one(site: Site, family: int) -> None:
    other = {4: "10.30.0.80", 6: "fd00:30::80"}[family]
    site.run("server", "ip", "address", "add", other, "dev", "private")
    site.run("n1", "ip", f"-{family}", "route", "add", other, "dev", "private")
    site.speak_through("wg0", NODE[family], family)
    site.speak_through("wg0", other, family)
    assert not site.answered(other)
