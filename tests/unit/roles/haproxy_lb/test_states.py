# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What an operator told HAProxy outlives a reload; ports are those of the configuration."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
from wirefleet_steer import haproxy

from ..namespaces import eventually
from .conftest import render

HERE = "127.0.0.1"
RUNNING, DRAIN = "2", "8"  # srv_op_state, srv_admin_state

HAPROXY = """\
global
  stats socket {directory}/admin.sock mode 600 level admin expose-fd listeners
  server-state-file {directory}/haproxy.state
defaults
  mode tcp
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend vpn_front
  bind {here}:{public_port}
  default_backend vpn_back
backend vpn_back
  load-server-state-from-file global
  default-server check inter 100ms weight 100
  server n1 {here}:{port} addr {here} port {agent_port}
  server n2 {here}:{port} addr {here} port {agent_port}
"""


class TellPort(StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(str(self.server.server_address[1]).encode())


class Balancer:
    """HAProxy, and what the role has its unit call."""

    def __init__(self, directory: Path, running: ExitStack) -> None:
        self.directory = directory
        self.running = running
        with socket.create_server((HERE, 0)) as sock:
            self.public_port = int(sock.getsockname()[1])

    def listen(self) -> int:
        """Be a shim, or an agent, of both nodes; return the port."""
        server = ThreadingTCPServer((HERE, 0), TellPort)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.running.callback(server.server_close)
        self.running.callback(server.shutdown)
        return int(server.server_address[1])

    def configure(self, port: int, agent_port: int) -> None:
        config = HAPROXY.format(
            directory=self.directory, here=HERE, public_port=self.public_port, port=port, agent_port=agent_port
        )
        (self.directory / "haproxy.cfg").write_text(config)
        variables = {
            "ansible_managed": "Managed",
            "vpn_port": port,
            "__haproxy_lb_socket": f"{self.directory}/admin.sock",
            "__haproxy_lb_states": f"{self.directory}/haproxy.state",
        }
        (self.directory / "save-states").write_text(render("save-states.py.j2", variables))

    def start(self) -> None:
        self.process = subprocess.Popen(["haproxy", "-W", "-f", str(self.directory / "haproxy.cfg")])
        self.running.callback(self.process.wait, 10)
        self.running.callback(self.process.terminate)
        eventually(self.pid)

    def reload(self) -> None:
        """As the unit does it."""
        before = self.pid()
        subprocess.run([sys.executable, str(self.directory / "save-states")], check=True)
        os.kill(self.process.pid, signal.SIGUSR2)
        eventually(lambda: self.pid() not in {"", before})

    def ask(self, command: str) -> str:
        return haproxy.ask(str(self.directory / "admin.sock"), command)

    def pid(self) -> str:
        """The worker's; none while it starts."""
        with suppress(haproxy.HAProxyError):
            return self.ask("show info").partition("\nPid: ")[2].partition("\n")[0]
        return ""

    def servers(self) -> dict[str, dict[str, str]]:
        """By name, each with its fields."""
        _version, head, *rows = self.ask("show servers state vpn_back").strip().splitlines()
        keys = head.lstrip("# ").split()
        return {server["srv_name"]: server for server in (dict(zip(keys, row.split(), strict=True)) for row in rows)}

    def reached(self) -> int:
        """The port to which HAProxy sends a client."""
        with socket.create_connection((HERE, self.public_port), 2) as sock:
            return int(sock.recv(10) or 0)


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    with ExitStack() as running:
        yield Balancer(tmp_path, running)


def test_a_reload_takes_ports_from_the_configuration(balancer: Balancer) -> None:
    port, agent_port = balancer.listen(), balancer.listen()
    balancer.configure(port, agent_port)
    balancer.start()
    assert balancer.reached() == port
    balancer.ask("set server vpn_back/n1 weight 50%")
    balancer.ask("set server vpn_back/n2 state drain")

    port, agent_port = balancer.listen(), balancer.listen()
    balancer.configure(port, agent_port)
    balancer.reload()
    assert balancer.reached() == port
    n1, n2 = balancer.servers().values()
    for server in (n1, n2):
        assert (server["srv_port"], server["srv_check_port"]) == (str(port), str(agent_port))
        assert server["srv_op_state"] == RUNNING
    assert (n1["srv_admin_state"], n1["srv_uweight"]) == ("0", "50")
    assert (n2["srv_admin_state"], n2["srv_uweight"]) == (DRAIN, "100")
