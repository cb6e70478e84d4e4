# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Command line: ``python3 -m wirefleet_client --config FILE COMMAND``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from wirefleet.cli import CommandLine

from . import watcher
from .decide import LIFETIME
from .server import find
from .settings import Config, load
from .tunnel import Tunnel
from .watcher import Watcher


def main(argv: Sequence[str] | None = None) -> int:
    program = CommandLine(
        "wirefleet-client", "Watcher of a wirefleet client.", "/etc/wirefleet/default/client.json", load
    )
    program.add("run", _run, "run the watcher (systemd does this)")
    program.add("status", _status, "print which way the tunnel takes; exit 0 when it is alive, 1 when not")
    program.add("release", _release, "give the tunnel back to UDP, when the watcher is to go")
    return program.main(argv)


def _run(config: Config, _options: argparse.Namespace) -> int:
    Watcher(config).run()


def _status(config: Config, _options: argparse.Namespace) -> int:
    peer = Tunnel(config.interface, config.peer).peer()
    there = find(config.host, config.port, peer.endpoint, config.run_dir / "hosts")
    age = int(time.time()) - peer.handshake if peer.handshake else None
    path = "tcp" if peer.endpoint == config.shim else "udp"
    print(json.dumps({"version": 1, "path": path, "server": there.address, "handshake_age": age}))
    return 0 if age is not None and age < LIFETIME else 1


def _release(config: Config, _options: argparse.Namespace) -> int:
    watcher.release(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
