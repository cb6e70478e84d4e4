#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client notices of a failure: the lab `bench`, a stock client that pings ten times a second, and faults.

Clients are unmodified, one over IPv4, one over IPv6, in turn. A repetition's outage is its longest time between two
answers. The last line is JSON: event -> {"n", "median_s", "max_s", "lost", "sent"}.

In ``tcp_drain`` and ``tcp_node_killed`` the cluster is in routed mode, and the client has a download running as well.
The times are those of the download's longest stall, the greatest one is also "tcp_stall_max_s"; "tcp_broken" counts
downloads that ended early or with other bytes than the server's.

In ``balancer_killed`` and ``balancer_takeover`` the active balancer of the lab `pair` loses its cables, or hands over:
"new_handshakes" counts the clients whose session that has ended. In ``balancer_added`` a third one joins, in
``balancer_replaced`` a fresh host takes the place of the other one, and in ``balancers_updated`` both restart all they
run for another configuration: three times at most, since each takes a run of the playbook. Two clients ping meanwhile,
fifty times a second.

In the ``tcp_path_…`` events the clients come over TCP (``vpn_tcp``), through HAProxy and a shim; in the ``snat_…`` ones
nodes get clients' packets from an address of the balancer (``vpn_forwarding: snat``).

In the events ``node_killed_1000`` and ``node_killed_10000`` that many simulated clients (bench/simulated.py), of which
every second one is idle, are at one node when it dies. Measured is, for each, the time from its death until it answers
another node's handshake: {"n", "median_s", "p99_s", "max_s", "sent": clients, "lost": those that nobody asked}, and of
the daemons that live "cpu_percent_before" and "cpu_percent_during" that (of a core), and "rss_mib".
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

import crowd  # noqa: E402
from balancers import Balancers  # noqa: E402
from traffic.cluster import Client, Cluster, new_port  # noqa: E402
from traffic.download import Download  # noqa: E402
from traffic.hosts import Lab, until  # noqa: E402
from traffic.pair import Watched  # noqa: E402
from traffic.ping import Ping  # noqa: E402

LAB = "bench"
SIMULATED = {"node_killed_1000": 1_000, "node_killed_10000": 10_000}
ROUTED = ("tcp_drain", "tcp_node_killed")
# Prefixes of events that happen to a cluster that is set up otherwise.
VARIANTS: dict[str, Mapping[str, object]] = {
    "tcp_path_": {"vpn_tcp": True, "wg_client_transport": "tcp"},
    "snat_": {"vpn_forwarding": "snat", "vpn_return_path": "nat"},
}
PLAYBOOK_RUNS = ("balancer_added", "balancer_replaced", "balancers_updated")
BALANCERS = (
    "balancer_killed",
    "balancer_takeover",
    *PLAYBOOK_RUNS,
    "tcp_path_balancer_killed",
    "snat_balancer_killed",
    "snat_balancer_takeover",
)
MOST_RUNS = 3
CROWDED = "n1"  # the node that has them all
BEFORE, AFTER = 2.0, 5.0  # seconds of pings around what happens
DOWNLOAD_SECONDS = 10.0  # longer than what happens, and what comes before it
FAILOVER_SECONDS = 40  # how long a stock client may take
FAILBACK_SECONDS = 30  # a returned node's own attempts to get its clients back come within 16 s
FILTER = """\
table inet bench {
  chain input { type filter hook input priority -300; udp dport 51820 drop; }
}
"""
ROAMING = """\
table {family} roaming {{
  chain output {{
    type filter hook postrouting priority 300;
    {family} saddr {home} udp dport 51820 {family} saddr set {away}
  }}
  chain input {{
    type filter hook prerouting priority -300;
    {family} daddr {away} udp sport 51820 {family} daddr set {home}
  }}
}}
"""
ROW = "{:24} {n:>3} {median_s:>9} {max_s:>9} {lost:>6} {sent:>6}"


@dataclass(frozen=True)
class Silence:
    """What a client that sends nothing went through; like a Ping, which this is not."""

    outage: float
    lost: int = 0
    sent: int = 0


@dataclass(frozen=True)
class Stream:
    """What a download went through, and the pings beside it."""

    download: Download
    ping: Ping

    @property
    def outage(self) -> float:
        return self.download.stall

    @property
    def lost(self) -> int:
        return self.ping.lost

    @property
    def sent(self) -> int:
        return self.ping.sent


