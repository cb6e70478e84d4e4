#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's main job as a story: a cluster is set up, a node dies, another is drained, and clients go on.

Everything happens in the lab `demo`, which is left running. Whatever is printed as a figure was measured just now.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from traffic.cluster import Client, Cluster  # noqa: E402
from traffic.hosts import Lab, until  # noqa: E402
from traffic.ping import Ping  # noqa: E402

LOG = REPOSITORY / ".lab" / "demo" / "site.log"
LIVE = sys.stdout.isatty()
BOLD, GREY, GREEN, PLAIN = ("\x1b[1m", "\x1b[90m", "\x1b[32m", "\x1b[0m") if LIVE else ("", "", "", "")
RETURN_SECONDS = 60


class DemoError(Exception):
    """A step did not do what it shows."""


def main() -> int:
    begin = time.monotonic()
    try:
        tell(1, "Eight hosts in containers: a balancer, three nodes, two clients, a web server, a monitor")
        run([sys.executable, "lab/lab.py", "up", "demo"])
        tell(2, "One command from an inventory to a cluster")
        site("-e", "vpn_bootstrap=true")
        lab = Lab("demo")
        cluster = Cluster(lab, nodes=("n1", "n2", "n3"), clients=("c1", "c2"))
        tell(3, "Stock WireGuard clients reach the private network, one over IPv4, one over IPv6")
        show_reach(lab, cluster)
        tell(4, "A node dies without a word")
        show_death(lab, cluster)
        tell(5, "A node is drained, and comes back")
        show_drain(lab, cluster)
        tell(6, "The same command again")
        if changed := site():
            raise DemoError(f"the second run changed {changed} things; see {LOG}")
        say("changed=0")
        tell(7, "Somebody watches")
        pages = show_pages(lab)
    except (DemoError, AssertionError, RuntimeError, subprocess.SubprocessError) as error:
        print(
            f"\nThe demo stopped: {error}\nThe lab still runs, to look at it; `make demo-down` ends it.",
            file=sys.stderr,
        )
        return 1
    print(HINTS.format(minutes=(time.monotonic() - begin) / 60, pages=pages))
    return 0


def tell(number: int, title: str) -> None:
    print(f"\n{BOLD}{number}. {title}{PLAIN}", flush=True)


def say(text: str) -> None:
    print(f"   {text}", flush=True)


def progress(text: str) -> None:
    """What happens right now, in a line that the next one replaces; nothing where nobody watches."""
    if LIVE:
        print(f"\r\x1b[K   {GREY}{text[:100]}{PLAIN}", end="", flush=True)


def clear() -> None:
    if LIVE:
        print("\r\x1b[K", end="", flush=True)


def run(command: list[str]) -> None:
    say(f"{GREY}$ {' '.join(command).replace(sys.executable, 'python')}{PLAIN}")
    subprocess.run(command, cwd=REPOSITORY, check=True)


