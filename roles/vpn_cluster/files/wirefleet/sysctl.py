# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Settings of the kernel, by their paths below /proc/sys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def values(paths: Iterable[str]) -> dict[str, str | None]:
    """Return what the kernel has; None where there is no such setting."""
    return {path: _value(path) for path in paths}


def faults(wanted: Mapping[str, str], found: Mapping[str, str | None]) -> Iterator[str]:
    """Say what is otherwise than it is wanted."""
    for path, wish in wanted.items():
        value = found.get(path)
        if value != wish:
            yield f"sysctl {path}: {'missing' if value is None else f'is {value}'}, wanted {wish}"


def _value(path: str) -> str | None:
    try:
        return Path("/proc/sys", path).read_text(encoding="ascii").strip()
    except OSError:
        return None
