# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""HTTP connections to hosts that may not be ours any more. They end, however slowly the other side speaks."""

from __future__ import annotations

import http.client
import socket
import time
from typing import Any

from .httpd import DEADLINE


class Connection(http.client.HTTPConnection):
    """One exchange: ``timeout`` is for each step of it, and DEADLINE for all, after which our servers give up too."""

    def connect(self) -> None:
        deadline = time.monotonic() + DEADLINE
        super().connect()
        self.sock = _Socket(self.sock, deadline)


class _Socket(socket.socket):
    """Takes over a connected socket; raises a TimeoutError when it is read after the ``deadline``."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._patience = connected.gettimeout() or DEADLINE
        self._deadline = deadline
        super().__init__(fileno=connected.detach())
        self.settimeout(self._patience)

    def recv_into(self, *arguments: Any) -> int:
        """What the file reads by that ``makefile`` returns."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(min(left, self._patience))
        return super().recv_into(*arguments)
