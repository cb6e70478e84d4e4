# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A balancer, nodes and clients in network namespaces, with the real HAProxy, nft, wireguard-go and our daemon.

::

    c1 c2 --- public (198.51.100.0/24, 2001:db8:100::/56) --- lb --- backend (10.9.0.0/24, fd00:9::/64) --- n1 n2 n3

HAProxy's checks go through a WireGuard tunnel to each node, as on a real balancer.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from wirefleet_steer import haproxy

from ...cores import template
from ..namespaces import Network, alive
from ..vpn_cluster.conftest import network as network  # a fixture

REPOSITORY = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(REPOSITORY / "tests"))  # for "traffic": what labs are measured with
TEMPLATES = REPOSITORY / "roles/haproxy_lb/templates"
PYTHONPATH = ":".join(
    str(REPOSITORY / "roles" / role / "files") for role in ("vpn_cluster", "haproxy_lb", "wireguard_node")
)

PORT = 51820
FWMARK = 51820
PUBLIC = {"ip": "198.51.100.10", "ip6": "2001:db8:100::10"}
BACKEND = {"ip": "10.9.0.10", "ip6": "fd00:9::10"}
INSIDE = {"ip": "10.80.0.1", "ip6": "fd00:80::1"}  # every node's address inside the tunnel
PROBE = "10.80.2.1"  # the balancer's own address inside the tunnels
NODES = {"n1": 11, "n2": 12, "n3": 13}  # name -> host part of its addresses
CLIENTS = {"c1": 51, "c2": 52}
# Each in a /64 of its own, as at home: what one of them spends of a source's limit is not the other's.
CLIENT_ADDRESSES = {
    name: {"ip": f"198.51.100.{part}", "ip6": f"2001:db8:100:{part}::{part}"} for name, part in CLIENTS.items()
}


