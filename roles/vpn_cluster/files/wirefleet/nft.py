# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""nftables, through ``nft`` and its change notifications."""

from __future__ import annotations

import errno
import os
import socket

from .command import run

NETLINK_NETFILTER = 12  # linux/netlink.h
NFNLGRP_NFTABLES = 7  # linux/netfilter/nfnetlink.h


def apply(script: str) -> None:
    """Apply ``script`` as one transaction: all of it, or nothing and a CommandError."""
    run(["nft", "-f", "-"], stdin=script)


def load(path: str | os.PathLike[str]) -> None:
    """Apply the file at ``path`` as one transaction."""
    run(["nft", "-f", os.fspath(path)])


def table_present(family: str, name: str) -> bool:
    """Say whether the kernel has the table; asks for table names only, so it is cheap whatever the tables hold."""
    return f"table {family} {name}" in run(["nft", "list", "tables", family]).splitlines()


class RulesetWatch:
    """A socket that becomes readable when anybody changes the ruleset, so that select() wakes within milliseconds.

    It tells *that* something changed, never what: the reader looks at the ruleset itself. Our own changes wake it too.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.setblocking(False)
        self._socket.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read every waiting notification; True when there was one, or when the kernel had to throw some away."""
        changed = False
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            changed = True

    def close(self) -> None:
        self._socket.close()
