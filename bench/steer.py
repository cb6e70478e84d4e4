# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What steering costs: WireGuard data packets through a balancer, in five ways.

    python bench/steer.py

Network namespaces, and veth pairs between them, as Linux makes them:

    clients -- public (198.51.100.0/24) -- balancer -- backend (10.9.0.0/24) -- nodes

There is a balancer for each way, and they take turns in short slices, so that whatever else this machine does meets
all of them alike:

``route``   forwards packets that name their node already
``dnat``    nftables, destination NAT by hash, with connection tracking
``steer``   our table and kernel settings as the role installs them, with every flow's session and client in the maps
``snat``    the same with ``vpn_forwarding: snat``
``nginx``   nginx's stream module, two workers (Debian packages nginx and libnginx-mod-stream)

A packet goes all its way within the system call that sends it: sender, kernel and counter share one core, and no queue
runs over. Only nginx's workers have two. "packets/s" is what arrives at a node's address in a second of the busier
core's CPU time, sender included, so that other work on this machine does not count. "ns/packet" is the CPU time of a
packet without the sender's part, which is measured with packets that are dropped on arrival at a balancer.

Medians of all rounds; ratios are taken within a round. The last line is JSON: flows x bytes -> packets a second as
ratios to plain routing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from netns import LIBC, inside

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARIES = [str(REPOSITORY / "roles" / role / "files") for role in ("vpn_cluster", "haproxy_lb")]
sys.path[:0] = LIBRARIES

from wirefleet_steer import config as steer_config  # noqa: E402
from wirefleet_steer import translation  # noqa: E402
from wirefleet_steer.decide import NodeState, Standing, State  # noqa: E402
from wirefleet_steer.elements import EMPTY, client_key, mark, script, wanted  # noqa: E402

WAYS = ("route", "dnat", "steer", "snat", "nginx")
NOWHERE = "nowhere"  # the way that is no way: what sending alone takes
FLOWS = (200, 20_000)
SIZES = (100, 1452)  # bytes of an IP packet
SLICE = 0.25  # seconds
SETTLE = 0.05  # seconds until what is on its way has arrived
WARM_UP_RATE = 10_000  # packets a second: nginx opens a socket for each flow …
WARM_UPS = 5  # … and may lose some the first time

PORT = 51820
PUBLIC, BACKEND = "198.51.100.10", "10.9.0.10"
SNAT = [BACKEND, "10.9.0.20"]  # with source NAT, where nodes get packets from
FIRST_SNAT_PORT, SNAT_PORTS = 16384, 16384
NODES = [f"10.9.0.{part}" for part in (11, 12, 13)]
SOURCES = [f"198.51.100.{part}" for part in range(20, 220)]
FIRST_SOURCE_PORT = 20_000
FIRST_INDEX = 0x01000000
MARK = 0x10000000

SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20  # linux/if_packet.h
ETH_P_IP = 0x0800
BATCH = 256  # packets in one system call
NGINX_SECONDS = 10


class BenchError(Exception):
    """What the user is told instead of a traceback."""


def run(*argv: str, stdin: str | None = None) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise BenchError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# ---------------------------------------------------------------------------------------------------------------------
# Packets


@dataclass(frozen=True)
class Flow:
    """A client's session: where it comes from, its receiver index, and which node has it."""

    source: str
    port: int
    index: int
    node: int

    @classmethod
    def number(cls, number: int) -> Flow:
        source, port = SOURCES[number % len(SOURCES)], FIRST_SOURCE_PORT + number // len(SOURCES)
        return cls(source, port, FIRST_INDEX + number * 2654435761 % (1 << 24), number % len(NODES))


class IOVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class MMsgHdr(ctypes.Structure):
    _fields_ = (("header", MsgHdr), ("sent", ctypes.c_uint))