def steer_variables(
    backend: str = "backend",
    peers: Sequence[Mapping[str, str]] = (),
    snat: Mapping[str, Sequence[str]] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The template's variables, as the role makes them.

    `peers`: the other balancers' addresses. `snat`: by family, what nodes get clients' packets from.
    """
    families = [
        {
            "family": family,
            "public_address": address,
            "public_interface": "public",
            "backend_interface": backend,
            "client_networks": [],
            "peers": [peer[family] for peer in peers],
            "snat_addresses": list((snat or {}).get(family, ())),
        }
        for family, address in PUBLIC.items()
    ]
    steer = {
        "port": PORT,
        "mark": "0x10000000",
        "copy_dscp": 63,
        "families": families,
        "sessions_size": 1048576,
        "affinity_size": 1048576,
        "affinity_timeout": "1h",
        "session_timeout": "240s",
        "source_limit": {"rate": 50, "burst": 200},
        "limits_size": 65536,
        "snat": {"first": 16384, "ports": 16384, "strange": 6, "moved": 30},
        "client_table": 51821,
        "host": {
            "firewall": True,
            "mesh_addresses": ["fd00:1::1"],
            "mesh_interface": "wf0",
            "mesh_port": 51821,
            "mesh_sources": {"ip": ["10.9.0.10", "10.9.0.11"], "ip6": ["fd00:9::10", "fd00:9::11"]},
        },
    }
    return {"ansible_managed": "Managed", "__haproxy_lb_table": "wirefleet", "__haproxy_lb_steer": {**steer, **changes}}


def render(name: str, variables: dict[str, Any]) -> str:
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    return str(template(text, variables))


def balancer_sysctls(backend: str, *, routed: bool = False) -> list[str]:
    """What the role sets for its daemon on a balancer."""
    sysctls: list[str] = role_variable("sysctls", __haproxy_lb_backends=[backend], __vpn_routed=routed)
    return sysctls


def required_sysctls(families: Sequence[str], *, routed: bool = False) -> dict[str, str]:
    """Those of them that the daemon watches."""
    variables = {
        "__haproxy_lb_sysctls": balancer_sysctls("backend", routed=routed),
        "__vpn_plan": {"families": families},
    }
    sysctls: dict[str, str] = role_variable("required_sysctls", **variables)
    return sysctls


def role_variable(name: str, **variables: Any) -> Any:
    role = yaml.safe_load((TEMPLATES.parent / "vars/main.yml").read_text(encoding="utf-8"))
    return template(role[f"__haproxy_lb_{name}"], variables)


def steer_config(directory: Path, **changes: Any) -> dict[str, Any]:
    """The daemon's configuration, as the role writes it."""
    config = {
        "version": 1,
        "cluster": "default",
        "haproxy_socket": str(directory / "admin.sock"),
        "backend": "vpn_back",
        "table": "wirefleet",
        "ruleset": str(directory / "steer.nft"),
        "poll_interval": 0.1,
        "families": ["ip", "ip6"],
        "mark": "0x10000000",
        "nodes": {
            name: {"mark": part - 10, "addresses": {"ip": f"10.9.0.{part}", "ip6": f"fd00:9::{part}"}}
            for name, part in NODES.items()
        },
        "collapse_window": 10,
        "check": {"downinter": "1s", "fastinter": "100ms", "timeout": "500ms", "rise": 2},
        "listen": [["127.0.0.1", 8052]],
    }
    return {**config, **changes}


def answered(text: str) -> set[int]:
    """Return the numbers, from 1, of the pings that had an answer."""
    return {int(number) for number in re.findall(r"bytes from .* icmp_seq=(\d+) ", text)}


class Cluster(Network):
    """The picture above, alive. With "public" for a backend the balancer has one arm: all hosts are in one network."""

    steer: subprocess.Popen[bytes]

    @property
    def counters(self) -> str:
        """The rules that count on nodes."""
        return COUNTERS

    def __init__(self, directory: Path, backend: str = "backend") -> None:
        super().__init__(directory)
        self.backend = backend

    def build(self) -> None:
        for name in ("fabric", "lb", *NODES, *CLIENTS):
            self.add(name)
        for bridge in {"public", self.backend}:
            self.bridge("fabric", bridge)
            self.connect("lb", bridge)
        for bridge, addresses in (("public", PUBLIC), (self.backend, BACKEND)):
            for address in (f"{addresses['ip']}/24", f"{addresses['ip6']}/56"):
                self.run("lb", "ip", "address", "add", address, "dev", bridge)
        for name in NODES:
            self._build_node(name)
        for name, address in CLIENT_ADDRESSES.items():
            self.connect(name, "public", f"{address['ip']}/24", f"{address['ip6']}/56")
        self._start_balancer()

    def _build_node(self, name: str) -> None:
        part = NODES[name]
        self.connect(name, self.backend, f"10.9.0.{part}/24", f"fd00:9::{part}/64")
        for family in ("-4", "-6"):
            self.run(name, "ip", family, "rule", "add", "priority", "5182", "fwmark", str(FWMARK), "table", "51820")
        self.restore_gateway(name)
        peers = "".join(
            f"[Peer]\nPublicKey = {self.key(client)[1]}\nAllowedIPs = 10.80.0.{at}/32, fd00:80::{at}/128\n"
            for client, at in CLIENTS.items()
        )
        peers += f"[Peer]\nPublicKey = {self.key('probe')[1]}\nAllowedIPs = {PROBE}/32\n"
        service = f"[Interface]\nPrivateKey = {self.key('service')[0]}\nListenPort = {PORT}\nFwMark = {FWMARK}\n"
        self.wireguard(name, service + peers, f"{INSIDE['ip']}/16", f"{INSIDE['ip6']}/64", f"{self.inside(name)}/32")
        self.count(name)
        self.agent(name, 200)

    def inside(self, name: str) -> str:
        """The address inside the tunnel that only this node has: it is checked there."""
        return f"10.80.1.{NODES[name]}"

    def agent(self, name: str, code: int) -> None:
        """Let the node's agent answer HAProxy's check with this status."""
        answer = self.directory / f"{name}.code"
        answer.write_text(str(code))
        if not any(process.args[-2:] == [str(answer), name] for process in self.processes):  # type: ignore[index]
            self.start(name, sys.executable, "-c", AGENT, str(answer), name)

    def count(self, name: str) -> None:
        """Count, from 0, what clients send to the node's WireGuard port, whatever that makes of it, and cookies."""
        self.run(name, "nft", "-f", "-", stdin=self.counters)

    def counted(self, name: str, counter: str) -> int:
        answer = json.loads(self.run(name, "nft", "-j", "list", "counter", "inet", "count", counter))
        return int(answer["nftables"][1]["counter"]["packets"])

    def client(self, name: str, family: str, *, listen: int = 0) -> None:
        """Make a stock client whose endpoint is the balancer's address of one family."""
        device = self.device(name)
        if device not in self.run(name, "wg", "show", "interfaces"):
            part = CLIENTS[name]
            self.wireguard(name, "[Interface]\n", f"10.80.0.{part}/16", f"fd00:80::{part}/64")
        endpoint = f"{PUBLIC['ip']}:{PORT}" if family == "ip" else f"[{PUBLIC['ip6']}]:{PORT}"
        config = (
            f"[Interface]\nPrivateKey = {self.key(name)[0]}\n{f'ListenPort = {listen}' if listen else ''}\n"
            f"[Peer]\nPublicKey = {self.key('service')[1]}\nEndpoint = {endpoint}\n"
            "AllowedIPs = 10.80.0.0/16, fd00:80::/64\n"
        )
        self.run(name, "wg", "setconf", device, "/dev/stdin", stdin=config)

    def ping(self, name: str, *, count: int = 5, interval: float = 0.05, wait: int = 2) -> int:
        """Return how many of ``count`` pings through the tunnel had no answer."""
        # With a deadline it waits for answers that are late, and goes on sending meanwhile.
        deadline = wait + math.ceil(count * interval)
        argv = ["ping", "-c", str(count), "-i", str(interval), "-w", str(deadline), INSIDE["ip"]]
        return count - len(answered(self.run(name, *argv, check=False)) & {*range(1, count + 1)})

    def owner(self, client: str) -> str:
        """The node with the client's latest handshake; they are a second apart at least."""
        public = self.key(client)[1]
        times: dict[str, int] = {}
        for name in NODES:
            for line in self.run(name, "wg", "show", self.device(name), "latest-handshakes").splitlines():
                key, _, at = line.partition("\t")
                times[name] = int(at) if key == public else times.get(name, 0)
        return max(times, key=lambda name: times[name])

    def initiate(self, node: str, client: str, endpoint: str = "") -> None:
        """Let a node begin a handshake with a client, as its agent does to adopt it: a fresh peer with a keepalive."""
        device, public, part = self.device(node), self.key(client)[1], CLIENTS[client]
        allowed = f"10.80.0.{part}/32,fd00:80::{part}/128"
        argv = ["peer", public, "remove", "peer", public, "endpoint", endpoint or self.endpoint(client)]
        self.run(node, "wg", "set", device, *argv, "allowed-ips", allowed, "persistent-keepalive", "1")
        time.sleep(0.3)
        self.run(node, "wg", "set", device, "peer", public, "persistent-keepalive", "0")

    def send_as_node(self, node: str, family: str, payload: str, dscp: int = 0) -> None:
        """Send one datagram to c1 from the node's WireGuard port and by its way, beside its WireGuard."""
        script = SEND_AS_NODE.format(port=PORT, mark=FWMARK, service=dscp << 2)
        self.run(node, sys.executable, "-c", script, CLIENT_ADDRESSES["c1"][family], payload)

    def watch_leaks(self, client: str) -> None:
        """Count, from 0, what reaches a client with a node's own address."""
        self.run(client, "nft", "-f", "-", stdin=LEAKS)

    def leaked(self, client: str, family: str) -> int:
        text = self.run(client, "nft", "list", "counter", "inet", "leak", f"leaked_{family}")
        return int(text.partition("packets ")[2].split()[0])

    def restore_gateway(self, node: str, hops: int = 1) -> None:
        """Put the routes back that a link takes with it when it goes down."""
        self.run(node, "ip", "address", "replace", f"fd00:9::{NODES[node]}/64", "dev", self.backend)
        for family, gateway in (("-4", BACKEND["ip"]), ("-6", BACKEND["ip6"])):
            argv = ["default", "via", gateway, "dev", self.backend, "hoplimit", str(hops), "table", "51820"]
            self.run(node, "ip", family, "route", "replace", *argv)

    def endpoint(self, client: str) -> str:
        """The client's address as the node that has it sees it."""
        public = self.key(client)[1]
        for line in self.run(
            self.owner(client), "wg", "show", self.device(self.owner(client)), "endpoints"
        ).splitlines():
            key, _, endpoint = line.partition("\t")
            if key == public:
                return endpoint
        raise AssertionError(f"{client} is nowhere")

    def nft(self, *argv: str, stdin: str | None = None) -> str:
        return self.run("lb", "nft", *argv, stdin=stdin)

    def dropped(self, family: str, reason: str) -> int:
        answer = json.loads(self.nft("-j", "list", "counter", family, "wirefleet", reason))
        return int(answer["nftables"][1]["counter"]["packets"])

    def haproxy(self, command: str) -> str:
        return haproxy.ask(str(self.directory / "admin.sock"), command)

    def steerctl(self, *argv: str, check: bool = True) -> str:
        command = ["env", f"PYTHONPATH={PYTHONPATH}", sys.executable, "-m", "wirefleet_steer"]
        return self.run("lb", *command, "--config", str(self.directory / "steer.json"), *argv, check=check)

    def state(self, node: str) -> list[str]:
        """The node's line of "status" from its second column on; "status" fails while no node takes clients."""
        return self.steerctl("status", check=False).partition(node)[2].split()

    def rows(self) -> dict[str, dict[str, Any]]:
        """The same, of each node, as values."""
        answer = json.loads(self.steerctl("status", "--json", check=False))
        return {row["node"]: row for row in answer["nodes"]}

    def start_steer(self) -> None:
        log = (self.directory / "steer.log").open("ab")
        argv = [sys.executable, "-m", "wirefleet_steer", "--config", str(self.directory / "steer.json"), "run"]
        self.steer = self.start("lb", "env", f"PYTHONPATH={PYTHONPATH}", *argv, stderr=log)

    def log(self) -> str:
        return (self.directory / "steer.log").read_text()

    def write_ruleset(self, **changes: Any) -> None:
        (self.directory / "steer.nft").write_text(render("steer.nft.j2", steer_variables(self.backend, **changes)))

    def write_config(self, **changes: Any) -> None:
        config = steer_config(self.directory, **changes)
        for name, node in config["nodes"].items():
            node["probe_interface"] = self.device(f"p{name}")
            node["probe_peer"] = {"public_key": self.key("service")[1]}
        (self.directory / "steer.json").write_text(json.dumps(config))

    def _start_balancer(self) -> None:
        servers = ""
        for name, part in NODES.items():
            interface = f"[Interface]\nPrivateKey = {self.key('probe')[0]}\n"
            peer = f"[Peer]\nPublicKey = {self.key('service')[1]}\nEndpoint = 10.9.0.{part}:{PORT}\n"
            allowed = f"AllowedIPs = {self.inside(name)}/32\n"
            self.wireguard("lb", interface + peer + allowed, f"{PROBE}/32", device=f"p{name}")
            self.run("lb", "ip", "route", "add", f"{self.inside(name)}/32", "dev", self.device(f"p{name}"))
            servers += f"  server {name} 10.9.0.{part}:{PORT} check addr {self.inside(name)} port 8051\n"
        (self.directory / "haproxy.cfg").write_text(HAPROXY.format(directory=self.directory) + servers)
        self.start("lb", "haproxy", "-db", "-q", "-f", str(self.directory / "haproxy.cfg"))
        self.write_ruleset()
        self.write_config()
        self.steerctl("prepare")
        self.run("lb", "sysctl", "-qw", *balancer_sysctls(self.backend))
        self.start_steer()
        for name in NODES:
            self.steerctl("wait", name, "up", "--timeout", "20")


HAPROXY = """\
global
  stats socket {directory}/admin.sock mode 600 level admin
defaults
  mode tcp
  timeout connect 1s
  timeout check 500ms
  timeout client 5s
  timeout server 5s
backend vpn_back
  option httpchk GET /healthz
  http-check disable-on-404
  http-check expect status 200
  default-server inter 300ms fastinter 100ms downinter 200ms fall 2 rise 2
"""

COUNTERS = f"""\
table inet count
delete table inet count
table inet count {{
  counter cookies {{ }}
  counter initiations {{ }}
  counter large {{ }}
  chain input {{
    type filter hook input priority -10;
    # Not those of probes, which begin anew when a check fails.
    ip saddr != 10.9.0.0/24 udp dport {PORT} @th,64,32 0x01000000 counter name initiations
    meta nfproto ipv6 udp dport {PORT} @th,64,32 0x01000000 counter name initiations
    udp dport {PORT} @th,64,32 0x04000000 udp length > 2000 counter name large
  }}
  chain output {{
    type filter hook output priority -10;
    udp sport {PORT} @th,64,32 0x03000000 counter name cookies
  }}
}}
"""

# SO_REUSEPORT does not help beside another socket's port: a raw socket does. Its checksum is 0 for IPv4 (allowed) and
# the kernel's for IPv6.
SEND_AS_NODE = """
import socket, struct, sys
target, payload = sys.argv[1], bytes.fromhex(sys.argv[2])
version6 = ":" in target
sock = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
sock.setsockopt(socket.SOL_SOCKET, 36, {mark})  # SO_MARK
if version6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, {service})
else:
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, {service})
sock.sendto(struct.pack(">HHHH", {port}, 40000, 8 + len(payload), 0) + payload, (target, 0))
"""

LEAKS = f"""\
table inet leak
delete table inet leak
table inet leak {{
  counter leaked_ip {{ }}
  counter leaked_ip6 {{ }}
  chain input {{
    type filter hook prerouting priority raw;
    ip saddr 10.9.0.0/24 udp sport {PORT} counter name leaked_ip
    ip6 saddr fd00:9::/64 udp sport {PORT} counter name leaked_ip6
  }}
}}
"""

AGENT = """
import http.server, pathlib, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(pathlib.Path(sys.argv[1]).read_text() or 500))
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8051), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Parametrize it (``indirect``) with the name of the backend network to get another one."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    yield from alive(Cluster(tmp_path_factory.mktemp("cluster"), getattr(request, "param", "backend")))
