# SPDX-License-Identifier: GPL-3.0-or-later
"""Balancers of which one is active: which one that is, and what clients notice when that changes."""

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
ELECTED = "169.254.0.51"  # what the active one has where keepalived moves no address that anybody speaks to
# What makes a balancer: keys, configuration, programs and what they have put into the kernel.
WIPE = """\
systemctl disable --quiet --now wirefleet-keepalived wirefleet-steer haproxy
systemctl stop 'wg-quick@*'
rm -rf /etc/wirefleet /etc/wireguard/*.conf /etc/haproxy/haproxy.cfg /usr/local/*/wirefleet*
nft flush ruleset
"""
# What a balancer knows of the clients at these ports, in routed mode the ways back to clients, and twice its counters.
KNOWN = r"""
for ip in ip ip6; do nft list map $ip wirefleet affinity | grep -E ' \. (%s) '; done
for ip in -4 -6; do ip $ip route show table 51821; done
for pause in 0 1; do
  sleep $pause; nft list counters | awk '/counter/ {name = $2} /packets/ && $2 {print name, $2}'
done
"""
BEFORE, AFTER = 2.0, 8.0  # seconds of pings around what happens
SETTLING_SECONDS = 60
TAKEOVER_SECONDS = 10
SERVED_SECONDS = 10
PATIENCE = 4  # seconds in which whoever was not forgotten is served again
FAILOVER_SECONDS = 40  # how long a stock client may take


@dataclass(frozen=True)
class Watched:
    """What two clients noticed, one of each family, and the time of their handshakes before and after it."""

    pings: dict[str, Ping]
    handshakes: dict[str, list[int]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

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
    def new_handshakes(self) -> int:
        """How many clients have another session than before."""
        return sum(before != after for before, after in self.handshakes.values())

    @property
    def sessions_kept(self) -> bool:
        return not self.new_handshakes

    def __str__(self) -> str:
        return "\n".join([*(f"{name}: {ping}" for name, ping in self.pings.items()), *self.remarks])


class Pair:
    """The lab's cluster, as each of its balancers sees it."""

    def __init__(
        self,
        lab: Lab,
        nodes: tuple[str, ...] = ("n1", "n2"),
        clients: tuple[str, str] = ("c1", "c2"),
        balancers: tuple[str, ...] = BALANCERS,
    ) -> None:
        self.lab = lab
        self.views = {name: Cluster(lab, nodes, clients, balancer=name) for name in balancers}
        self.clients = self.views["lb1"].clients
        variables = yaml.safe_load((lab.inventory / "group_vars" / "all.yml").read_text())
        self.vips = {vip.split("/")[0] for vip in variables["vpn_vip"] + variables["vpn_backend_vip"]}
        self._public_vips = [vip.split("/")[0] for vip in variables["vpn_vip"]]
        if variables.get("vpn_vip_mode") == "external":
            self.vips = {ELECTED}
        self.targets = dict(zip(clients, (lab.address("web", "private", version) for version in (4, 6))))

    def host(self, name: str) -> Host:
        return self.views[name].balancer

    def address(self, version: int) -> str:
        """The public address that they share."""
        return next(vip for vip in self._public_vips if (":" in vip) == (version == 6))

    def held(self, name: str) -> set[str]:
        """The shared addresses that a balancer has."""
        links = json.loads(self.host(name).check_output("ip -json address"))
        return {address["local"] for link in links for address in link["addr_info"]} & self.vips

    def in_order(self, name: str) -> bool:
        return self.host(name).run("/etc/wirefleet/default/in-order").succeeded

    def roles(self) -> tuple[str, ...]:
        """The active balancer and then the others, once all is well."""

        def settled() -> bool:
            held = [self.held(name) for name in self.views]
            return all(map(self.in_order, self.views)) and held.count(self.vips) == 1 == len(held) - held.count(set())

        until("one balancer has all addresses, no other any, and all are in order", SETTLING_SECONDS, settled)
        for view in self.views.values():
            for node in view.nodes:
                view.wait(node, "up", SETTLING_SECONDS)
        return tuple(sorted(self.views, key=lambda name: not self.held(name)))

    def wipe(self, name: str) -> None:
        """Make a host of the cluster a fresh one again."""
        self.host(name).check_output(WIPE)

    def wait_active(self, name: str) -> float:
        """Until it has all addresses; return how many seconds that took."""
        return until(f"{name} is active", TAKEOVER_SECONDS, lambda: self.held(name) == self.vips, pause=0.05)

    def ping(self, client: Client) -> Ping:
        return Ping(client.host, self.targets[client.name], 0.02)

    def served(self, client: Client) -> bool:
        return client.answered(self.targets[client.name])

    def explain(self) -> str:
        """As a cluster does, for each balancer."""
        return "\n".join(view.explain() for view in self.views.values())

    def _await(self, client: Client, seen: Watched) -> None:
        """Until it is served again. When that takes long, note why: its own new handshake is about to heal it."""
        try:
            until(f"{client.name} is served again", PATIENCE, lambda: self.served(client))
        except AssertionError:
            seen.remarks.extend([f"{client.name} is still out:", *self._clues()])
            until(f"{client.name} is served again", FAILOVER_SECONDS, lambda: self.served(client))

    def _clues(self) -> Iterator[str]:
        """What balancers know of clients, and whom nodes and clients take for the active one."""
        ports = "|".join(str(client.port) for client in self.clients.values())
        for name in self.views:
            known = self.host(name).run(KNOWN % ports).stdout.split()
            yield " ".join([f"{name}: {sorted(self.held(name))}", *known])
        others = self.views["lb1"].nodes | {name: client.host for name, client in self.clients.items()}
        for name, host in others.items():
            neighbours = host.run("ip neighbour").stdout.splitlines()
            yield f"{name}: {'; '.join(line for line in neighbours if line.split()[0] in self.vips)}"

    @contextmanager
    def watched(self) -> Iterator[Watched]:
        """Ping through sessions that are so young that no client is due for a new handshake."""
        seen = Watched({client.name: self.ping(client) for client in self.clients.values()})
        for client in self.clients.values():
            client.reconnect(new_port())
            seen.handshakes[client.name] = [client.handshake]
            # In routed mode the way back follows a moment later, and that is no part of what happens here.
            until(f"{client.name} is served", SERVED_SECONDS, lambda: self.served(client))  # noqa: B023
        with ExitStack() as stack:
            for ping in seen.pings.values():
                stack.enter_context(ping)
            time.sleep(BEFORE)
            yield seen
            for client in self.clients.values():
                self._await(client, seen)
            time.sleep(AFTER)
        for client in self.clients.values():
            seen.handshakes[client.name].append(client.handshake)
