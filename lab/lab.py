#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real hosts on one machine: systemd containers, and between them networks that no other firewall has a say in.

A lab is an inventory, ``lab/inventories/<lab>/hosts.yml``, which Ansible and this program read alike. Every host is a
podman container that boots systemd. Its interfaces are named after the networks that they are in:

the networks of ``lab_networks``
    which no router joins: hosts are the only way from one to another.
``uplink``
    for hosts whose ``ansible_host`` is an address. This machine is in it too, as the default route, for SSH from here
    and packages from outside.

``lab_routes`` (network: next hop) are a host's routes to networks that it is not in, and ``lab_router: true`` makes it
forward packets of others. ``lab_release``, a host's or the lab's, is the release of Debian; ``--release`` or
LAB_RELEASE says it for hosts that have none.

All networks are bridges in a network namespace of the lab's own, its *fabric*. In the machine's own namespace, every
frame would pass the machine's firewall, connection tracking and NAT (``bridge-nf-call-iptables``), and the machine
would have an address and a route in each network; packets that steering sends on asymmetric paths must not meet that.
The fabric has neither address nor route, its ports stay in our hand, and it goes without a trace. (podman's networks
do not: interrupted, podman keeps bridges and address leases for ever.)
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
LABEL = "wirefleet.lab"
# crun refuses hosts with hybrid cgroups; runc boots systemd there, and elsewhere too.
PODMAN = ("podman", "--runtime", "runc", "--log-level", "error")
BOOT_SECONDS = 90
TEAR_DOWN_SECONDS = 20
IMAGE_SECONDS = 7 * 24 * 3600
# Of the kernel's 128 inotify instances per user a booted systemd holds about ten: not enough for three labs.
INOTIFY_INSTANCES = 1024
RELEASE = os.environ.get("LAB_RELEASE") or "bookworm"
# What can befall a cable: the host loses its carrier, or keeps it while nothing comes through.
CABLE = {"plugged": "up master {network}", "unplugged": "down", "dead": "nomaster"}


class LabError(Exception):
    """What the user is told instead of a traceback."""


# ---------------------------------------------------------------------------------------------------------------------
# The inventory


@dataclass(frozen=True)
class Host:
    """One container: its name, its addresses ``a.b.c.d/n`` in each network, and next hops to networks elsewhere."""

    name: str
    container: str
    release: str
    networks: dict[str, list[str]]
    routes: dict[str, str]
    router: bool

    def port(self, network: str) -> str:
        """The fabric's end of the host's cable."""
        return f"{self.name}.{network}"

    @property
    def ssh_address(self) -> str | None:
        return self.networks["uplink"][0].partition("/")[0] if "uplink" in self.networks else None


@dataclass(frozen=True)
class Lab:
    """A lab as its inventory describes it."""

    name: str
    inventory: Path
    uplink: ipaddress.IPv4Network
    networks: list[str]
    hosts: dict[str, Host]

    @property
    def directory(self) -> Path:
        """The lab's SSH key and its stamp; gone with the lab."""
        return HERE.parent / ".lab" / self.name

    @property
    def fabric(self) -> str:
        """The network namespace of the lab's bridges."""
        return f"wirefleet-{self.name}"

    @property
    def cable(self) -> str:
        """This machine's interface in the lab's uplink."""
        return f"wf-{self.name}"

    @property
    def gateway(self) -> str:
        """This machine's address in the lab's uplink."""
        return str(self.uplink[1])

    def host(self, name: str) -> Host:
        if name not in self.hosts:
            raise LabError(f"lab {self.name} has no host {name!r}; it has {', '.join(self.hosts)}")
        return self.hosts[name]