Seen: TypeAlias = Ping | Silence | Stream | Watched


class Bench:
    """The cluster, and one client at a time."""

    def __init__(self) -> None:
        self.lab = Lab(LAB)
        self.cluster = Cluster(self.lab, nodes=("n1", "n2", "n3"), clients=("c1", "c2"))
        self.targets = {"c1": self.lab.address("web", "private", 4), "c2": self.lab.address("web", "private", 6)}

    def ping(self, client: Client) -> Ping:
        return Ping(client.host, self.targets[client.name], interval=0.1)

    def ready(self, client: Client) -> str:
        """Wait for a cluster in order and a client that is served; return its node."""
        for node in self.cluster.nodes:
            self.cluster.wait(node, "up", 120)
        until(f"{client.name} is served", FAILOVER_SECONDS, lambda: client.answered(self.targets[client.name]))
        return self.cluster.owner(client)

    @contextmanager
    def watched(self, client: Client) -> Iterator[Ping]:
        """Ping while something happens, and until the client is served again."""
        with self.ping(client) as ping:
            time.sleep(BEFORE)
            yield ping
            until(f"{client.name} is served", FAILOVER_SECONDS, lambda: client.answered(self.targets[client.name]))
            time.sleep(AFTER)

    @contextmanager
    def downloading(self, client: Client) -> Iterator[Stream]:
        """The same with a download beside the pings."""
        download = Download(client.host, self.targets[client.name], DOWNLOAD_SECONDS)
        with download, self.watched(client) as ping:
            yield Stream(download, ping)

    @contextmanager
    def revived(self, node: str) -> Iterator[None]:
        """Whatever happens, the node is back after it."""
        try:
            yield
        finally:
            self.lab.befall("start", node)

    # ---- What happens. Each returns what the client noticed.

    def node_killed(self, client: Client) -> Ping:
        node = self.ready(client)
        with self.revived(node), self.watched(client) as ping:
            self.lab.befall("kill", node)
        return ping

    def idle_node_killed(self, client: Client) -> Silence:
        """Nobody speaks: how long until a node that lives could reach the client?"""
        node, before = self.ready(client), client.handshake
        time.sleep(BEFORE)
        begin = time.monotonic()
        with self.revived(node):
            self.lab.befall("kill", node)
            until(f"{client.name} has a new session", FAILOVER_SECONDS, lambda: client.handshake > before, pause=0.05)
            took = time.monotonic() - begin
        return Silence(took)

    def wireguard_killed(self, client: Client) -> Ping:
        node = self.ready(client)
        with self.watched(client) as ping:
            self.cluster.nodes[node].check_output("systemctl stop wg-quick@wg0")
        self.cluster.nodes[node].check_output("systemctl start wg-quick@wg0")
        return ping

    def udp_filtered(self, client: Client) -> Ping:
        node = self.ready(client)
        with self.watched(client) as ping:
            self.cluster.nodes[node].check_output("echo %s | nft --file -", FILTER)
        self.cluster.nodes[node].check_output("nft delete table inet bench")
        return ping

    def agent_killed(self, client: Client) -> Ping:
        node = self.ready(client)
        with self.watched(client) as ping:
            self.cluster.nodes[node].check_output("systemctl kill --signal=KILL wirefleet-node")
        return ping

    def empty(self, node: str, client: Client) -> None:
        self.cluster.nodes[node].check_output("wirefleet-node drain --reason bench")
        until(f"{client.name} has left {node}", FAILOVER_SECONDS, lambda: self.cluster.owner(client) != node)

    def drain(self, client: Client) -> Ping:
        node = self.ready(client)
        with self.watched(client) as ping:
            self.empty(node, client)
        self.cluster.nodes[node].check_output("wirefleet-node undrain")
        return ping

    def undrain(self, client: Client) -> Ping:
        node = self.ready(client)
        self.empty(node, client)
        with self.watched(client) as ping:
            self.cluster.nodes[node].check_output("wirefleet-node undrain")
            self.cluster.wait(node, "up")
        return ping

    def weight(self, client: Client) -> Ping:
        node = self.ready(client)
        with self.watched(client) as ping:
            self.cluster.admin(f"set server vpn_back/{node} weight 10%")
        self.cluster.admin(f"set server vpn_back/{node} weight 100%")
        return ping

    def failback(self, client: Client) -> Ping:
        """A node returns whose client has gone elsewhere."""
        node = self.ready(client)
        self.lab.befall("cut", node)
        until(f"{client.name} has left {node}", FAILOVER_SECONDS, lambda: client.answered(self.targets[client.name]))
        with self.watched(client) as ping:
            self.lab.befall("mend", node)
            self.cluster.wait(node, "up")
            time.sleep(FAILBACK_SECONDS)
        return ping

    def roam_port(self, client: Client) -> Ping:
        self.ready(client)
        with self.watched(client) as ping:
            client.host.check_output("wg set wg0 listen-port %s", str(new_port()))
        return ping

    def roam_address(self, client: Client) -> Ping:
        self.ready(client)
        version = 6 if client.endpoint.startswith("[") else 4
        home = self.lab.address(client.name, "public", version)
        with ExitStack() as until_over, self.watched(client) as ping:
            until_over.enter_context(roaming(f"wirefleet-{LAB}-{client.name}", home, f"{home[:-2]}1{home[-2:]}"))
        return ping

    def steer_restarted(self, client: Client) -> Ping:
        """The steering daemon dies with a node."""
        return self.killed_with_node(client, "wirefleet-steer")

    def haproxy_killed(self, client: Client) -> Ping:
        """HAProxy dies with a node."""
        return self.killed_with_node(client, "haproxy")

    def killed_with_node(self, client: Client, unit: str) -> Ping:
        node = self.ready(client)
        with self.revived(node), self.watched(client) as ping:
            self.lab.befall("kill", node)
            self.cluster.balancer.check_output("systemctl kill --signal=KILL %s", unit)
        return ping

    def tcp_drain(self, client: Client) -> Stream:
        node = self.ready(client)
        with self.downloading(client) as stream:
            self.empty(node, client)
        self.cluster.nodes[node].check_output("wirefleet-node undrain")
        return stream

    def tcp_node_killed(self, client: Client) -> Stream:
        node = self.ready(client)
        with self.revived(node), self.downloading(client) as stream:
            self.lab.befall("kill", node)
        return stream

    def node_killed_stock(self, client: Client) -> Ping:
        """The same without adoption, which is what WireGuard's own timers can do."""
        with self.without_adoption():
            return self.node_killed(client)

    @contextmanager
    def without_adoption(self) -> Iterator[None]:
        file = "/etc/wirefleet/default/steer.json"
        edit = "import json, sys; c = json.load(open(sys.argv[1])); c['adoption'] = None; print(json.dumps(c))"
        balancer = self.cluster.balancer
        balancer.check_output("cp %s %s.bench && python3 -c %s %s.bench > %s", file, file, edit, file, file)
        try:
            balancer.check_output("systemctl restart wirefleet-steer")
            yield
        finally:
            balancer.check_output("mv %s.bench %s && systemctl restart wirefleet-steer", file, file)


