# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster under test: what its hosts say of it, and what an operator does to it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from testinfra.host import Host

from .hosts import Lab, until

ADMIN_SOCKET = "/run/haproxy/admin.sock"
HANDSHAKE_SECONDS = 10
PLACING_ATTEMPTS = 40
# The promise is 2 s in the median. A test takes one sample, on a machine that has other things to do; it is still far
# from the 15 s after which a stock client would come by itself.
FAILOVER_SECONDS = 6
DRAIN_SECONDS = 6
# The wheel's slots are dealt by hash: three standard deviations of a third of them.
SLOTS = 1024
SLOTS_TOLERANCE = 45

# For whoever has to find out why a test failed.
LEARNED = "for map in sessions affinity; do nft list map ip wirefleet $map; nft list map ip6 wirefleet $map; done"
ROUTES = "for ip in -4 -6; do ip $ip rule; ip $ip route show table all type unicast; done"
TUNNEL = "date; ip neighbour; nstat -as | grep -E 'Errors|Discards|Drop|Overflow'; wg show"
JOURNAL = "journalctl --no-pager --output=short-iso-precise"

# curl's exit codes when nobody is there; whoever speaks another protocol gets another one.
NO_CONNECTION, NO_TIME = 7, 28

_ports = itertools.count(20000 + int(time.time()) % 20000)


def new_port() -> int:
    """A port that no client of this run came from: whoever comes from it is a new client to the balancer."""
    return next(_ports)


class Client:
    """A managed client, whose software knows nothing of clusters."""

    def __init__(self, name: str, host: Host) -> None:
        self.name, self.host = name, host

    @property
    def key(self) -> str:
        return self.host.check_output("wg show wg0 public-key")

    @property
    def service_key(self) -> str:
        return self.host.check_output("wg show wg0 peers")

    @property
    def port(self) -> int:
        return int(self.host.check_output("wg show wg0 listen-port"))

    @property
    def endpoint(self) -> str:
        """Where it sends to, as ADDRESS:PORT. It moves when a packet of the cluster comes from elsewhere."""
        return self.host.check_output("wg show wg0 endpoints").split()[1]

    @property
    def handshake(self) -> int:
        """When the latest one was, in seconds since the epoch; 0 for never."""
        return int(self.host.check_output("wg show wg0 latest-handshakes").split()[1])

    def reconnect(self, port: int | None = None, seconds: float = HANDSHAKE_SECONDS) -> float:
        """Forget the session and make a new one, as a client that is started; return how many seconds that took."""
        # Removed and put back as it was. Its keepalive makes it speak at once.
        script = (
            "umask 077; wg showconf wg0 | sed 's/^ListenPort.*/ListenPort = '%s'/' > /run/wg0.setconf"
            " && wg set wg0 peer %s remove && wg setconf wg0 /run/wg0.setconf; code=$?; rm /run/wg0.setconf; exit $code"
        )
        port, service_key = port or self.port, self.service_key
        begin = time.monotonic()
        self.host.check_output(script, str(port), service_key)
        until(f"{self.name} has a handshake", seconds, lambda: self.handshake > 0, pause=0.05)
        return time.monotonic() - begin

    def answered(self, target: str) -> bool:
        """Whether one ping comes back within a second."""
        return self.host.run("ping -c 1 -W 1 %s", target).succeeded

    def get(self, url: str) -> str:
        """Fetch a page; fails the test when that fails."""
        return fetch(self.host, url)


