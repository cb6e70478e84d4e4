# SPDX-License-Identifier: GPL-3.0-or-later
"""Two balancers that share their addresses: which one has them, and what clients notice when that changes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import yaml
from testinfra.host import Host

from .cluster import Client, Cluster, new_port
from .hosts import Lab, until
from .ping import Ping

BALANCERS = ("lb1", "lb2")
BEFORE, AFTER = 2.0, 8.0  # seconds of pings around what happens
SETTLING_SECONDS = 60
TAKEOVER_SECONDS = 10


@dataclass(frozen=True)
class Watched:
    """What two clients noticed, one of each family, and the time of their handshakes before and after it."""

    pings: dict[str, Ping]
    handshakes: dict[str, list[int]] = field(default_factory=dict)

    @property
    def outage(self) -> float:
        return max(ping.outage for ping in self.pings.values())

    @property
    def lost(self) -> int:
        return sum(ping.lost for ping in self.pings.values())

    @property
    def sent(self) -> int:
        return sum(ping.sent for ping in self.pings.values())

    @property
    def sessions_kept(self) -> bool:
        return all(before == after for before, after in self.handshakes.values())

    def __str__(self) -> str:
        return "; ".join(f"{name}: {ping}" for name, ping in self.pings.items())


class Pair:
    """The lab's cluster, as each of its balancers sees it."""

    def __init__(self, lab: Lab, nodes: tuple[str, ...], clients: tuple[str, str]) -> None:
        self.lab = lab
        self.views = {name: Cluster(lab, nodes, clients, balancer=name) for name in BALANCERS}
        self.clients = self.views["lb1"].clients
        variables = yaml.safe_load((lab.inventory / "group_vars" / "all.yml").read_text())
        self.vips = {vip.split("/")[0] for vip in variables["vpn_vip"] + variables["vpn_backend_vip"]}
        self.targets = dict(zip(clients, (lab.address("web", "private", version) for version in (4, 6))))

    def host(self, name: str) -> Host:
        return self.views[name].balancer

    def held(self, name: str) -> set[str]:
        """The shared addresses that a balancer has."""
        links = json.loads(self.host(name).check_output("ip -json address"))
        return {address["local"] for link in links for address in link["addr_info"]} & self.vips

    def in_order(self, name: str) -> bool:
        return self.host(name).run("/etc/wirefleet/default/in-order").succeeded

    def roles(self) -> tuple[str, str]:
        """The active balancer and the other one, once all is well."""
        until(
            "one balancer has all addresses, the other none, and both are in order",
            SETTLING_SECONDS,
            lambda: (
                all(map(self.in_order, BALANCERS))
                and sorted(len(self.held(name)) for name in BALANCERS) == [0, len(self.vips)]
            ),
        )
        for view in self.views.values():
            for node in view.nodes:
                view.wait(node, "up", SETTLING_SECONDS)
        first, second = BALANCERS
        return (first, second) if self.held(first) else (second, first)

    def wait_active(self, name: str) -> float:
        """Until it has all addresses; return how many seconds that took."""
        return until(f"{name} is active", TAKEOVER_SECONDS, lambda: self.held(name) == self.vips, pause=0.05)

    def ping(self, client: Client) -> Ping:
        return Ping(client.host, self.targets[client.name], 0.02)

    def served(self, client: Client) -> bool:
        return client.answered(self.targets[client.name])

    @contextmanager
    def watched(self) -> Iterator[Watched]:
        """Ping through sessions that are so young that no client is due for a new handshake."""
        seen = Watched({client.name: self.ping(client) for client in self.clients.values()})
        for client in self.clients.values():
            client.reconnect(new_port())
            seen.handshakes[client.name] = [client.handshake]
        with ExitStack() as stack:
            for ping in seen.pings.values():
                stack.enter_context(ping)
            time.sleep(BEFORE)
            yield seen
            time.sleep(AFTER)
        for client in self.clients.values():
            seen.handshakes[client.name].append(client.handshake)
