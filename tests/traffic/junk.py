# SPDX-License-Identifier: GPL-3.0-or-later
"""Junk for a WireGuard port, from all addresses of this host and many ports: ``junk.py COUNT ADDRESS...``.

It runs on a lab's host, where nothing of ours is installed.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import sys
from collections.abc import Iterator

SOCKETS = 2048
PORT = 51820
# Lengths and types of WireGuard's messages, and what is neither. Initiations that look right go on to the nodes.
SHAPES = ((148, b"\1\0\0\0"), (92, b"\2\0\0\0"), (64, b"\3\0\0\0"), (128, b"\4\0\0\0"), (200, b"junk"))


def sockets(target: str) -> Iterator[socket.socket]:
    """Bound to each of this host's addresses in turn, on whatever ports are free."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with os.popen("ip -oneline address show dev public scope global") as listing:
        found = [line.split()[3].split("/")[0] for line in listing]
    addresses = [address for address in found if (":" in address) == (":" in target)]
    for address in itertools.islice(itertools.cycle(addresses), SOCKETS):
        sender = socket.socket(family, socket.SOCK_DGRAM)
        sender.bind((address, 0))
        sender.connect((target, PORT))
        yield sender


def main() -> None:
    count, *targets = sys.argv[1:]
    senders = [sender for target in targets for sender in sockets(target)]
    random.shuffle(senders)
    noise = os.urandom(1 << 16)
    for number, sender in zip(range(int(count)), itertools.cycle(senders)):
        size, start = SHAPES[number % len(SHAPES)]
        offset = random.randrange(len(noise) - size)
        sender.send(start + noise[offset : offset + size - len(start)])


main()
