# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""systemd's readiness and watchdog protocol (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Send ``state`` ("READY=1", "WATCHDOG=1", "STATUS=…"); without systemd, or with a deaf one, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, suppress(OSError):
        sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