class Cluster:
    """Nodes, balancer and clients of a lab, by their names in the inventory."""

    def __init__(
        self, lab: Lab, nodes: Iterable[str], clients: Iterable[str], balancer: str = "lb1", interface: str = "wg0"
    ) -> None:
        self.lab = lab
        self.nodes = {name: lab.host(name) for name in nodes}
        self.clients = {name: Client(name, lab.host(name)) for name in clients}
        self.balancer = lab.host(balancer)
        self.interface = interface  # of the nodes, for clients

    # ---- What it says of itself

    def states(self) -> dict[str, dict[str, Any]]:
        """`wirefleet-steer status`, by node: its state in HAProxy and in the kernel, slots, sessions."""
        # 1 says that no node takes clients; the table is there all the same.
        answer = self.balancer.run_expect([0, 1], "wirefleet-steer status --json")
        return {row["node"]: row for row in json.loads(answer.stdout)["nodes"]}

    def wait(self, node: str, goal: str, seconds: float = 60) -> float:
        """Until HAProxy and the kernel agree that a node is "up" or "drained"; return how many seconds that took."""
        begin = time.monotonic()
        self.balancer.check_output("wirefleet-steer wait %s %s --timeout %s", node, goal, str(seconds))
        return time.monotonic() - begin

    def dropped(self) -> dict[str, int]:
        """Packets that the steering tables dropped, by reason; other counters count what passes."""
        counted: dict[str, int] = {}
        for family in ("ip", "ip6"):
            listed = json.loads(self.balancer.check_output("nft --json list counters table %s wirefleet", family))
            for counter in (item["counter"] for item in listed["nftables"] if "counter" in item):
                counted[counter["name"]] = counted.get(counter["name"], 0) + counter["packets"]
        return {name: packets for name, packets in counted.items() if name not in ("begun", "answered", "copies")}

    def client_endpoint(self, endpoint: str) -> str:
        """Where a client is whom nodes know at an endpoint. They see clients' own addresses."""
        return endpoint

    def owner(self, client: Client, among: Iterable[str] | None = None) -> str:
        """The node with the client's session: of those that know its present port, the one with the last handshake.

        Over TCP, its port is one of the node's own.
        """
        key, port = client.key, client.port
        handshakes: dict[str, int] = {}
        for name in among or self.nodes:
            endpoints, latest = (
                peers(self.nodes[name], what, self.interface) for what in ("endpoints", "latest-handshakes")
            )
            if self.client_endpoint(endpoints[key]).endswith(f":{port}") or endpoints[key].startswith("127.0.0.1:"):
                handshakes[name] = int(latest[key])
        assert handshakes, f"no node knows {client.name} on its port {port}"
        return max(handshakes, key=lambda name: handshakes[name])

    def is_owner(self, node: str, client: Client) -> bool:
        return self.owner(client) == node

    # ---- What is done to it

    def place(self, client: Client, node: str) -> None:
        """Let a client connect from other ports until its session is at the node."""
        for _attempt in range(PLACING_ATTEMPTS):
            client.reconnect(new_port())
            if self.owner(client) == node:
                return
            time.sleep(1.1)  # handshakes are dated in whole seconds: of two in one nobody knows which is the later
        raise AssertionError(f"{client.name} never came to {node}:\n{self.explain()}")

    def admin(self, command: str) -> str:
        """HAProxy's own runtime API, as an operator uses it."""
        return self.balancer.check_output("echo %s | nc -U %s", command, ADMIN_SOCKET)

    @contextmanager
    def drained_in_haproxy(self, node: str) -> Iterator[None]:
        self.admin(f"set server vpn_back/{node} state drain")
        try:
            self.wait(node, "drained")
            yield
        finally:
            self.admin(f"set server vpn_back/{node} state ready")
            self.wait(node, "up")

    @contextmanager
    def drained_at_node(self, node: str) -> Iterator[None]:
        self.nodes[node].check_output("wirefleet-node drain --reason 'a test'")
        try:
            self.wait(node, "drained")
            yield
        finally:
            self.nodes[node].check_output("wirefleet-node undrain")
            self.wait(node, "up")

    # ---- When a test fails

    def explain(self) -> str:
        """Whatever shows why: states, reasons, last events. Never a private key."""
        parts = []
        nodes = self.nodes.values()
        for host, command in [
            (self.balancer, "wirefleet-steer status"),
            *((self.balancer, f"wirefleet-steer explain {node}") for node in self.nodes),
            (self.balancer, f"nft list counters; {LEARNED}; {ROUTES}; ip -brief address; ip neighbour"),
            (self.balancer, f"{JOURNAL} -n 40 -u wirefleet-steer -u wirefleet-keepalived -u haproxy"),
            *((node, f"wirefleet-node status; {TUNNEL} wg0; {JOURNAL} -n 20 -u wirefleet-node") for node in nodes),
            *((client.host, f"{TUNNEL} all; ip -brief address") for client in self.clients.values()),
        ]:
            try:
                result = host.run(command)
                said = result.stdout + result.stderr
            except (RuntimeError, OSError) as error:  # a killed host does not answer
                said = str(error)
            parts.append(f"$ {host.backend.hostname}: {command}\n{said}")
        return "\n".join(parts)


def peers(host: Host, what: str, interface: str = "wg0") -> dict[str, str]:
    """A column of `wg show` by public key: endpoints, latest-handshakes, allowed-ips. Never keys."""
    lines = host.check_output("wg show %s %s", interface, what).splitlines()
    return {key: value for key, _tab, value in (line.partition("\t") for line in lines)}


def inner_address(host: Host) -> str:
    """A node's or client's own IPv4 address inside the tunnel."""
    return host.check_output("ip -4 -brief address show wg0").split()[2].split("/")[0]


def mesh_address(host: Host) -> str:
    """A node's or balancer's own address in the mesh."""
    return host.check_output("ip -6 -brief address show wf0").split()[2].split("/")[0]


def fetch(host: Host, url: str) -> str:
    """Fetch a page; fails the test when that fails."""
    return host.check_output("curl --silent --show-error --fail --globoff --max-time 5 %s", url)


def reaches(host: Host, url: str) -> bool:
    """Whether anything answers there, whatever it says."""
    return host.run("curl --silent --globoff --max-time 2 --output /dev/null %s", url).rc not in (
        NO_CONNECTION,
        NO_TIME,
    )


def status(host: Host, url: str) -> int:
    """The HTTP status of a page; 0 when nothing answers."""
    return int(
        host.run("curl --silent --globoff --max-time 5 --output /dev/null --write-out %%{http_code} %s", url).stdout
    )
