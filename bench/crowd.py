# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Thousands of simulated clients at one node of a lab's cluster, and what becomes of them when it dies."""

from __future__ import annotations

import base64
import math
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_interface

from netns import inside
from simulated import Crowd, Keys
from testinfra.host import Host
from traffic.cluster import Cluster
from traffic.hosts import until

PORT = 51820
SOURCES = range(100, 200)  # host parts of the simulated clients' addresses in the public network
RATE = 250.0  # clients that connect in a second
CONNECT_SECONDS = 300
QUIET_SECONDS = 20  # without another adoption: it is over
STEADY_SECONDS = 30  # in which nothing happens

SETTLE_SECONDS = 10  # until every agent's word of the last client is with the balancer


def variables(count: int) -> dict[str, object]:
    """What the inventory has to say of them; those at one node shall stay there."""
    clients = [
        {
            "name": f"sim-{number:05}",
            "public_key": base64.b64encode(Keys.numbered(number).public).decode(),
            "psk": False,
        }
        for number in range(count)
    ]
    return {"vpn_clients": clients, "vpn_rebalance": 0}


class Daemon:
    """A unit's processes on a host: what they have used so far."""

    def __init__(self, host: Host, unit: str) -> None:
        self._host = host
        self._pid = host.check_output("systemctl show --property MainPID --value %s", unit)

    def cpu(self) -> float:
        """Seconds of CPU time, with those of the commands that it has run."""
        fields = self._host.check_output("cat /proc/%s/stat", self._pid).rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> float:
        """MiB."""
        status = self._host.check_output("cat /proc/%s/status", self._pid)
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Watch:
    """The CPU time of daemons between two moments."""

    def __init__(self, daemons: Mapping[str, Daemon]) -> None:
        self._daemons = daemons
        self.begin()

    def begin(self) -> None:
        self._since, self._used = time.monotonic(), {name: daemon.cpu() for name, daemon in self._daemons.items()}

    def percent(self) -> dict[str, float]:
        """Of one core, since it began."""
        took = time.monotonic() - self._since
        return {
            name: round((daemon.cpu() - self._used[name]) / took * 100, 1) for name, daemon in self._daemons.items()
        }


class Stage:
    """A network namespace at the lab's public network, with addresses for a crowd."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        lab = cluster.lab
        self._fabric = f"wirefleet-{lab.name}"
        self.namespace = f"{self._fabric}-crowd"
        self.server = lab.address("lb1", "public", 4)
        network = ip_interface(f"{self.server}/24").network
        self.sources = [str(network[part]) for part in SOURCES]

    def __enter__(self) -> Stage:
        with suppress(subprocess.CalledProcessError):  # of an interrupted run
            self._ip("netns", "delete", self.namespace)
        self._ip("netns", "add", self.namespace)
        lines = [f"address add {source}/24 dev public" for source in self.sources]
        peer = ("type", "veth", "peer", "name", "crowd", "netns", self._fabric)
        self._ip("-n", self.namespace, "link", "add", "public", *peer)
        self._ip("-n", self._fabric, "link", "set", "crowd", "up", "master", "public")
        self._ip("-n", self.namespace, "-batch", "-", stdin="\n".join([*lines, "link set public up"]))
        return self

    def __exit__(self, *_error: object) -> None:
        self._ip("netns", "delete", self.namespace)

    @staticmethod
    def _ip(*arguments: str, stdin: str | None = None) -> None:
        subprocess.run(["ip", *arguments], input=stdin, text=True, check=True, capture_output=True)

    @contextmanager
    def crowd(self, count: int, node: str) -> Iterator[Crowd]:
        """Connected clients, all of them at one node."""
        service = base64.b64decode(self._cluster.nodes[node].check_output("wg show wg0 public-key"))
        with inside(self.namespace):
            crowd = Crowd(count, service, self.sources, (self.server, PORT))
        with ExitStack() as stack:
            stack.callback(crowd.close)
            with ExitStack() as drained:
                for other in self._cluster.nodes.keys() - {node}:
                    drained.enter_context(self._cluster.drained_in_haproxy(other))
                crowd.start(RATE)
                until(f"{count} clients are connected", CONNECT_SECONDS, lambda: crowd.connected == count)
            yield crowd


def node_killed(cluster: Cluster, node: str, count: int) -> dict[str, object]:
    """Kill the node of ``count`` clients, and bring it back after."""
    with Stage(cluster) as stage, stage.crowd(count, node) as crowd:
        time.sleep(SETTLE_SECONDS)
        survivors = {name: host for name, host in cluster.nodes.items() if name != node}
        daemons = {name: Daemon(host, "wirefleet-node") for name, host in survivors.items()}
        daemons["steer"] = Daemon(cluster.balancer, "wirefleet-steer")
        watch = Watch(daemons)
        time.sleep(STEADY_SECONDS)
        before = watch.percent()
        watch.begin()
        begin = time.monotonic()
        cluster.lab.befall("kill", node)
        try:
            waited = adopted(crowd, begin)
            during = watch.percent()
            memory = {name: round(daemon.rss(), 1) for name, daemon in daemons.items()}
        finally:
            cluster.lab.befall("start", node)
    return {
        "n": count,
        "sent": count,
        "lost": count - len(waited),
        "median_s": round(statistics.median(waited), 2),
        "p99_s": round(waited[math.ceil(len(waited) * 0.99) - 1], 2),
        "max_s": round(waited[-1], 2),
        "cpu_percent_before": before,
        "cpu_percent_during": during,
        "rss_mib": memory,
    }


def adopted(crowd: Crowd, begin: float) -> list[float]:
    """Wait until nobody has been adopted for a while; return how many seconds each had to wait, in order."""
    quiet_since, count = time.monotonic(), -1
    while count < len(crowd.clients) and time.monotonic() < quiet_since + QUIET_SECONDS:
        waited = sorted(at - begin for client in crowd.clients if (at := client.answered) is not None and at > begin)
        if len(waited) > count:
            quiet_since, count = time.monotonic(), len(waited)
        time.sleep(0.5)
    return waited
