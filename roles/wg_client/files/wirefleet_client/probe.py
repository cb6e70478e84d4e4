# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Does UDP work? Asked with an initiation of the client's own, and without any effect on its tunnel.

Nodes answer nobody but their clients. So WireGuard itself makes the initiation, on an interface beside the tunnel's
that has the same key: it goes to a socket of ours, which carries it to the balancer. The answer proves that UDP gets
there and back, and that a node takes this client. It ends here: nobody confirms the handshake, so no session begins,
and the node goes on as before.
"""

from __future__ import annotations

import socket
import struct
from contextlib import closing, suppress

from wirefleet.command import run

INITIATION, RESPONSE, COOKIE = 1, 2, 3  # drivers/net/wireguard/messages.h
LENGTHS = {INITIATION: 148, RESPONSE: 92, COOKIE: 64}
RECEIVER = {RESPONSE: 8, COOKIE: 4}  # where the index of the one that is answered stands
TRIES = 3
PATIENCE = 1.0  # seconds for each


def works(interface: str, peer: str, server: tuple[str, int]) -> bool:
    """Ask, and wait for up to three seconds. Raises a CommandError when WireGuard does not make an initiation."""
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with closing(_socket(socket.AF_INET)) as inside, closing(_socket(family)) as outside:
        inside.bind(("127.0.0.1", 0))
        relay = f"127.0.0.1:{inside.getsockname()[1]}"
        try:
            with suppress(OSError):  # no route: no UDP
                outside.connect(server)
                return any(_try(interface, peer, relay, inside, outside) for _attempt in range(TRIES))
        finally:
            run(["wg", "set", interface, "peer", peer, "remove"])
    return False


def _try(interface: str, peer: str, relay: str, inside: socket.socket, outside: socket.socket) -> bool:
    """Removed and added, the peer begins a new handshake at once."""
    there = ["peer", peer, "remove", "peer", peer, "endpoint", relay, "persistent-keepalive", "1"]
    run(["wg", "set", interface, *there])
    try:
        initiation = inside.recv(2048)
        outside.send(initiation)
        return answers(outside.recv(2048), initiation)
    except (TimeoutError, socket.timeout, ConnectionError):
        return False


def answers(message: bytes, initiation: bytes) -> bool:
    """Say whether a node sent this because of the initiation. One that is under load answers with a cookie."""
    kind = message[0] if message else 0
    if kind not in RECEIVER or len(message) != LENGTHS[kind]:
        return False
    (sender,), (receiver,) = struct.unpack_from("<I", initiation, 4), struct.unpack_from("<I", message, RECEIVER[kind])
    return bool(sender == receiver)


def _socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    sock.settimeout(PATIENCE)
    return sock
