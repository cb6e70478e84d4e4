# SPDX-License-Identifier: GPL-3.0-or-later
"""Download at a steady pace: ``reader.py ADDRESS BYTES BYTES_PER_SECOND``, and say how that went, as JSON.

It runs on a lab's host, where nothing of ours is installed. The receive buffer is small, so that a network that stands
still is noticed when it does, and not when the buffer is empty. SIGTERM ends it early, and is no error.
"""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import sys
import threading
import time

BUFFER = 65536
CHUNK = 16384
SILENCE = 60.0  # seconds without a byte, after which nobody would wait any longer


def main() -> None:
    address, size, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    digest, stall, error, left = hashlib.sha256(), 0.0, None, size
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            server.settimeout(SILENCE)
            server.connect((address, 80))
            server.sendall(f"GET /bytes/{size} HTTP/1.0\r\n\r\n".encode())
            stream = server.makefile("rb", buffering=0)
            while stream.readline() not in (b"\r\n", b""):
                pass
            begin = time.monotonic()
            while left and not ended.is_set():
                asked = time.monotonic()
                chunk = stream.read(min(CHUNK, left))
                stall = max(stall, time.monotonic() - asked)
                if not chunk:
                    raise ConnectionError("the server has closed the connection")
                digest.update(chunk)
                left -= len(chunk)
                time.sleep(max(begin + (size - left) / rate - time.monotonic(), 0))
    except OSError as failure:
        error = f"{type(failure).__name__}: {failure}"
    print(json.dumps({"sha256": digest.hexdigest(), "left": left, "stall": round(stall, 3), "error": error}))


main()