class Packets:
    """A frame for each flow, ready to be sent: a header of its own, and the payload that all share."""

    def __init__(self, flows: list[Flow], size: int, macs: tuple[bytes, bytes], direct: bool) -> None:
        """``macs``: destination and source. ``direct``: to the flow's node instead of to the public address."""
        self.count = len(flows)
        payload = bytes(size - 20 - 8 - 16)
        ethernet = macs[0] + macs[1] + struct.pack(">H", ETH_P_IP)
        headers = [ethernet + _header(flow, size, NODES[flow.node] if direct else PUBLIC) for flow in flows]
        self._memory = ctypes.create_string_buffer(b"".join(headers) + payload)
        base, length = ctypes.addressof(self._memory), len(headers[0])
        self._vectors = (IOVec * (2 * self.count))()
        self._messages = (MMsgHdr * self.count)()
        for number in range(self.count):
            self._vectors[2 * number] = IOVec(base + number * length, length)
            self._vectors[2 * number + 1] = IOVec(base + self.count * length, len(payload))
            self._messages[number].header.iov = ctypes.addressof(self._vectors) + 2 * number * ctypes.sizeof(IOVec)
            self._messages[number].header.iovlen = 2

    def send(self, sock: socket.socket, position: int, most: int = BATCH) -> int:
        """Send the next of them in turn; return where to go on."""
        start = position % self.count
        sent = LIBC.sendmmsg(
            sock.fileno(),
            ctypes.byref(self._messages, start * ctypes.sizeof(MMsgHdr)),
            min(most, self.count - start),
            0,
        )
        if sent < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return position + sent


def _header(flow: Flow, size: int, target: str) -> bytes:
    """IP, UDP, and WireGuard's data message up to its counter; checksums as a client's network card makes them."""
    source, destination = socket.inet_aton(flow.source), socket.inet_aton(target)
    length = size - 20
    message = struct.pack("<IIQ", 4, flow.index, 1)
    udp = struct.pack(">HHHH", flow.port, PORT, length, 0)
    pseudo = source + destination + struct.pack(">HH", socket.IPPROTO_UDP, length)
    udp = udp[:6] + struct.pack(">H", _checksum(pseudo + udp + message) or 0xFFFF)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, size, 0, 0x4000, 64, socket.IPPROTO_UDP, 0) + source + destination
    return ip[:10] + struct.pack(">H", _checksum(ip)) + ip[12:] + udp + message


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# ---------------------------------------------------------------------------------------------------------------------
# Namespaces


class Wiring:
    """Namespaces of the clients, of the nodes, and of a balancer for each way."""

    def __init__(self) -> None:
        token = f"bench{os.getpid()}"
        self.clients, self.nodes = f"{token}-clients", f"{token}-nodes"
        self.balancers = {way: f"{token}-{way}" for way in (NOWHERE, *WAYS)}

    def __enter__(self) -> Wiring:
        try:
            for namespace in (self.clients, self.nodes, *self.balancers.values()):
                run("ip", "netns", "add", namespace)
            for way, namespace in self.balancers.items():
                self._connect(way, namespace)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for namespace in (self.clients, self.nodes, *self.balancers.values()):
            if Path("/run/netns", namespace).exists():
                run("ip", "netns", "del", namespace)

    def _connect(self, way: str, namespace: str) -> None:
        """No neighbour has to be asked for: the balancer knows the only one on either side."""
        lines = []
        for network, address, other in (("public", PUBLIC, self.clients), ("backend", BACKEND, self.nodes)):
            lines += [
                f"link add {network} type veth peer name {way} netns {other}",
                f"address add {address}/24 dev {network}",
                f"link set {network} up",
            ]
            run("ip", "-n", namespace, "-batch", "-", stdin="\n".join(lines))
            run("ip", "-n", other, "link", "set", way, "up")
            lines = []
        far = self.mac(self.nodes, way)
        neighbours = [f"neighbour add {node} lladdr {far} dev backend" for node in NODES]
        run("ip", "-n", namespace, "-batch", "-", stdin="\n".join(["link set lo up", *neighbours]))
        settings = ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.public.rp_filter=0"]
        self.run(namespace, "sysctl", "-qw", *settings, "net.ipv4.ip_local_port_range=1024 65535")

    @staticmethod
    def run(namespace: str, *argv: str, stdin: str | None = None) -> str:
        return run("ip", "netns", "exec", namespace, *argv, stdin=stdin)

    @staticmethod
    def mac(namespace: str, interface: str) -> str:
        return str(json.loads(run("ip", "-n", namespace, "-json", "link", "show", interface))[0]["address"])

    def macs(self, way: str) -> tuple[bytes, bytes]:
        """Destination and source of a client's frames."""
        there, here = self.mac(self.balancers[way], "public"), self.mac(self.clients, way)
        return bytes.fromhex(there.replace(":", "")), bytes.fromhex(here.replace(":", ""))

    def open(self, way: str) -> socket.socket:
        """A socket for frames to the way's balancer."""
        with inside(self.clients):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        sock.bind((way, ETH_P_IP))
        return sock

    def count(self) -> None:
        """Count what reaches a node, and go no further with it."""
        chains = "".join(
            f"  counter by_{way} {{ }}\n"
            f"  chain from_{way} {{\n"
            f'    type filter hook ingress device "{way}" priority 0;\n'
            f"    ip daddr {NODES[0]}-{NODES[-1]} counter name by_{way}\n"
            f"    drop\n"
            f"  }}\n"
            for way in self.balancers
        )
        self.run(self.nodes, "nft", "-f", "-", stdin=f"table netdev count {{\n{chains}}}\n")

    def counted(self, way: str) -> int:
        answer = json.loads(self.run(self.nodes, "nft", "-j", "list", "counter", "netdev", "count", f"by_{way}"))
        return int(answer["nftables"][1]["counter"]["packets"])


