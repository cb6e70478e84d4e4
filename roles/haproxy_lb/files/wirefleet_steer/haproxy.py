# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""HAProxy's admin socket (the runtime API)."""

from __future__ import annotations

import csv
import io
import re
import socket
from dataclasses import dataclass
from http import HTTPStatus

from wirefleet.cli import printable

TIMEOUT = 2.0  # seconds for an answer; HAProxy gives it within milliseconds or not at all
UNITS = {"us": 1e-6, "": 1e-3, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}  # of a time, in seconds
SERVERS = 4  # "show stat": the type that selects servers


class HAProxyError(Exception):
    """HAProxy can not be asked, or its answer can not be read."""


@dataclass(frozen=True)
class Report:
    """One server's line of ``show stat``, in HAProxy's own words."""

    status: str  # "UP", "UP 1/2", "DOWN", "DOWN 1/2", "NOLB", "DRAIN", "MAINT", "no check", …
    weight: int  # 0..256, the effective one
    check_status: str = ""  # "INI", "L4TOUT", "L7OK", …; empty while checks are off
    check: str = ""  # the last check for people: what it found, and the server's words
    last_change: int = 0  # seconds since the status changed
    code: int = 0  # the last check's HTTP status, if there is one
    duration: float | None = None  # seconds that the last check took
    id: int = 0  # the server's number in the backend
    under_way: bool = False  # a check is; of the one before, HAProxy has forgotten the server's words and the code

    @property
    def drained(self) -> bool:
        """The node's agent says so. A server that was down before stays "DOWN" by that, one that was up is "NOLB"."""
        return self.code == HTTPStatus.NOT_FOUND

    @property
    def refused(self) -> bool:
        """Nobody listens there, but the host's kernel has said so: whatever leads to it works."""
        return self.check_status == "L4CON" and "Connection refused" in self.check

    @property
    def maybe_refused(self) -> bool:
        """There was no connection, and nobody can tell any more whether it was refused."""
        return self.check_status == "L4CON" and self.under_way


def seconds(text: str) -> float:
    """Read a time as in HAProxy's configuration ("500ms"). Raises a ValueError."""
    found = re.fullmatch(r"(\d+)([a-z]*)", text)
    if not found or found[2] not in UNITS:
        raise ValueError(f"{text!r} is not a time as HAProxy writes it")
    return int(found[1]) * UNITS[found[2]]


def ask(path: str, command: str) -> str:
    """Send one command and return the whole answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(path)
            sock.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode(errors="replace")
    except OSError as error:
        raise HAProxyError(f"{path}: {error}") from error


def servers(path: str, backend: str) -> dict[str, Report]:
    """Return what HAProxy says about each server of ``backend``."""
    return parse(ask(path, f"show stat {backend} {SERVERS} -1"))


def end_connections(path: str, backend: str, server: str, number: int) -> None:
    """End a server's TCP connections, and forget that their clients stick to it; ``number`` is the server's id."""
    ask(path, f"clear table {backend} data.server_id eq {number}")
    ask(path, f"shutdown sessions server {backend}/{server}")


def version(path: str) -> str:
    """Return the version of the HAProxy that runs."""
    found = re.search(r"^Version: (\S+)", ask(path, "show info"), re.MULTILINE)
    return found[1] if found else "unknown"


def parse(answer: str) -> dict[str, Report]:
    """Read the CSV of ``show stat``; columns are found by name, later versions add more."""
    if not answer.startswith("# "):
        raise HAProxyError(f"show stat: unexpected answer {answer.strip()[:80]!r}")
    try:
        return {
            row["svname"]: Report(
                status=row["status"],
                weight=int(row["weight"] or 0),
                check_status=row["check_status"].removeprefix("* "),
                check=printable(": ".join(filter(None, (row["check_desc"], row["last_chk"])))),
                last_change=int(row["lastchg"] or 0),
                code=int(row["check_code"] or 0),
                duration=int(row["check_duration"]) / 1000 if row["check_duration"] else None,
                id=int(row["sid"] or 0),
                under_way=row["check_status"].startswith("* "),
            )
            for row in csv.DictReader(io.StringIO(answer[2:]))
        }
    except (KeyError, ValueError, AttributeError, csv.Error) as error:
        raise HAProxyError(f"show stat: {type(error).__name__}: {error}") from error
