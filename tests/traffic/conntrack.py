# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's table of tracked connections, and how to fill it.

Its limit is the whole machine's, and only the machine itself may change it. But each host counts its own connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from testinfra.host import Host

COUNT, LIMIT = (f"/proc/sys/net/netfilter/nf_conntrack_{name}" for name in ("count", "max"))
# One line for each connection, as `conntrack` reads them. "ASSURED": both sides have spoken, and so the kernel does not
# drop them in favour of new ones. From addresses that nobody has, to such.
LINES = (
    "import sys\n"
    "for n in range(int(sys.argv[1])):\n"
    "    print(f'-I -p udp -s 198.19.{n >> 15 & 255}.{n >> 7 & 255} -d 192.0.2.{n & 127} --sport {n % 50000 + 1000}"
    " --dport 9 -t {sys.argv[2]} -u ASSURED,SEEN_REPLY')\n"
)


def tracked(host: Host) -> int:
    """How many connections a host tracks."""
    return int(host.check_output("cat %s", COUNT))


def limit(host: Host) -> int:
    return int(host.check_output("cat %s", LIMIT))


def install(host: Host) -> None:
    """Nobody but this test needs the program."""
    host.check_output(
        "command -v conntrack || (apt-get -qq update && apt-get -qq install --yes conntrack) > /dev/null 2>&1"
    )


def empty(host: Host) -> None:
    """Forget what came from addresses that nobody has."""
    install(host)
    host.check_output("conntrack --delete --orig-src 198.19.0.0/16 > /dev/null 2>&1; true")


@contextmanager
def filled(host: Host, share: float, seconds: int = 600) -> Iterator[None]:
    """Let a host track so many connections, of all that it can, that no new one pushes out."""
    install(host)
    missing = int(limit(host) * share) - tracked(host)
    host.check_output("python3 -c %s %s %s > /run/connections", LINES, str(missing), str(seconds))
    try:
        host.run("conntrack --load-file /run/connections > /dev/null 2>&1")
        yield
    finally:
        host.check_output("rm /run/connections")
        empty(host)
