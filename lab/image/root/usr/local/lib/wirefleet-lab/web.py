# SPDX-License-Identifier: GPL-3.0-or-later
"""What VPN clients reach in the lab's private network: who asks, and bytes whose checksum is known.

``GET /`` answers with a greeting and the address that the request came from, which shows whether a node translated
it. ``GET /bytes/N`` streams N bytes, byte i being ``i % 251``: 251 is prime, so a lost or doubled packet shows.
"""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATTERN = bytes(range(251)) * 256


class Handler(BaseHTTPRequestHandler):
    """Answers the two kinds of request."""

    def do_GET(self) -> None:
        kind, _, size = self.path.lstrip("/").partition("/")
        if not self.path.strip("/"):
            peer = self.client_address[0].removeprefix("::ffff:")
            text = f"wirefleet lab: private web server\n{peer}\n".encode()
            self.head(len(text))
            self.wfile.write(text)
        elif kind == "bytes" and size.isdecimal():
            self.stream(int(size))
        else:
            self.send_error(404)

    def stream(self, size: int) -> None:
        self.head(size)
        for start in range(0, size, len(PATTERN)):
            self.wfile.write(PATTERN[: size - start])

    def head(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()


class DualStackServer(ThreadingHTTPServer):
    """One socket for both families: IPv4 peers appear as ``::ffff:a.b.c.d``."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


if __name__ == "__main__":
    DualStackServer(("::", 80), Handler).serve_forever()
