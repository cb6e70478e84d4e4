#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hours in which nothing is wrong: no alert may fire, although a node is drained in their middle.

The lab `monitoring` with the roles' own intervals instead of its quick ones, and a client that pings the private web
server all the while. The last line is JSON: "fired" and "pending" alerts (those that held for a while, but not for long
enough to fire: name -> seconds), and how the pings fared. It fails when an alert has fired.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from traffic.cluster import Cluster  # noqa: E402
from traffic.hosts import Lab, until  # noqa: E402
from traffic.monitor import Monitor  # noqa: E402
from traffic.ping import Ping  # noqa: E402

LAB = "monitoring"
NODE = "n1"
DRAINED = 1 / 6  # of the time: ten minutes of an hour, twice as long as it takes a warning to fire
PING_INTERVAL = 0.2  # seconds
QUIET_SECONDS = 900
# What the lab's inventory has set to be quick: a user has the roles' own.
DEFAULTS = {
    "vpn_monitor": ("vpn_monitor_scrape_interval", "vpn_monitor_for_critical", "vpn_monitor_for_warning"),
    "haproxy_lb": ("haproxy_lb_damping_downs", "haproxy_lb_damping_hold"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Hours without a fault, and the alerts that fire all the same.")
    parser.add_argument("--hours", type=float, default=1.0)
    hours = parser.parse_args().hours
    set_up()
    lab = Lab(LAB)
    cluster = Cluster(lab, nodes=["n1", "n2"], clients=["c1"])
    monitor = Monitor(lab.host("mon"))
    # What the set-up itself has put in place may count as repaired for a while.
    until("no alert fires", QUIET_SECONDS, lambda: not monitor.firing(), pause=5)
    begin = time.time()
    with Ping(lab.host("c1"), lab.address("web", "private", 4), PING_INTERVAL) as ping:
        say(f"{hours:g} h without a fault begin")
        time.sleep(3600 * hours * (1 - DRAINED) / 2)
        say(f"{NODE} is being drained")
        with cluster.drained_at_node(NODE):
            time.sleep(3600 * hours * DRAINED)
        say(f"{NODE} is back")
        time.sleep(max(begin + 3600 * hours - time.time(), 0))
    step = float(str(defaults()["vpn_monitor_scrape_interval"]).rstrip("s"))
    result = {
        "hours": hours,
        "fired": sorted(monitor.fired(begin)),
        "pending": {name: round(count * step) for name, count in sorted(monitor.pending(begin).items())},
        "pings": str(ping),
    }
    print(json.dumps(result))
    return bool(result["fired"])


def defaults() -> dict[str, object]:
    """The roles' own values of DEFAULTS."""
    found: dict[str, object] = {}
    for role, names in DEFAULTS.items():
        values = yaml.safe_load((REPOSITORY / "roles" / role / "defaults" / "main.yml").read_text())
        found.update({name: values[name] for name in names})
    return found


def set_up() -> None:
    """Start the lab's hosts and make them a cluster."""
    subprocess.run([sys.executable, "lab/lab.py", "up", LAB], cwd=REPOSITORY, check=True)
    playbook = Path(sys.executable).parent / "ansible-playbook"
    extra = json.dumps({"vpn_bootstrap": True, **defaults()})
    command = [str(playbook), "-i", f"lab/inventories/{LAB}", "playbooks/site.yml", "-e", extra]
    with (REPOSITORY / ".lab" / LAB / "site.log").open("w") as log:
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=log, stderr=subprocess.STDOUT)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