EVENTS = (
    "node_killed",
    "idle_node_killed",
    "wireguard_killed",
    "udp_filtered",
    "agent_killed",
    "drain",
    "undrain",
    "weight",
    "failback",
    "roam_address",
    "roam_port",
    "steer_restarted",
    "haproxy_killed",
    "node_killed_stock",
    # Last, because the cluster is set up otherwise for them.
    *ROUTED,
    "tcp_path_node_killed",
    "snat_node_killed",
    *SIMULATED,
    *BALANCERS,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--repetitions", "-n", type=int, default=10)
    parser.add_argument("--no-setup", action="store_true", help="the lab is as the last run of this left it")
    parser.add_argument("events", nargs="*", metavar="EVENT", help=f"of {', '.join(EVENTS)}; all without any")
    options = parser.parse_args()
    if unknown := set(options.events) - set(EVENTS):
        parser.error(f"no such event: {', '.join(sorted(unknown))}")
    bench, balancers = Bench(), Balancers()
    figures: dict[str, Mapping[str, object]] = {}
    standing = {bench.lab.name, balancers.lab.name} if options.no_setup else set()
    settings: dict[str, Mapping[str, object]] = {}
    print(ROW.format("event", n="n", median_s="median/s", max_s="max/s", lost="lost", sent="sent"), flush=True)
    for event in options.events or EVENTS:
        lab = balancers.lab.name if event in BALANCERS else bench.lab.name
        if lab not in standing:
            set_up(lab)
            standing.add(lab)
        if (needed := setting_of(event)) != settings.get(lab, {}):
            converge(lab, needed)
            settings[lab] = needed
        if event in SIMULATED:
            figures[event] = crowd.node_killed(bench.cluster, CROWDED, SIMULATED[event])
        elif event in BALANCERS:
            figures[event] = measure_balancers(balancers, event, options.repetitions)
        else:
            figures[event] = measure(bench, getattr(bench, plain(event)), options.repetitions)
        print(ROW.format(event, **figures[event]), flush=True)
    print(json.dumps(figures))
    return 0


def setting_of(event: str) -> Mapping[str, object]:
    """The variables of the cluster for an event."""
    if event in SIMULATED:
        return crowd.variables(max(SIMULATED.values()))
    if event in ROUTED:
        return {"vpn_return_path": "routed"}
    return next((variables for prefix, variables in VARIANTS.items() if event.startswith(prefix)), {})


def plain(event: str) -> str:
    """What happens, whatever the cluster is like."""
    return next((event.removeprefix(prefix) for prefix in VARIANTS if event.startswith(prefix)), event)


def measure(bench: Bench, happen: Callable[[Client], Seen], repetitions: int) -> Mapping[str, object]:
    clients = list(bench.cluster.clients.values())
    return summary([happen(clients[number % len(clients)]) for number in range(repetitions)])


def measure_balancers(balancers: Balancers, event: str, repetitions: int) -> Mapping[str, object]:
    happen: Callable[[], Watched] = getattr(balancers, plain(event))
    if event in PLAYBOOK_RUNS:
        return summary([happen() for _ in range(min(repetitions, MOST_RUNS))])
    seen = [happen() for _ in range(repetitions)]
    return {**summary(seen), "new_handshakes": sum(each.new_handshakes for each in seen)}


def summary(seen: Sequence[Seen]) -> dict[str, object]:
    figures: dict[str, object] = {
        "n": len(seen),
        "median_s": round(statistics.median(each.outage for each in seen), 2),
        "max_s": round(max(each.outage for each in seen), 2),
        "lost": sum(each.lost for each in seen),
        "sent": sum(each.sent for each in seen),
    }
    if downloads := [each.download for each in seen if isinstance(each, Stream)]:
        figures["tcp_stall_max_s"] = figures["max_s"]
        figures["tcp_broken"] = sum(not download.complete for download in downloads)
    return figures


@contextmanager
def roaming(container: str, home: str, away: str) -> Iterator[None]:
    """Let a client's packets come from another address, as when the router before it gets a new one.

    Changing the host's own address would measure wireguard-go, which goes on sending from the one that is gone until
    its next handshake.
    """
    family, length = ("ip6", "64") if ":" in home else ("ip", "24")
    rules = ROAMING.format(family=family, home=home, away=away)
    pid = output("podman", "container", "inspect", "--format", "{{.State.Pid}}", container).strip()
    there = ("nsenter", "--target", pid, "--net")
    output(*there, "ip", "address", "add", f"{away}/{length}", "dev", "public", *(["nodad"] if family == "ip6" else []))
    try:
        output(*there, "nft", "--file", "-", stdin=rules)
        yield
    finally:
        output(*there, "nft", "--file", "-", stdin=f"add table {family} roaming; delete table {family} roaming")
        output(*there, "ip", "address", "delete", f"{away}/{length}", "dev", "public")


def output(*command: str, stdin: str | None = None) -> str:
    return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout


def set_up(lab: str) -> None:
    """Start the lab's hosts and make them a cluster."""
    subprocess.run([sys.executable, "lab/lab.py", "up", lab], cwd=REPOSITORY, check=True)
    converge(lab, {})


def converge(lab: str, variables: Mapping[str, object]) -> None:
    """Run the playbook, and tell how long that took. Simulated clients of an earlier run may go."""
    begin = time.monotonic()
    playbook = Path(sys.executable).parent / "ansible-playbook"
    command = [str(playbook), "-i", f"lab/inventories/{lab}", "playbooks/site.yml", "-e", "vpn_bootstrap=true"]
    command += ["-e", f"vpn_max_removals={max(SIMULATED.values())}"]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as extra:
        json.dump(variables, extra)
        extra.flush()
        with (REPOSITORY / ".lab" / lab / "site.log").open("w") as log:
            command += ["-e", f"@{extra.name}"]
            subprocess.run(command, cwd=REPOSITORY, check=True, stdout=log, stderr=subprocess.STDOUT)
    print(f"the playbook took {time.monotonic() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
