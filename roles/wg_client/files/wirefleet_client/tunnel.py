# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The client's WireGuard interface: look at it, and let it begin anew."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wirefleet.command import CommandError, run

DEVICES = Path("/proc/net/dev")
RECEIVED, SENT = 0, 8  # its columns, bytes

RENEWING_KEEPALIVE = 1  # seconds; any but 0 begins a handshake at once


@dataclass(frozen=True)
class Peer:
    """``endpoint`` is ADDRESS:PORT as WireGuard writes it, ``handshake`` seconds since the epoch, 0 for never."""

    endpoint: str
    handshake: int


class Tunnel:
    """One interface, and its peer that is the cluster."""

    def __init__(self, interface: str, peer: str) -> None:
        self.interface = interface
        self._peer = peer

    def peer(self) -> Peer:
        """Raises a CommandError when there is no such interface, or no such peer."""
        return Peer(self._value("endpoints"), int(self._value("latest-handshakes")))

    def traffic(self) -> tuple[int, int]:
        """Return bytes sent and received: what went through the tunnel, without keepalives and handshakes."""
        for line in DEVICES.read_text(encoding="ascii").splitlines():
            name, _colon, counters = line.partition(":")
            if name.strip() == self.interface:
                columns = counters.split()
                return int(columns[SENT]), int(columns[RECEIVED])
        return 0, 0

    def renew(self, endpoint: str, new_port: bool) -> None:
        """Forget the session and begin a handshake at once, there.

        The peer is removed and added as it was, in one request. From a ``new_port`` the shim sees a new flow, where it
        may hold on to the old one, whose connection is gone, for many seconds.
        """
        keepalive = self._value("persistent-keepalive").replace("off", "0")
        secret = self._value("preshared-keys")
        reader = None
        command = ["wg", "set", self.interface, *(["listen-port", "0"] if new_port else [])]
        command += ["peer", self._peer, "remove", "peer", self._peer, "endpoint", endpoint]
        command += ["allowed-ips", ",".join(self._value("allowed-ips").replace("(none)", "").split())]
        try:
            if secret != "(none)":
                reader = _pipe(secret)
                command += ["preshared-key", f"/dev/fd/{reader}"]
            command += ["persistent-keepalive", str(RENEWING_KEEPALIVE)]
            run(command, descriptors=[] if reader is None else [reader])
        finally:
            if reader is not None:
                os.close(reader)
        run(["wg", "set", self.interface, "peer", self._peer, "persistent-keepalive", keepalive])

    def speak(self) -> None:
        """Send a keepalive now: the node learns, if it had to, where this peer is."""
        keepalive = self._value("persistent-keepalive").replace("off", "0")
        peer = ["peer", self._peer, "persistent-keepalive"]
        run(["wg", "set", self.interface, *peer, "0", *peer, str(RENEWING_KEEPALIVE), *peer, keepalive])

    def _value(self, what: str) -> str:
        command = ["wg", "show", self.interface, what]
        for line in run(command).splitlines():
            key, _tab, value = line.partition("\t")
            if key == self._peer:
                return value
        raise CommandError(command, "missing", f"no peer {self._peer}")


def _pipe(text: str) -> int:
    """Return a descriptor that yields the text and then ends."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="ascii") as file:
        file.write(f"{text}\n")
    return reader
