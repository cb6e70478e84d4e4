# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud's router with an API: ``PUT /active/NAME`` gives a balancer the packets for the floating addresses, and those
that nodes send back. ``GET /active`` says who has them.

    cloud.py BALANCERS      JSON: name -> {"public": [addresses], "backend": [addresses]}

It runs on the lab's gw. What nodes send back has a routing table of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

FLOATING = {"-4": "192.0.2.1/32", "-6": "2001:db8:108::1/128"}
BACKEND_TABLE = "100"
PORT = 8080
AWAY = Path("/run/cloud-away")  # while it is there, the API is out of order


class Handler(BaseHTTPRequestHandler):
    """The API."""

    balancers: ClassVar[dict[str, dict[str, list[str]]]]
    active = ""

    def do_GET(self) -> None:
        self.answer(self.active)

    def do_PUT(self) -> None:
        name = self.path.removeprefix("/active/")
        if AWAY.exists():
            self.send_error(503)
            return
        if name not in self.balancers:
            self.send_error(404)
            return
        for family in FLOATING:
            via = {side: addresses[family == "-6"] for side, addresses in self.balancers[name].items()}
            ip(family, "route", "replace", FLOATING[family], "via", via["public"])
            ip(family, "route", "replace", "default", "via", via["backend"], "table", BACKEND_TABLE)
        Handler.active = name
        self.answer(name)

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def main() -> None:
    Handler.balancers = json.loads(sys.argv[1])
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()


main()