# ---------------------------------------------------------------------------------------------------------------------
# Balancers

NOWHERE_RULES = """\
table netdev nowhere {
  chain ingress { type filter hook ingress device public priority 0; drop; }
}
"""

DNAT_RULES = f"""\
table ip balancer {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {PUBLIC} udp dport {PORT} dnat to jhash ip saddr . udp sport mod {len(NODES)} map {{
      {", ".join(f"{number} : {node}" for number, node in enumerate(NODES))}
    }}
  }}
}}
"""

NGINX = """\
load_module {module};
daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log {directory}/nginx.log warn;
events {{ worker_connections {connections}; }}
stream {{
  upstream nodes {{ hash $remote_addr:$remote_port; {servers} }}
  server {{ listen {address} udp reuseport; proxy_pass nodes; proxy_timeout 10m; }}
}}
"""
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
CORES = 2  # nginx's workers, which share them with the sender


def set_up_steering(namespace: str, flows: list[Flow], directory: Path, snat: list[str]) -> None:
    """The role's template, and what prepares and fills it on a balancer: nodes, sessions, clients.

    ``snat``: the addresses that stand for clients, or none.
    """
    directory.mkdir()
    family = {
        "family": "ip",
        "public_address": PUBLIC,
        "public_interface": "public",
        "backend_interface": "backend",
        "client_networks": [],
        "peers": [],
        "snat_addresses": snat,
    }
    variables = {
        "ansible_managed": "Managed",
        "__haproxy_lb_table": "wirefleet",
        "__haproxy_lb_steer": {
            "port": PORT,
            "mark": hex(MARK),
            "families": [family],
            "sessions_size": 1048576,
            "affinity_size": 1048576,
            "affinity_timeout": "1h",
            "session_timeout": "240s",
            "source_limit": {"rate": 50, "burst": 200},
            "limits_size": 65536,
            "snat": {"first": FIRST_SNAT_PORT, "ports": SNAT_PORTS, "strange": 6, "moved": 30},
            "host": {"firewall": False, "mesh_addresses": [], "mesh_sources": {}},
        },
    }
    template = (REPOSITORY / "roles/haproxy_lb/templates/steer.nft.j2").read_text(encoding="utf-8")
    ruleset, document = directory / "steer.nft", directory / "steer.json"
    ruleset.write_text(str(Templar(DataLoader(), variables=variables).template(trust_as_template(template))))
    nodes = {f"n{number}": {"mark": number, "addresses": {"ip": address}} for number, address in enumerate(NODES, 1)}
    document.write_text(
        json.dumps(
            {
                "version": 1,
                "cluster": "default",
                "haproxy_socket": "/nonexistent",
                "backend": "vpn_back",
                "table": "wirefleet",
                "ruleset": str(ruleset),
                "poll_interval": 0.1,
                "families": ["ip"],
                "mark": hex(MARK),
                "nodes": nodes,
                "collapse_window": 10,
                "check": {"downinter": "1s", "fastinter": "100ms", "timeout": "500ms", "rise": 2},
                "listen": [["127.0.0.1", 8052]],
            }
        )
    )
    command = ["env", f"PYTHONPATH={':'.join(LIBRARIES)}", sys.executable, "-m", "wirefleet_steer"]
    Wiring.run(namespace, *command, "--config", str(document), "prepare")
    config = steer_config.load(document)
    state = State({name: NodeState(Standing.UP) for name in nodes})
    Wiring.run(namespace, "nft", "-f", "-", stdin=script("ip", "wirefleet", EMPTY, wanted(config, "ip", state)))
    marks = [mark(config.nodes[name].mark) for name in nodes]
    Wiring.run(namespace, "sysctl", "-qw", "net.ipv4.udp_early_demux=0")
    sessions = ", ".join(f"{socket.htonl(flow.index):#x} timeout 1h : {marks[flow.node]}" for flow in flows)
    clients = ", ".join(f"{client_key('ip', f'{flow.source}:{flow.port}')} : {marks[flow.node]}" for flow in flows)
    for name, elements in (("sessions", sessions), ("affinity", clients)):
        Wiring.run(namespace, "nft", "-f", "-", stdin=f"add element ip wirefleet {name} {{ {elements} }}\n")
    if snat:
        here = (f"{address}:{FIRST_SNAT_PORT + number}" for address in snat for number in range(SNAT_PORTS))
        known = {endpoint: f"{flow.source}:{flow.port}" for endpoint, flow in zip(here, flows)}
        Wiring.run(namespace, "nft", "-f", "-", stdin=translation.script("ip", "wirefleet", known))


