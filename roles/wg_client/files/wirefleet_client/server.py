# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Where the balancer is.

Once everything goes through the tunnel, so does the question for its name, and a tunnel that is down answers nothing.
So what WireGuard was told when the interface came up is kept, for us and for the shim, which has it as its /etc/hosts.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from wirefleet.iproute import HOST_BITS, Rule, first_tunnel

MAIN = 254  # the routing table, linux/rtnetlink.h
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


@dataclass(frozen=True)
class Server:
    """``address`` of the balancer, and its UDP ``port``."""

    address: str
    port: int

    @property
    def endpoint(self) -> str:
        """As WireGuard writes it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def rule(self, priority: int) -> Rule:
        """What goes to the balancer goes around the tunnel, even when that takes everything.

        wg-quick puts its rules before those that are there. One that came up after ours has to be overtaken.
        """
        family = ip_address(self.address).version
        tunnel = first_tunnel(family)
        if tunnel is not None:
            priority = min(priority, tunnel - 1)
        return Rule(family, priority, table=MAIN, to=f"{self.address}/{HOST_BITS[family]}")


def find(host: str, port: int, endpoint: str, hosts: Path) -> Server:
    """Return the server as WireGuard knows it, else as it was remembered, else as the resolver does (OSError)."""
    if (known := outside(endpoint)) or (known := _remembered(hosts)):
        return Server(known, port)
    return Server(str(socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4][0]), port)


def remember(server: Server, host: str, hosts: Path) -> None:
    """Write it in place: the shim has this very file mounted."""
    name = "" if host == server.address else f" {host}"
    hosts.write_text(f"{HOSTS}{server.address} wirefleet-balancer{name}\n", encoding="ascii")


def outside(endpoint: str) -> str | None:
    """Return the address of an endpoint that is not the shim's."""
    address = endpoint.rpartition(":")[0].strip("[]")
    return address if address and not ip_address(address).is_loopback else None


def _remembered(hosts: Path) -> str | None:
    try:
        lines = [line.split() for line in hosts.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    return next((words[0] for words in lines if "wirefleet-balancer" in words), None)
