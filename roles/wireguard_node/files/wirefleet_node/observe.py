# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Look at the node. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Union

from wirefleet import nft
from wirefleet.command import CommandError, run
from wirefleet.iproute import Route, Rule, missing_routes, missing_rules

from .settings import Config, Table

IFF_UP = 0x1  # linux/if.h
TIMEOUT = 2.0  # seconds; these commands answer within milliseconds

Fixture = Union[Rule, Route, Table]  # what the agent keeps in place


def missing(config: Config) -> tuple[list[Fixture], list[str]]:
    """Return the fixtures that are not there, and what could not be looked at."""
    lost: list[Fixture] = []
    errors: list[str] = []
    looks: list[Callable[[], Iterable[Fixture]]] = [
        lambda: missing_rules(config.rules),
        lambda: missing_routes(config.routes),
        lambda: [] if nft.table_present(config.table.family, config.table.name) else [config.table],
    ]
    for look in looks:
        try:
            lost += look()
        except CommandError as error:
            errors.append(str(error))
    return lost, errors


def link(interface: str) -> str:
    """Return "up", "down" or "missing". A WireGuard interface has no carrier; up means that it was set up."""
    try:
        flags = int(Path("/sys/class/net", interface, "flags").read_text(encoding="ascii"), 16)
    except OSError:
        return "missing"
    return "up" if flags & IFF_UP else "down"


def listen_port(interface: str) -> int | None:
    try:
        return int(run(["wg", "show", interface, "listen-port"], timeout=TIMEOUT))
    except (CommandError, ValueError):
        return None


def sysctls(paths: Iterable[str]) -> dict[str, str | None]:
    return {path: _sysctl(path) for path in paths}


def _sysctl(path: str) -> str | None:
    try:
        return Path("/proc/sys", path).read_text(encoding="ascii").strip()
    except OSError:
        return None