class Nginx:
    """nginx in a balancer's namespace."""

    def __init__(self, namespace: str, directory: Path) -> None:
        if not shutil.which("nginx") or not NGINX_MODULE.exists():
            raise BenchError("nginx is missing: apt-get install nginx libnginx-mod-stream")
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)  # enough for a worker's half of the flows
        configuration = directory / "nginx.conf"
        configuration.write_text(
            NGINX.format(
                directory=directory,
                module=NGINX_MODULE,
                workers=CORES,
                files=files,
                connections=2 * max(FLOWS) + 1000,  # a flow takes two
                servers=" ".join(f"server {node}:{PORT};" for node in NODES),
                address=f"{PUBLIC}:{PORT}",
            )
        )
        with inside(namespace):
            self._master = subprocess.Popen(["nginx", "-p", str(directory), "-c", str(configuration)])
        self._children = Path(f"/proc/{self._master.pid}/task/{self._master.pid}/children")
        deadline = time.monotonic() + NGINX_SECONDS
        while not self._children.read_text():
            if self._master.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"nginx does not start: {(directory / 'nginx.log').read_text()}")
            time.sleep(0.05)

    def cpu(self) -> int:
        """Nanoseconds that the workers have run."""
        workers = self._children.read_text().split()
        return sum(int(Path(f"/proc/{worker}/schedstat").read_text().split()[0]) for worker in workers)

    def close(self) -> None:
        self._master.terminate()
        self._master.wait(timeout=NGINX_SECONDS)


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


@dataclass(frozen=True)
class Slice:
    """What was counted in one slice: packets, and nanoseconds that the sender and nginx's worker ran."""

    sent: int
    arrived: int
    sender: int
    workers: int

    @property
    def rate(self) -> float:
        """Packets in a second of the busiest core's time."""
        return self.arrived / max(self.sender, (self.sender + self.workers) / CORES) * 1e9

    def cost(self, alone: Slice) -> float:
        """Nanoseconds that a packet's way takes, without what sending takes."""
        return (self.sender - alone.sender / alone.sent * self.sent + self.workers) / self.arrived


