#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""How long runs take with few and with many clients: playbook `site` in the lab `converge`, a balancer and three nodes.

For each count of clients on fresh hosts: the first run, which installs everything, and a second one, which must not
change anything. With the greatest count also a run that adds one client, which must change its peer on the nodes and
the ledger, and nothing else. What every node's interface has is counted afterwards.

Beside it, where --peer-role or WIREFLEET_PEER_ROLE says where it is (a checkout, or a git directory), the role
githubixx.ansible_role_wireguard with the same peers as its unmanaged ones, on fresh hosts of the same lab. It sets up
an interface, a part of what `site` does.

Printed are wall time, the controller's CPU time with the processes that it started (which is the better measure
where the machine has other things to do), its greatest process, and the time of each phase. The last line is JSON, in
seconds of wall time but for "cpu": {"first": {"10": s, …}, "second": {…}, "add_one": {…}, "peer_role": {"first": …}}.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / ".collections")]

from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import (  # noqa: E402
    generate_private_key,
    public_key,
)
from traffic.hosts import Lab  # noqa: E402

LAB, NODES = "converge", ("n1", "n2", "n3")
PROBES = 1  # peers of a node's interface that are no clients: the balancer
BOUNDS = {"second": 2.0, "add_one": 1.5}  # against the second run with the fewest clients, and with as many
# What a new client changes on the nodes.
ADDING_CHANGES = {
    "Plan | Write the ledger to the nodes",
    "Plan | Write the controller's copy of the ledger",
    "Peers | Bring up the client-facing interface",
    "Say how full the networks are, and which ledger this node knows",
}
PEER = "githubixx.ansible_role_wireguard"
# Debian's package `wireguard`, which the role installs, would bring a compiler for a module of the machine's kernel.
PREPARATION = """
set -e
apt-get -qq update
apt-get -qq install --yes --no-install-recommends wireguard-tools wireguard-go
mkdir -p /tmp/module/DEBIAN
printf '%s\\n' 'Package: kernel-of-the-machine' 'Version: 1' 'Architecture: all' \
  'Maintainer: bench' 'Description: stands for its module' 'Provides: wireguard-modules (= 1.0.0)' \
  > /tmp/module/DEBIAN/control
dpkg-deb --build /tmp/module /tmp/module.deb && apt-get -qq install --yes /tmp/module.deb
"""
PEER_VARIABLES = {
    "wireguard_install_kernel_module": False,
    "wireguard_addresses": ["10.80.255.{{ groups.wireguard_nodes.index(inventory_hostname) + 1 }}/16"],
    "wireguard_endpoint": "{{ lab_networks.backend[0] }}",
    # No route for each peer, as `site` does it.
    "wireguard_table": "off",
}


@dataclass(frozen=True)
class Run:
    """One run of a playbook: seconds, seconds of CPU, the greatest process in MiB, and its tasks in order."""

    seconds: float
    cpu: float
    rss: float
    tasks: Sequence[Mapping[str, Any]]

    @property
    def changed(self) -> set[str]:
        return {task["task"] for task in self.tasks if task["changed"]}

    def phases(self) -> dict[str, float]:
        """CPU seconds by role, and by the stages of planning, in the order in which they came first."""
        phases: dict[str, float] = defaultdict(float)
        for task in self.tasks:
            stage, separator, _rest = task["task"].partition(" | ")
            phases[f"{task['role']}: {stage.lower()}" if separator else task["role"] or "playbook"] += task["cpu"]
        return dict(phases)


