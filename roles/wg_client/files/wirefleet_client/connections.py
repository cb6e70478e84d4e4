# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""TCP connections of one user of this host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ESTABLISHED = "01"  # include/net/tcp_states.h
LOCAL, STATE, UID = 1, 3, 7  # columns of /proc/net/tcp


def established(uid: int, directory: Path = Path("/proc/net")) -> frozenset[str]:
    """Return the local ends of the user's connections, as the kernel writes them."""
    return frozenset(
        row[LOCAL]
        for table in ("tcp", "tcp6")
        for row in _rows(directory / table)
        if row[STATE] == ESTABLISHED and int(row[UID]) == uid
    )


def _rows(table: Path) -> Iterator[list[str]]:
    try:
        lines = table.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:  # no IPv6 on this host
        return
    yield from (line.split() for line in lines[1:])
