# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Which balancer is the active one: whichever has the addresses that all of them share, as keepalived moves them."""

from __future__ import annotations

import socket
from collections.abc import Iterable

DISCARD = 9  # the UDP port of RFC 863; nothing is sent


def is_active(vips: Iterable[str]) -> bool:
    """Say whether this host has one of the addresses. Without any, there is nothing to be decided: it is active."""
    vips = list(vips)
    return not vips or any(map(is_local, vips))


def is_local(address: str) -> bool:
    """Ask the kernel what it would speak from to this address: its own are reached from themselves."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect((address, DISCARD))
        except OSError:  # no route to it
            return False
        source: str = sock.getsockname()[0]
        return source == address
