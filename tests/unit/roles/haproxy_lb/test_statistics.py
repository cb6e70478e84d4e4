# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""HAProxy's statistics, as the role configures them: a host of the mesh that was taken over keeps nobody waiting."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from ...cores import template
from ..namespaces import eventually
from .conftest import TEMPLATES

pytestmark = pytest.mark.root  # a transparent socket

SERVER, ATTACKER, ASKER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
CONNECTIONS = 150  # HAProxy serves a hundred at a time
HEAD = b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: "


def free_port() -> int:
    with socket.create_server((SERVER, 0)) as sock:
        return int(sock.getsockname()[1])


def status(port: int) -> int:
    connection = HTTPConnection(SERVER, port, timeout=2, source_address=(ASKER, 0))
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_slow_clients_of_one_address_keep_nobody_waiting(tmp_path: Path) -> None:
    port = free_port()
    variables = {
        "haproxy_lb_stats_listen": [SERVER],
        "haproxy_lb_stats_port": port,
        "__haproxy_lb_self": {"mesh_addresses": []},
    }
    text = (TEMPLATES / "haproxy.cfg.j2").read_text(encoding="utf-8")
    section = template(text[text.index("# ---- Statistics") :], variables)
    config = tmp_path / "haproxy.cfg"
    config.write_text(f"defaults\n    timeout connect 2s\n    timeout client 1h\n    timeout server 1h\n{section}")
    process = subprocess.Popen(["haproxy", "-db", "-q", "-f", str(config)])
    try:
        eventually(lambda: status(port) == 200)
        with ExitStack() as held:
            for _number in range(CONNECTIONS):
                with suppress(ConnectionError):  # it was sent away
                    held.enter_context(socket.create_connection((SERVER, port), 2, (ATTACKER, 0))).sendall(HEAD)
            assert status(port) == 200
    finally:
        process.terminate()
        process.wait()