class Bench:
    """The lab, made anew for each count of clients."""

    def __init__(self, log: Path) -> None:
        self.lab = Lab(LAB)
        self.log = log

    @contextmanager
    def fresh_hosts(self) -> Iterator[None]:
        self._lab("down")
        self._lab("up")
        try:
            yield
        finally:
            self._lab("down")

    def _lab(self, verb: str) -> None:
        subprocess.run([sys.executable, str(REPOSITORY / "lab/lab.py"), verb, LAB], check=True, stdout=sys.stderr)
        # A host that testinfra knew is another one now.
        Lab.host.cache_clear()

    def site(self, clients: Sequence[Mapping[str, Any]], **variables: Any) -> Run:
        run = self.play(REPOSITORY / "playbooks/site.yml", {"vpn_clients": clients, **variables})
        self.expect(len(clients) + PROBES)
        return run

    def expect(self, peers: int) -> None:
        """Every node's interface has that many peers, or the figures are worth nothing."""
        for node in NODES:
            found = len(self.lab.host(node).check_output("wg show wg0 peers").split())
            if found != peers:
                raise SystemExit(f"{node}: wg0 has {found} peers instead of {peers}; see {self.log}")

    def play(self, playbook: Path, variables: Mapping[str, Any], **environment: str) -> Run:
        with tempfile.TemporaryDirectory() as scratch, self.log.open("a") as log:
            given, phases = Path(scratch, "variables.json"), Path(scratch, "phases.jsonl")
            given.write_text(json.dumps(variables))
            program = Path(sys.executable).parent / "ansible-playbook"
            process = subprocess.Popen(
                [str(program), "-i", str(self.lab.inventory), str(playbook), "--extra-vars", f"@{given}"],
                cwd=REPOSITORY,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".collections"),
                    "ANSIBLE_CALLBACK_PLUGINS": str(REPOSITORY / "bench/callback_plugins"),
                    "ANSIBLE_CALLBACKS_ENABLED": "phases",
                    "WIREFLEET_PHASES": str(phases),
                    **environment,
                },
            )
            begin = time.monotonic()
            _pid, status, used = os.wait4(process.pid, 0)
            seconds = time.monotonic() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"{playbook.name} failed; see {self.log}")
            tasks = [json.loads(line) for line in phases.read_text().splitlines()]
        return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, tasks)


def devices(count: int) -> list[dict[str, str]]:
    """Clients that bring their own public keys."""
    return [
        {"name": f"device-{number:05}", "public_key": public_key(generate_private_key())} for number in range(count)
    ]


def measure(bench: Bench, clients: Sequence[Mapping[str, Any]], counts: Sequence[int]) -> dict[str, dict[int, Run]]:
    """`site`, by kind of run and count."""
    runs: dict[str, dict[int, Run]] = {"first": {}, "second": {}, "add_one": {}}
    for count in counts:
        with bench.fresh_hosts():
            some = clients[:count]
            runs["first"][count] = told(f"first run, {count:,} clients", bench.site, some, vpn_bootstrap=True)
            second = told(f"second run, {count:,} clients", bench.site, some)
            if second.changed:
                raise SystemExit(f"the second run changed something: {', '.join(sorted(second.changed))}")
            runs["second"][count] = second
            if count == counts[-1]:
                added = told(f"one more than {count:,} clients", bench.site, clients[: count + 1])
                if added.changed - ADDING_CHANGES:
                    raise SystemExit(f"one more client changed {', '.join(sorted(added.changed - ADDING_CHANGES))}")
                runs["add_one"][count] = added
    return runs


def told(what: str, work: Callable[..., Run], *arguments: Any, **options: Any) -> Run:
    """Say how it went, on standard error: the whole takes its time."""
    run = work(*arguments, **options)
    print(f"{what}: {run.seconds:.0f} s, {run.cpu:.0f} s of CPU, {run.rss:.0f} MiB", file=sys.stderr, flush=True)
    return run


# ---- The peer role


@contextmanager
def peer_role(place: str | None) -> Iterator[Path | None]:
    """A directory that has the role under its name, or None."""
    with tempfile.TemporaryDirectory() as scratch:
        role = Path(scratch, PEER)
        if place and Path(place, "tasks").is_dir():
            shutil.copytree(Path(place), role, ignore=shutil.ignore_patterns(".git"))
        elif place and Path(place, "HEAD").is_file():
            role.mkdir()
            archive = subprocess.run(["git", "-C", place, "archive", "HEAD"], check=True, capture_output=True)
            subprocess.run(["tar", "--extract", "--directory", str(role)], check=True, input=archive.stdout)
        else:
            print(f"\n{PEER} is not measured: --peer-role (or WIREFLEET_PEER_ROLE) names no checkout of it", flush=True)
            yield None
            return
        yield Path(scratch)