def load(name: str, release: str = RELEASE) -> Lab:
    """Read ``lab/inventories/<name>/hosts.yml``; raises LabError that names what is wrong in it.

    ``release`` is that of the hosts for which the inventory names none.
    """
    path = HERE / "inventories" / name / "hosts.yml"
    if not path.is_file():
        known = sorted(p.parent.name for p in HERE.glob("inventories/*/hosts.yml"))
        raise LabError(f"no lab {name!r}; there are {', '.join(known)}")
    tree = yaml.safe_load(path.read_text())["all"]
    prefixes = {
        network: [ipaddress.ip_network(prefix) for prefix in values]
        for network, values in tree["vars"]["lab_network_prefixes"].items()
    }

    def address(host: str, network: str, value: str) -> str:
        plain = ipaddress.ip_address(value)
        for prefix in prefixes.get(network, []):
            if plain in prefix:
                return f"{plain}/{prefix.prefixlen}"
        raise LabError(f"{path}: host {host}: {value} is in no prefix of the network {network!r}")

    hosts = {}
    for group in tree["children"].values():
        for host, variables in (group.get("hosts") or {}).items():
            wanted = dict(variables["lab_networks"])
            if "ansible_host" in variables:
                wanted["uplink"] = [variables["ansible_host"]]
            networks = {network: [address(host, network, value) for value in wanted[network]] for network in wanted}
            hosts[host] = Host(
                name=host,
                container=f"wirefleet-{name}-{host}",
                release=variables.get("lab_release", tree["vars"].get("lab_release", release)),
                networks=networks,
                routes=dict(variables.get("lab_routes", {})),
                router=variables.get("lab_router", False),
            )
    uplink = ipaddress.IPv4Network(tree["vars"]["lab_network_prefixes"]["uplink"][0])
    return Lab(name, path, uplink, list(prefixes), hosts)


# ---------------------------------------------------------------------------------------------------------------------
# Commands


def run(*command: str | Path, stdin: str | None = None) -> str:
    """Run a command and return what it prints; raises LabError with its complaint."""
    result = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, text=True, check=False)
    if result.returncode:
        complaint = result.stderr.strip() or result.stdout.strip() or f"exit code {result.returncode}"
        raise LabError(f"{' '.join(str(part) for part in command)}: {complaint}")
    return result.stdout.strip()


def podman(*arguments: str | Path) -> str:
    return run(*PODMAN, *arguments)


