# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""How full the ledger's networks are, as of the last run of Ansible that came to this node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

VERSION = 1


@dataclass(frozen=True)
class Network:
    """``used`` and ``quarantined`` addresses of the ``size`` that there are to give."""

    network: str
    used: int
    quarantined: int
    size: int


@dataclass(frozen=True)
class Usage:
    """``generation`` is the ledger's."""

    generation: int
    networks: tuple[Network, ...]


def load(path: Path) -> Usage | None:
    """Return what the file says; None when there is none, or none that we understand: it is for people only."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != VERSION:
            return None
        networks = tuple(
            Network(str(entry["network"]), int(entry["used"]), int(entry["quarantined"]), int(entry["size"]))
            for entry in document["networks"]
        )
        return Usage(int(document["generation"]), networks)
    except (OSError, ValueError, KeyError, TypeError):
        return None