def measure_peer(
    bench: Bench, clients: Sequence[Mapping[str, Any]], counts: Sequence[int], role: Path
) -> dict[str, dict[int, Run]]:
    """The same runs of the peer role."""
    runs: dict[str, dict[int, Run]] = {"first": {}, "second": {}, "add_one": {}}
    playbook, peers = role / "peer.yml", unmanaged_peers(clients)
    playbook.write_text(json.dumps([{"hosts": "wireguard_nodes", "gather_facts": False, "roles": [PEER]}]))

    def run(count: int) -> Run:
        given = {**PEER_VARIABLES, "wireguard_unmanaged_peers": dict(peers[:count])}
        done = bench.play(playbook, given, ANSIBLE_ROLES_PATH=str(role))
        bench.expect(count + len(NODES) - 1)
        return done

    for count in counts:
        with bench.fresh_hosts():
            for node in NODES:
                bench.lab.host(node).check_output("sh -c %s", PREPARATION)
            runs["first"][count] = told(f"{PEER}, first run, {count:,} peers", run, count)
            runs["second"][count] = told(f"{PEER}, second run, {count:,} peers", run, count)
            if count == counts[-1]:
                runs["add_one"][count] = told(f"{PEER}, one more than {count:,}", run, count + 1)
    return runs


def unmanaged_peers(clients: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, str]]]:
    """The same peers, each with a pre-shared key and an address in each family, as they have it from `site`."""
    return [
        (
            client["name"],
            {
                "public_key": client["public_key"],
                "preshared_key": base64.b64encode(secrets.token_bytes(32)).decode(),
                "allowed_ips": f"{ip_address('10.80.0.10') + number}/32, {ip_address('fd00:80::10') + number}/128",
            },
        )
        for number, client in enumerate(clients)
    ]


# ---- What is printed


def print_runs(title: str, runs: Mapping[str, Mapping[int, Run]]) -> None:
    print(f"\n{title}\n")
    print(f"{'run':10}{'clients':>9}{'seconds':>9}{'CPU s':>8}{'MiB':>6}")
    for kind, of in runs.items():
        for count, run in of.items():
            print(f"{kind:10}{count:>9,}{run.seconds:>9.1f}{run.cpu:>8.1f}{run.rss:>6.0f}")


def print_phases(runs: Mapping[str, Mapping[int, Run]]) -> None:
    columns = {f"{kind} {count:,}": run.phases() for kind, of in runs.items() for count, run in of.items()}
    print("\nCPU seconds of the controller by phase\n")
    print(f"{'':32}" + "".join(f"{title:>15}" for title in columns))
    for phase in dict.fromkeys(phase for column in columns.values() for phase in column):
        print(f"{phase:32}" + "".join(f"{column.get(phase, 0):>15.1f}" for column in columns.values()))


def print_bounds(runs: Mapping[str, Mapping[int, Run]]) -> None:
    second = runs["second"]
    least, most = min(second), max(second)
    print()
    for kind, run, base in (
        ("second", second[most], second[least]),
        ("add_one", runs["add_one"][most], second[most]),
    ):
        print(
            f"{kind} at {most:,}: {run.seconds / base.seconds:.2f} times the second run at"
            f" {least if base is second[least] else most:,} (CPU: {run.cpu / base.cpu:.2f}); bound: {BOUNDS[kind]}"
        )


def seconds_of(runs: Mapping[str, Mapping[int, Run]]) -> dict[str, dict[str, float]]:
    return {kind: {str(count): round(run.seconds, 1) for count, run in of.items()} for kind, of in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure runs with few and with many clients.")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--peer-role", default=os.environ.get("WIREFLEET_PEER_ROLE"), help=f"a checkout of {PEER}")
    parser.add_argument("--log", type=Path, default=Path(tempfile.gettempdir(), "bench-converge.log"))
    options = parser.parse_args()
    counts = sorted(options.counts)

    options.log.write_text("")
    bench, clients = Bench(options.log), devices(counts[-1] + 1)
    runs = measure(bench, clients, counts)
    print_runs("site: a balancer and three nodes", runs)
    print_phases(runs)
    print_bounds(runs)
    result: dict[str, Any] = seconds_of(runs)
    result["peer_role"] = {}
    with peer_role(options.peer_role) as role:
        if role:
            theirs = measure_peer(bench, clients, counts, role)
            print_runs(f"{PEER}: three nodes, no balancer", theirs)
            result["peer_role"] = seconds_of(theirs)
    result["cpu"] = {kind: {str(count): round(run.cpu, 1) for count, run in of.items()} for kind, of in runs.items()}
    result["rss_mib"] = {str(count): round(run.rss) for count, run in runs["second"].items()}
    print(f"\n{json.dumps(result)}")


if __name__ == "__main__":
    main()