def each(hosts: list[Host], action: Callable[[Host], None]) -> None:
    """Do it to all hosts at once; raises the first failure after all have ended."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        for future in [pool.submit(action, host) for host in hosts]:
            future.result()


def until(what: str, seconds: float, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not after {seconds:.0f} s")
        time.sleep(0.2)


@contextmanager
def alone() -> Iterator[None]:
    """One `up` or `down` at a time: labs share the image, and one lab's two would undo each other."""
    handle = os.open(HERE, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


# ---------------------------------------------------------------------------------------------------------------------
# The image


def image(release: str) -> str:
    """The id of the hosts' image, built from Debian packages when there is none of this recipe or it is a week old."""
    recipe = hashlib.sha256(release.encode())
    for file in sorted(path for path in (HERE / "image").rglob("*") if path.is_file()):
        recipe.update(f"{file.relative_to(HERE)}\0{file.stat().st_mode & 0o111}\0".encode() + file.read_bytes())
    tag = f"localhost/wirefleet-lab:{release}-{recipe.hexdigest()[:12]}"

    found = podman("images", "--filter", f"reference={tag}", "--format", "json")
    for entry in json.loads(found or "[]"):
        if time.time() - entry["Created"] < IMAGE_SECONDS:
            return entry["Id"]

    say(f"building the image of a {release} host (about a minute)")
    with tempfile.TemporaryDirectory(prefix="wirefleet-lab-") as work:
        tarball = Path(work) / "root.tar"
        run(HERE / "image" / "build", release, tarball)
        change = (f"LABEL {LABEL}.image={release}", 'CMD ["/sbin/init"]', "STOPSIGNAL SIGRTMIN+3")
        podman("import", "--quiet", *(part for line in change for part in ("--change", line)), tarball, tag)
    built = podman("image", "inspect", "--format", "{{.Id}}", tag)
    for old in podman("images", "--quiet", "--no-trunc", "--filter", f"label={LABEL}.image={release}").split():
        if old.removeprefix("sha256:") != built:
            # Fails, rightly, while a lab still runs on it.
            subprocess.run([*PODMAN, "rmi", old], capture_output=True, check=False)
    return built


# ---------------------------------------------------------------------------------------------------------------------
# The fabric


def lay_fabric(lab: Lab) -> None:
    """One namespace, one bridge per network, and nothing in it that could answer, route or filter.

    This machine is a host in the uplink like the others, and the way from there to the outside.
    """
    run("ip", "netns", "add", lab.fabric)
    run("ip", "netns", "exec", lab.fabric, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    bridges = [f"link add {n} up type bridge stp_state 0 forward_delay 0 mcast_snooping 0" for n in lab.networks]
    run("ip", "-n", lab.fabric, "-batch", "-", stdin="\n".join(bridges))
    run("ip", "link", "add", lab.cable, "type", "veth", "peer", "name", "machine", "netns", lab.fabric)
    run("ip", "-n", lab.fabric, "link", "set", "machine", "up", "master", "uplink")
    run("ip", "address", "add", f"{lab.gateway}/{lab.uplink.prefixlen}", "dev", lab.cable)
    run("ip", "link", "set", lab.cable, "up")
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for rule in way_out(lab):
        run("iptables", "--wait", "--insert", *rule)


def way_out(lab: Lab) -> list[list[str]]:
    """The machine's firewall rules for the uplink: iptables', since a table of ours could not overrule its DROP."""
    subnet = str(lab.uplink)
    return [
        ["FORWARD", "--source", subnet, "--jump", "ACCEPT"],
        ["FORWARD", "--destination", subnet, "--jump", "ACCEPT"],
        ["POSTROUTING", "--table", "nat", "--source", subnet, "!", "--destination", subnet, "--jump", "MASQUERADE"],
    ]


def remove_fabric(lab: Lab) -> None:
    """Remove the namespace, with it every cable that ends there, and the firewall's rules."""
    if Path("/sys/class/net", lab.cable).exists():  # by itself, as the kernel takes a namespace down at its leisure
        run("ip", "link", "delete", lab.cable)
    if Path("/run/netns", lab.fabric).exists():
        run("ip", "netns", "delete", lab.fabric)
    for rule in way_out(lab):
        while (
            subprocess.run(["iptables", "--wait", "--check", *rule], capture_output=True, check=False).returncode == 0
        ):
            run("iptables", "--wait", "--delete", *rule)


def plug(lab: Lab, host: Host) -> None:
    """Cable an initialised container to the fabric and give its interfaces their addresses."""
    pid = podman("container", "inspect", "--format", "{{.State.Pid}}", host.container)
    present = ports(lab)
    outside, inside = [], []
    for network, addresses in host.networks.items():
        port = host.port(network)
        if port in present:  # of a killed host whose namespace is still being torn down
            outside.append(f"link del {port}")
        peer = f"peer name {network} address {mac(host, network)} netns {pid}"
        outside.append(f"link add {port} up master {network} type veth {peer}")
        inside.append(f"link set {network} up")
        # Nothing else has this address here, so no second of duplicate address detection.
        inside += [f"address add {a} dev {network}{' nodad' if ':' in a else ''}" for a in addresses]
    if host.ssh_address:
        inside.append(f"route add default via {lab.gateway}")
    inside += [f"route add {network} via {via}" for network, via in host.routes.items()]
    run("ip", "-n", lab.fabric, "-batch", "-", stdin="\n".join(outside))
    run("nsenter", "--target", pid, "--net", "ip", "-batch", "-", stdin="\n".join(inside))
    if host.router:
        forward = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run("nsenter", "--target", pid, "--net", "sysctl", "-qw", *forward)


def mac(host: Host, network: str) -> str:
    """A locally administered address that stays the host's own, as a network card's does, however often it boots."""
    return "02:" + hashlib.sha256(f"{host.container} {network}".encode()).digest()[:5].hex(":")


def ports(lab: Lab) -> dict[str, bool]:
    """The fabric's ports, and whether frames pass each."""
    links = json.loads(run("ip", "-n", lab.fabric, "-json", "link", "show", "type", "veth") or "[]")
    return {link["ifname"]: "UP" in link["flags"] and "master" in link for link in links if link}


def switch(lab: Lab, host: Host, state: str) -> None:
    """Put all the host's cables but the uplink into one of the states of CABLE."""
    commands = [f"link set {host.port(n)} {CABLE[state].format(network=n)}" for n in host.networks if n != "uplink"]
    run("ip", "-n", lab.fabric, "-batch", "-", stdin="\n".join(commands))


# ---------------------------------------------------------------------------------------------------------------------
# Hosts


def allow_inotify() -> None:
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < INOTIFY_INSTANCES:
        limit.write_text(str(INOTIFY_INSTANCES))


def create(lab: Lab, host: Host, image_id: str) -> None:
    """Define the host's container; `revive` runs it."""
    podman(
        "create", "--name", host.container, "--hostname", host.name, "--label", f"{LABEL}={lab.name}",
        "--network", "none", "--systemd", "always", "--privileged",
        "--pids-limit", "-1", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32768:32768",
        "--volume", f"{lab.directory / 'id_ed25519.pub'}:/root/.ssh/authorized_keys:ro",
        image_id,
    )  # fmt: skip


def wait(host: Host) -> None:
    """Until systemd has started everything and sshd answers; raises LabError with the units that failed."""

    def systemd_state() -> str:
        command = [*PODMAN, "exec", host.container, "systemctl", "is-system-running"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def booted() -> bool:
        state = systemd_state()
        if state == "degraded":
            failed = podman("exec", host.container, "systemctl", "--failed", "--plain", "--no-legend")
            raise LabError(f"{host.name}: units failed:\n{failed}")
        return state == "running"

    def ssh_answers() -> bool:
        try:
            with socket.create_connection((host.ssh_address, 22), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    until(f"{host.name}: systemd is running", BOOT_SECONDS, booted)
    if host.ssh_address:
        until(f"{host.name}: sshd answers on {host.ssh_address}", BOOT_SECONDS, ssh_answers)


def revive(lab: Lab, host: Host, state: str) -> None:
    """Bring a host up from whatever state podman says that it is in, and wait for it."""
    if state == "paused":
        podman("unpause", host.container)
    elif state != "running":
        if state != "initialized":  # or an interrupted start got this far
            podman("init", host.container)
        # Between init and start, so that interfaces are there before systemd, as in real hosts.
        plug(lab, host)
        podman("start", host.container)
    switch(lab, host, "plugged")
    wait(host)


def freeze(lab: Lab, host: Host) -> None:
    """A hung machine. Its kernel would go on answering pings and forwarding, so its cables go dead too."""
    switch(lab, host, "dead")
    podman("pause", host.container)


def containers(lab: Lab) -> dict[str, str]:
    """podman's state of each of the lab's containers, by name."""
    listed = podman("ps", "--all", "--filter", f"label={LABEL}={lab.name}", "--format", "json")
    return {entry["Names"][0]: entry["State"] for entry in json.loads(listed or "[]")}


# ---------------------------------------------------------------------------------------------------------------------
# Labs


def up(lab: Lab) -> None:
    """Make the lab what its inventory says: repair it if it is whole, else make it anew."""
    with alone():
        begin = time.monotonic()
        images = {release: image(release) for release in sorted({host.release for host in lab.hosts.values()})}
        recipe = lab.inventory.read_bytes() + Path(__file__).read_bytes() + repr(images).encode()
        stamp = hashlib.sha256(recipe).hexdigest()
        stamped = lab.directory / "stamp"
        whole = (
            stamped.is_file()
            and stamped.read_text() == stamp
            and Path("/run/netns", lab.fabric).exists()
            and set(containers(lab)) == {host.container for host in lab.hosts.values()}
        )
        if not whole:
            tear_down(lab)
            allow_inotify()
            lab.directory.mkdir(parents=True)
            run(
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                f"lab {lab.name}",
                "-f",
                lab.directory / "id_ed25519",
            )
            lay_fabric(lab)
            each(list(lab.hosts.values()), lambda host: create(lab, host, images[host.release]))
        states = containers(lab)
        each(list(lab.hosts.values()), lambda host: revive(lab, host, states[host.container]))
        stamped.write_text(stamp)
    say(f"lab {lab.name} is up: {', '.join(lab.hosts)} ({time.monotonic() - begin:.0f} s)")


def down(lab: Lab) -> None:
    with alone():
        tear_down(lab)
    say(f"lab {lab.name} is gone")


def tear_down(lab: Lab) -> None:
    """Remove whatever there is of the lab, also what an interrupted run left."""
    deadline = time.monotonic() + TEAR_DOWN_SECONDS
    while True:
        try:
            return remove(lab)
        except LabError:  # podman itself was interrupted, and what it left settles a moment later
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def remove(lab: Lab) -> None:
    # By label what an older inventory named, by name what an interrupted podman has in its storage only.
    names = {host.container for host in lab.hosts.values()} | set(containers(lab))
    podman("rm", "--force", "--ignore", "--time", "0", "--volumes", *sorted(names))
    remove_fabric(lab)
    shutil.rmtree(lab.directory, ignore_errors=True)


def status(lab: Lab) -> None:
    """A line per host: container, SSH address, and its networks, those that no frame passes in brackets."""
    states = containers(lab)
    connected = ports(lab) if Path("/run/netns", lab.fabric).exists() else {}
    for host in lab.hosts.values():
        cables = [n if connected.get(host.port(n)) else f"({n})" for n in host.networks]
        print(f"{host.name:6} {states.get(host.container, 'absent'):9} {host.ssh_address or '-':15} {' '.join(cables)}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Labs: systemd containers with networks of their own between them.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, help: str, host: bool = True) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=help)
        sub.add_argument("lab", help="a directory of lab/inventories")
        if host:
            sub.add_argument("host")
        return sub

    creation = verb("up", "create the lab, or repair it", host=False)
    creation.add_argument("--release", default=RELEASE, help="Debian's, for hosts that have none in the inventory")
    verb("down", "remove the lab and all that belongs to it", host=False)
    verb("status", "show the hosts and their cables", host=False)
    verb("exec", "run a command in a host").add_argument("command", nargs=argparse.REMAINDER)
    verb("logs", "show a host's journal").add_argument("options", nargs=argparse.REMAINDER, help="journalctl's")
    verb("cut", "unplug a host from all networks but the uplink: it sees its carrier go")
    verb("mend", "plug it in again")
    verb("kill", "power a host off without goodbye")
    verb("freeze", "hang a host: it keeps its carrier, but nothing runs, answers or forwards")
    verb("start", "power a killed host on, or wake a frozen one, and wait until it is up")
    return parser


def main(argv: list[str]) -> int:
    args = arguments().parse_args(argv)
    try:
        return dispatch(load(args.lab, getattr(args, "release", RELEASE)), args)
    except LabError as error:
        say(f"lab: {error}")
        return 1


def dispatch(lab: Lab, args: argparse.Namespace) -> int:
    if args.verb == "up":
        up(lab)
    elif args.verb == "down":
        down(lab)
    elif args.verb == "status":
        status(lab)
    else:
        return at_host(lab, lab.host(args.host), args)
    return 0


def at_host(lab: Lab, host: Host, args: argparse.Namespace) -> int:
    if args.verb == "exec":
        return inside(host, args.command[1:] if args.command[:1] == ["--"] else args.command)
    if args.verb == "logs":
        return inside(host, ["journalctl", "--no-pager", *args.options])
    actions: dict[str, Callable[[], object]] = {
        "cut": lambda: switch(lab, host, "unplugged"),
        "mend": lambda: switch(lab, host, "plugged"),
        "kill": lambda: podman("kill", "--signal", "KILL", host.container),
        "freeze": lambda: freeze(lab, host),
        "start": lambda: revive(lab, host, containers(lab)[host.container]),
    }
    actions[args.verb]()
    return 0


def inside(host: Host, command: list[str]) -> int:
    """Run a command in a host with our own standard streams; the exit code is the command's."""
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    return subprocess.run(
        [*PODMAN, "exec", "--interactive", *terminal, host.container, *command], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