class Figures(NamedTuple):
    """Of one way: packets a second, the same as ratios to plain routing and to plain DNAT, nanoseconds for a packet,
    and the share of packets that arrived."""

    rate: float
    to_route: float
    to_dnat: float
    cost: float
    arrived: float


class Bench:
    """All ways side by side, for one number of flows."""

    def __init__(self, flows: int, stack: ExitStack) -> None:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wirefleet-bench-")))
        self._flows = [Flow.number(number) for number in range(flows)]
        self._wiring = stack.enter_context(Wiring())
        self._wiring.count()
        self._sockets = {way: stack.enter_context(self._wiring.open(way)) for way in (NOWHERE, *WAYS)}
        namespaces = self._wiring.balancers
        Wiring.run(namespaces[NOWHERE], "nft", "-f", "-", stdin=NOWHERE_RULES)
        Wiring.run(namespaces["dnat"], "nft", "-f", "-", stdin=DNAT_RULES)
        set_up_steering(namespaces["steer"], self._flows, directory / "steer", snat=[])
        set_up_steering(namespaces["snat"], self._flows, directory / "snat", snat=SNAT)
        self._nginx = Nginx(namespaces["nginx"], directory)
        stack.callback(self._nginx.close)

    def measure(self, size: int, rounds: int) -> dict[str, Figures]:
        """Return the medians for each way."""
        packets = {
            way: Packets(self._flows, size, self._wiring.macs(way), direct=way in ("route", NOWHERE))
            for way in (NOWHERE, *WAYS)
        }
        for way in WAYS:
            self._warm_up(way, packets[way])
        samples: dict[str, list[Figures]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            alone = self._slice(NOWHERE, packets[NOWHERE])
            taken = {way: self._slice(way, packets[way]) for way in WAYS}
            for way, part in taken.items():
                to_route, to_dnat = (part.rate / taken[other].rate for other in ("route", "dnat"))
                samples[way].append(Figures(part.rate, to_route, to_dnat, part.cost(alone), part.arrived / part.sent))
        return {way: Figures(*map(statistics.median, zip(*found))) for way, found in samples.items()}

    def _warm_up(self, way: str, packets: Packets) -> None:
        """Send a packet of each flow at a gentle pace, until once all of them arrive."""
        for _ in range(WARM_UPS):
            before, position = self._wiring.counted(way), 0
            while position < packets.count:
                position = packets.send(self._sockets[way], position, most=WARM_UP_RATE // 100)
                time.sleep(0.01)
            time.sleep(SETTLE)
            arrived = self._wiring.counted(way) - before
            if arrived == packets.count:
                return
        raise BenchError(f"{way}: only {arrived} of {packets.count} packets arrived")

    def _slice(self, way: str, packets: Packets) -> Slice:
        sock, position, before = self._sockets[way], 0, self._wiring.counted(way)
        workers = self._nginx.cpu() if way == "nginx" else 0
        begin = time.thread_time_ns()
        end = time.monotonic() + SLICE
        while time.monotonic() < end:
            position = packets.send(sock, position)
        sender = time.thread_time_ns() - begin
        time.sleep(SETTLE)
        workers = self._nginx.cpu() - workers if way == "nginx" else 0
        return Slice(position, self._wiring.counted(way) - before, sender, workers)


# ---------------------------------------------------------------------------------------------------------------------
# Command line

HEAD = "  flows  bytes  way    packets/s  x route  x dnat  ns/packet  arrived"
ROW = "{flows:>7} {size:>6}  {way:6} {rate:>9,.0f} {to_route:>8.2f} {to_dnat:>7.2f} {cost:>10.0f} {arrived:>8.1%}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise BenchError("network namespaces need root")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(HEAD, flush=True)
    ratios: dict[str, dict[str, float]] = {}
    for flows in FLOWS:
        with ExitStack() as stack:
            bench = Bench(flows, stack)
            for size in SIZES:
                figures = bench.measure(size, options.rounds)
                ratios[f"{flows}x{size}"] = {way: round(found.to_route, 2) for way, found in figures.items()}
                for way, found in figures.items():
                    print(ROW.format(flows=flows, size=size, way=way, **found._asdict()), flush=True)
    print(json.dumps(ratios))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