def site(*options: str) -> int:
    """Run the site playbook with its tasks passing by; return how many changes it made."""
    command = ["ansible-playbook", "-i", "lab/inventories/demo", "playbooks/site.yml", *options]
    say(f"{GREY}$ {' '.join(command)}{PLAIN}")
    begin, play, recap = time.monotonic(), "", []
    program = str(Path(sys.executable).parent / command[0])
    with (
        LOG.open("w") as log,
        subprocess.Popen(
            [program, *command[1:]], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if header := re.match(r"(PLAY|TASK) \[(.*)\]", line):
                name = header[2].rpartition(" : ")[2]
                if header[1] == "PLAY" and name != play:
                    play = name
                    clear()
                    say(f"{play} …")
                progress(name)
            elif " changed=" in line:
                recap.append(line)
    clear()
    if process.returncode:
        raise DemoError(f"ansible-playbook failed; see {LOG}")
    changed = sum(int(count) for line in recap for count in re.findall(r"changed=(\d+)", line))
    say(f"done in {time.monotonic() - begin:.0f} s")
    return changed


def watch(what: str, seconds: float, until_true: Callable[[], bool] = lambda: False) -> None:
    """Let time pass with a clock on the screen, until something is true."""
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < seconds and not until_true():
        progress(f"{what}: {passed:.0f} s")
        time.sleep(0.2)
    clear()


def web(lab: Lab, version: int) -> str:
    """The private server's address."""
    return lab.address("web", "private", version)


def url(address: str) -> str:
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"


def show_reach(lab: Lab, cluster: Cluster) -> None:
    for client in cluster.clients.values():
        until(f"{client.name} has a handshake", 15, lambda client=client: client.handshake > 0)  # type: ignore[misc]
        for version in (4, 6):
            page = client.get(url(web(lab, version))).splitlines()[0]
            way = f"{client.name} ── {client.endpoint} ── {cluster.owner(client)}"
            say(f"{way} ──► {url(web(lab, version))}  '{page}'")
    print(cluster.balancer.check_output("wirefleet-steer status").replace("\n", "\n   ").join(["   ", ""]))


def show_death(lab: Lab, cluster: Cluster) -> None:
    client = cluster.clients["c1"]
    node = cluster.owner(client)
    with Ping(client.host, web(lab, 4), interval=0.1) as ping:
        time.sleep(2)
        say(f"{client.name} pings through {node}, ten times a second; {node} is powered off")
        begin = time.monotonic()
        lab.befall("kill", node)
        until(f"HAProxy sees {node} down", 30, lambda: cluster.states()[node]["haproxy"].startswith("DOWN"))
        say(f"wirefleet-steer status shows it down {time.monotonic() - begin:.1f} s after the command to power it off")
        watch(f"waiting for {client.name}", RETURN_SECONDS, lambda: moved(cluster, client, node))
        time.sleep(1)
    survivors = [name for name in cluster.nodes if name != node]
    at = cluster.owner(client, survivors)
    say(f"{GREEN}traffic was away for {ping.outage:.1f} s and is back, at {at}{PLAIN}; {ping}")
    lab.befall("start", node)
    say(f"{node} is back and takes clients again after {cluster.wait(node, 'up'):.1f} s")


def moved(cluster: Cluster, client: Client, dead: str) -> bool:
    """Whether a survivor has a new session with the client."""
    try:
        owner = cluster.owner(client, [name for name in cluster.nodes if name != dead])
    except AssertionError:  # none of them knows the client yet
        return False
    return owner != dead


def show_drain(lab: Lab, cluster: Cluster) -> None:
    client = cluster.clients["c2"]
    node = cluster.owner(client)
    with Ping(client.host, web(lab, 6), interval=0.02) as ping:
        say(f"{client.name} pings through {node}, fifty times a second; $ wirefleet-node drain")
        with cluster.drained_at_node(node):
            until(f"{client.name} has left {node}", RETURN_SECONDS, lambda: not cluster.is_owner(node, client))
            say(f"{client.name} is at {cluster.owner(client)} now")
            watch("nobody is at the drained node", 10)
    if ping.lost:
        raise DemoError(f"the drain of {node} lost packets: {ping}")
    say(f"{GREEN}{ping}{PLAIN}")


def show_pages(lab: Lab) -> str:
    """Make sure that each page is there for whoever sits at this machine, and return the list of them."""
    balancer, monitor = (lab.address(name, "uplink", 4) for name in ("lb1", "mon"))
    pages = {
        f"http://{balancer}:8052/": "status page of the balancer",
        f"http://{balancer}:8404/": "HAProxy's statistics",
        f"http://{monitor}:9090/": "Prometheus",
        f"http://{monitor}:9093/": "alerts",
    }
    for address in pages:
        until(f"{address} answers", 30, lambda address=address: alive(address))  # type: ignore[misc]
    targets = json.loads(read(f"http://{monitor}:9090/api/v1/targets?state=active"))["data"]["activeTargets"]
    say(f"{sum(target['health'] == 'up' for target in targets)} of {len(targets)} targets of Prometheus are up")
    return "\n".join(f"   {address:28}{what}" for address, what in pages.items())


def read(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=5) as answer:
        page: bytes = answer.read()
    return page


def alive(address: str) -> bool:
    try:
        return bool(read(address))
    except OSError:
        return False


HINTS = f"""
{BOLD}That was all in {{minutes:.1f}} minutes. The lab is yours now:{PLAIN}

{{pages}}

   python=.venv/bin/python
   $python lab/lab.py exec demo lb1 -- wirefleet-steer status        which nodes take clients
   $python lab/lab.py exec demo lb1 -- wirefleet-steer explain n1    why a node is in its state
   $python lab/lab.py exec demo lb1 -- curl -s http://127.0.0.1:8404/metrics
   $python lab/lab.py exec demo lb1 -- cat /etc/wirefleet/default/steer.nft
   $python lab/lab.py exec demo n1 -- systemctl stop wg-quick@wg0    the agent lives, WireGuard does not
   $python lab/lab.py exec demo c1 -- ping 10.20.0.80                traffic through the tunnel
   $python lab/lab.py kill demo n2   and   start demo n2             a power failure
   .venv/bin/ansible-playbook -i lab/inventories/demo playbooks/site.yml

   make demo-down ends it.
"""

if __name__ == "__main__":
    sys.exit(main())
