# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold connections to an HTTP server: ``slow.py ADDRESS PORT COUNT SECONDS``.

Each sends the head of a request that never ends, a byte every now and then, and is opened again when the server has had
enough. It runs on a lab's host, where nothing of ours is installed, and prints how often connections were ended.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress

HEAD = b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: "
PAUSE = 0.5  # seconds between two bytes


def connected(address: str, port: int) -> socket.socket | None:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.settimeout(1)
    with suppress(OSError):
        sock.connect((address, port))
        sock.sendall(HEAD)
        sock.setblocking(False)
        return sock
    sock.close()
    return None


def alive(sock: socket.socket) -> bool:
    try:
        sock.send(b"a")
        return bool(sock.recv(4096))
    except BlockingIOError:
        return True
    except OSError:
        return False


def main() -> None:
    address, port, count, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    held: list[socket.socket] = []
    ended, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for sock in [sock for sock in held if not alive(sock)]:
            held.remove(sock)
            sock.close()
            ended += 1
        while len(held) < count and time.monotonic() < end:
            opened = connected(address, port)
            if opened is None:
                break
            held.append(opened)
        time.sleep(PAUSE)
    print(ended)


main()
