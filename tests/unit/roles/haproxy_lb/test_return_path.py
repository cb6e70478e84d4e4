# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Routed mode on the balancer: packets for clients through the real ruleset and routes.

::

    stranger --- public --- lb --- backend --- n1 (the client's address), gw (the private networks)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from wirefleet.iproute import Rule
from wirefleet.routes import Hop

from ..namespaces import Network, alive
from .conftest import BACKEND, PUBLIC, PYTHONPATH, balancer_sysctls, render, steer_config, steer_variables

CLIENT = {"ip": "10.80.0.5", "ip6": "fd00:80::5"}
CLIENTS = {"ip": "10.80.0.0/16", "ip6": "fd00:80::/48"}
NODE = {"ip": "10.9.0.11", "ip6": "fd00:9::11"}
FAMILIES = ("ip", "ip6")
TABLE = 51821

# What reaches the client's address, and what of that the balancer's connection tracking has not seen.
ARRIVED = """
table inet watch {
  counter arrived {}
  chain input { type filter hook input priority 0; udp dport 7 counter name arrived; }
}
"""
UNTRACKED = """
table inet watch {
  counter untracked {}
  chain forward { type filter hook forward priority -1; ct state untracked udp dport 7 counter name untracked; }
}
"""
SEND = """
import socket, sys
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("", int(sys.argv[2])))
    for _ in range(5):
        sock.sendto(b"hello", (sys.argv[1], 7))
"""


class ReturnPath(Network):
    def build(self) -> None:
        for name in ("fabric", "lb", "n1", "gw", "stranger"):
            self.add(name)
        self.bridge("fabric", "public", "backend")
        self.connect("lb", "public", f"{PUBLIC['ip']}/24", f"{PUBLIC['ip6']}/64")
        self.connect("lb", "backend", f"{BACKEND['ip']}/24", f"{BACKEND['ip6']}/64")
        self.connect("n1", "backend", f"{NODE['ip']}/24", f"{NODE['ip6']}/64")
        self.connect("gw", "backend", "10.9.0.1/24", "fd00:9::1/64")
        self.connect("stranger", "public", "198.51.100.66/24", "2001:db8:100::66/64")
        for family in FAMILIES:
            self.run("n1", "ip", "address", "add", CLIENT[family], "dev", "lo")
            self.run("gw", "ip", "route", "add", CLIENTS[family], "via", BACKEND[family])
            self.run("stranger", "ip", "route", "add", CLIENTS[family], "via", PUBLIC[family])
        self._start_balancer()
        self.run("n1", "nft", "-f", "-", stdin=ARRIVED)
        self.run("lb", "nft", "-f", "-", stdin=UNTRACKED)

    def _start_balancer(self) -> None:
        variables = steer_variables()
        for family in variables["__haproxy_lb_steer"]["families"]:
            family["client_networks"] = [CLIENTS[family["family"]]]
        (self.directory / "steer.nft").write_text(render("steer.nft.j2", variables))
        (self.directory / "steer.json").write_text(json.dumps(steer_config(self.directory)))
        command = ["env", f"PYTHONPATH={PYTHONPATH}", sys.executable, "-m", "wirefleet_steer"]
        self.run("lb", *command, "--config", str(self.directory / "steer.json"), "prepare")
        self.run("lb", "sysctl", "-qw", *balancer_sysctls("backend", routed=True))
        for family, version in zip(FAMILIES, (4, 6)):
            rule = Rule(version, 5179, table=TABLE, to=CLIENTS[family], iif="backend")
            self.run("lb", "ip", f"-{version}", "rule", "add", *rule.arguments())
            route = Hop("backend", NODE[family]).to(CLIENT[family])
            self.run("lb", "ip", f"-{version}", "route", "add", *route.split(), "table", str(TABLE))

    def send(self, source: str, family: str, port: int = 0) -> None:
        self.run(source, sys.executable, "-c", SEND, CLIENT[family], str(port))

    def counted(self, host: str, family: str, table: str, counter: str) -> int:
        answer: dict[str, Any] = json.loads(self.run(host, "nft", "-j", "list", "counter", family, table, counter))
        return int(answer["nftables"][1]["counter"]["packets"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReturnPath]:
    yield from alive(ReturnPath(tmp_path_factory.mktemp("return")))


pytestmark = [pytest.mark.root, pytest.mark.parametrize("family", FAMILIES)]


@pytest.mark.parametrize("port", [0, 51820], ids=["any port", "the nodes' own port"])
def test_packets_from_private_networks_reach_the_clients_node(site: ReturnPath, family: str, port: int) -> None:
    before = [site.counted("n1", "inet", "watch", "arrived"), site.counted("lb", "inet", "watch", "untracked")]
    site.send("gw", family, port)
    after = [site.counted("n1", "inet", "watch", "arrived"), site.counted("lb", "inet", "watch", "untracked")]
    assert [then - now for then, now in zip(after, before)] == [5, 5]


def test_strangers_reach_no_client(site: ReturnPath, family: str) -> None:
    # As if the balancer had a route for them.
    site.run("lb", "ip", "route", "add", CLIENTS[family], "via", NODE[family])
    arrived = site.counted("n1", "inet", "watch", "arrived")
    before = site.counted("lb", family, "wirefleet", "no_return")
    site.send("stranger", family)
    assert site.counted("lb", family, "wirefleet", "no_return") - before == 5
    assert site.counted("n1", "inet", "watch", "arrived") == arrived
    site.run("lb", "ip", "route", "del", CLIENTS[family], "via", NODE[family])


def test_without_a_route_packets_for_clients_go_nowhere(site: ReturnPath, family: str) -> None:
    site.run("lb", "ip", "route", "add", "default", "via", {"ip": "198.51.100.66", "ip6": "2001:db8:100::66"}[family])
    version = {"ip": "-4", "ip6": "-6"}[family]
    route = site.run("lb", "ip", version, "route", "show", "table", str(TABLE)).strip()
    site.run("lb", "ip", version, "route", "flush", "table", str(TABLE))
    before = site.counted("lb", family, "wirefleet", "no_return")
    site.send("gw", family)
    assert site.counted("lb", family, "wirefleet", "no_return") - before == 5
    site.run("lb", "ip", version, "route", "add", *route.removesuffix("pref medium").split(), "table", str(TABLE))
    site.run("lb", "ip", version, "route", "del", "default")
