#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a drain of a busy node takes, and what its clients lose: playbook `drain` in the lab `bench`.

Each client is a WireGuard interface of its own on the host c1, which pings the private web server through it ten times
a second. All are brought to one node, which is drained under them. The last line is JSON:
"drain_50" -> {"n", "median_s", "max_s", "lost", "sent"}, where the seconds are those of the whole playbook run.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from traffic.cluster import Cluster  # noqa: E402
from traffic.hosts import Lab, until  # noqa: E402

NODE, OTHERS = "n1", ("n2", "n3")
INTERVAL, PINGS = 0.1, 250  # seconds, and how many each client sends: the drain takes place meanwhile
BEFORE = 3.0  # seconds of pings before the drain
PATIENCE = 2  # seconds that the last answer may take
CONNECT_SECONDS = 60
SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")

# Private keys stay on the client's host, which makes them.
MAKE_KEYS = """
umask 077; mkdir -p /run/drain; cd /run/drain
for n in $(seq %s); do [ -e $n.key ] || wg genkey > $n.key; wg pubkey < $n.key; done
"""
# $1 names the client, $2 has its addresses. Pings are bound to their interface; the metric keeps the routes apart.
CONNECT = """
set -e
wireguard-go drain$1
wg set drain$1 private-key /run/drain/$1.key peer %s endpoint %s allowed-ips 0.0.0.0/0 persistent-keepalive 25
for address in $2; do ip address add $address dev drain$1; done
ip link set drain$1 mtu 1420 up
ip route add %s dev drain$1 metric $((1000 + $1))
"""
DISCONNECT = "for n in $(seq %s); do ip link delete drain$n; done; rm -r /run/drain"
PING = "for n in $(seq %s); do ping -q -n -I drain$n -i %s -c %s -W %s %s & done; wait"


class Bench:
    """The lab with some more clients on c1."""

    def __init__(self, lab: str, count: int) -> None:
        self.lab = Lab(lab)
        self.count = count
        self.cluster = Cluster(self.lab, nodes=(NODE, *OTHERS), clients=("c1",))
        self.host = self.lab.host("c1")
        self.web = self.lab.address("web", "private", 4)
        keys = self.host.check_output(MAKE_KEYS, str(count)).split()
        self.clients = [{"name": f"drain-{n}", "public_key": key, "psk": False} for n, key in enumerate(keys, 1)]

    @contextmanager
    def connected(self) -> Iterator[None]:
        """The clients are members of the cluster, and connected to it; afterwards they are not."""
        self.site(vpn_clients=self.clients)
        try:
            self._connect()
            yield
        finally:
            self.host.run(DISCONNECT, str(self.count))
            self.site(vpn_clients=[{"name": client["name"], "state": "absent"} for client in self.clients])

    def _connect(self) -> None:
        ledger = Path(self.lab.directory, "state", "ledger.jsonl").read_text().splitlines()
        addresses = {entry["name"]: entry["addresses"] for entry in map(json.loads, ledger) if "addresses" in entry}
        network = f"{self.web}/32"
        endpoint = f"{self.lab.address('lb1', 'public', 4)}:51820"
        script = CONNECT % (self.cluster.clients["c1"].service_key, endpoint, network)
        for number, client in enumerate(self.clients, 1):
            own = " ".join(address.split("/")[0] + "/32" for address in addresses[client["name"]] if ":" not in address)
            self.host.check_output("sh -c %s sh %s %s", script, str(number), own)

    def site(self, **variables: Any) -> None:
        log = self.lab.directory / "site.log"
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file, log.open("w") as output:
            json.dump(variables, file)
            file.flush()
            command = self._playbook("site", "--extra-vars", f"@{file.name}")
            subprocess.run(command, cwd=REPOSITORY, check=True, stdout=output, stderr=subprocess.STDOUT)

    def _playbook(self, name: str, *options: str) -> list[str]:
        program = Path(sys.executable).parent / "ansible-playbook"
        return [str(program), "-i", str(self.lab.inventory), f"playbooks/{name}.yml", *options]

    def gather(self) -> None:
        """Bring all clients to one node."""
        for node in OTHERS:
            self.cluster.nodes[node].check_output("wirefleet-node drain --reason bench")
        until(f"all clients are at {NODE}", CONNECT_SECONDS, lambda: self.clients_of(NODE) >= self.count)
        for node in OTHERS:
            self.cluster.nodes[node].check_output("wirefleet-node undrain")
            self.cluster.wait(node, "up")

    def clients_of(self, node: str) -> int:
        return int(self.cluster.states()[node]["clients"] or 0)

    def drain(self) -> tuple[float, int, int]:
        """Drain the node while all clients ping; return the playbook's seconds, the pings lost, and those sent."""
        self.gather()
        log = "/run/drain/pings"
        ping = PING % (self.count, INTERVAL, PINGS, PATIENCE, self.web)
        unit = f"drain-{time.time_ns()}"
        self.host.check_output(
            "systemd-run --quiet --unit=%s --property=StandardOutput=file:%s sh -c %s", unit, log, ping
        )
        time.sleep(BEFORE)
        begin = time.monotonic()
        subprocess.run(
            self._playbook("drain", "--extra-vars", f"vpn_target={NODE}"),
            cwd=REPOSITORY,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        took = time.monotonic() - begin
        running = f"systemctl is-active --quiet {unit}"
        if self.host.run(running).failed:
            raise RuntimeError("the pings ended before the drain")
        until("the pings have ended", PINGS * INTERVAL * 2, lambda: self.host.run(running).failed)
        found = SUMMARY.findall(self.host.check_output("cat %s", log))
        if len(found) != self.count:
            raise RuntimeError(f"{len(found)} of {self.count} clients have pinged")
        self.cluster.nodes[NODE].check_output("wirefleet-node undrain")
        self.cluster.wait(NODE, "up")
        sent = sum(int(out) for out, _ in found)
        return took, sent - sum(int(back) for _, back in found), sent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--repetitions", "-n", type=int, default=3)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--lab", default="bench", help="one that has n1 to n3, c1 and web (default: %(default)s)")
    parser.add_argument("--no-setup", action="store_true", help="the lab is up and the playbook has run")
    options = parser.parse_args()
    if not options.no_setup:
        set_up(options.lab)
    bench = Bench(options.lab, options.clients)
    drains = []
    with bench.connected():
        for number in range(options.repetitions):
            took, lost, sent = bench.drain()
            drains.append((took, lost, sent))
            print(f"drain {number + 1}: {took:.1f} s, {lost} of {sent} pings lost", flush=True)
    seconds = [took for took, _, _ in drains]
    figures = {
        "n": len(drains),
        "median_s": round(statistics.median(seconds), 2),
        "max_s": round(max(seconds), 2),
        "lost": sum(lost for _, lost, _ in drains),
        "sent": sum(sent for _, _, sent in drains),
    }
    print(json.dumps({f"drain_{options.clients}": figures}))
    return 0


def set_up(lab: str) -> None:
    """Start the lab's hosts and make them a cluster."""
    subprocess.run([sys.executable, "lab/lab.py", "up", lab], cwd=REPOSITORY, check=True)
    program = Path(sys.executable).parent / "ansible-playbook"
    command = [str(program), "-i", f"lab/inventories/{lab}", "playbooks/site.yml", "-e", "vpn_bootstrap=true"]
    with (REPOSITORY / ".lab" / lab / "site.log").open("w") as output:
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=output, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    sys.exit(main())
