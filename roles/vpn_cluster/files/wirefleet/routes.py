# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A routing table of our own with thousands of routes, of which a few change at a time.

iproute.py keeps a handful of routes beside those of others; here the whole table is ours. What is in it is read now and
then, because others may delete routes and a link that goes down takes its routes along; in between, only differences
are written, all in one ``ip`` command. The kernel keeps the table while our daemon is away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .command import CommandError, run
from .iproute import HOST_BITS

MIN_PAUSE = 1.0  # seconds between two readings …
SHARE = 50  # … and for no more than one part in so many of the time, however many routes there are
TIMEOUT = 20.0  # seconds: tens of thousands of routes take one
EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True)
class Hop:
    """Where to: the neighbour ``via`` on ``device``, or whoever is on it; nowhere (unreachable) without a device."""

    device: str | None = None
    via: str | None = None

    def to(self, network: str) -> str:
        """The route as ``ip route`` reads it."""
        if self.device is None:
            return f"unreachable {network}"
        # onlink: a flapping link loses its addresses too, and they may return later than we do.
        return f"{network} via {self.via} dev {self.device} onlink" if self.via else f"{network} dev {self.device}"


class RoutingTable:
    """The routes of one table in both families: network, as WireGuard and ``ip`` spell it -> next hop."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._present: dict[str, Hop] | None = None  # what the kernel has, as far as we know
        self._read_due = float("-inf")

    def present(self) -> Mapping[str, Hop]:
        """Return what the kernel has; it is asked when that may have changed. Raises a CommandError."""
        begin = time.monotonic()
        if self._present is None or begin >= self._read_due:
            self._present = {network: hop for family in HOST_BITS for network, hop in _routes(family, self.number)}
            now = time.monotonic()
            self._read_due = now + max(MIN_PAUSE, SHARE * (now - begin))
        return self._present

    def write(self, wanted: Mapping[str, Hop]) -> int:
        """Make the kernel's table hold these, and no others; return how many routes that changed.

        Raises a CommandError when some could not be written; the others were.
        """
        present = self.present()
        lines = [f"replace {hop.to(network)}" for network, hop in wanted.items() if present.get(network) != hop]
        # After the new ones: what goes may leave its packets to a wider route.
        lines += [f"delete {network}" for network in present.keys() - wanted.keys()]
        if lines:
            self._present = None  # until we know that all of it was done
            batch = "".join(f"route {line} table {self.number}\n" for line in lines)
            run(["ip", "-force", "-batch", "-"], stdin=batch, timeout=TIMEOUT)
            self._present = dict(wanted)
        return len(lines)


def _routes(family: int, table: int) -> Iterator[tuple[str, Hop]]:
    try:
        answer = run(["ip", f"-{family}", "-j", "-N", "route", "show", "table", str(table)], timeout=TIMEOUT)
    except CommandError as error:
        if "FIB table does not exist" in error.stderr:  # nobody has put a route into it yet
            return
        raise
    for row in json.loads(answer or "[]"):
        network = row["dst"] if row["dst"] != "default" else EVERYTHING[family]
        unicast = row.get("type", "unicast") in ("unicast", "1")
        yield (
            network if "/" in network else f"{network}/{HOST_BITS[family]}",
            Hop(row["dev"], row.get("gateway")) if unicast and "dev" in row else Hop(),
        )
