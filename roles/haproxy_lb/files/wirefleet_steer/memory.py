# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What a daemon that starts again has to know of nodes that do not answer any more: their clients.

In the unit's runtime directory, which outlives the daemon but not a boot.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from wirefleet.endpoint import address_of

from .adoption import Session

VERSION = 1

Clients = Mapping[str, Mapping[str, Session]]  # node -> public key -> session


def save(path: Path, clients: Clients) -> None:
    """Replace the file as a whole."""
    nodes = {
        node: {key: [session.endpoint, session.handshake] for key, session in sessions.items()}
        for node, sessions in clients.items()
    }
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"version": VERSION, "nodes": nodes}), encoding="utf-8")
    os.replace(draft, path)


def load(path: Path) -> dict[str, dict[str, Session]]:
    """Return what was saved, which is nothing at first. Raise a ValueError when it is not what ``save`` writes."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except RecursionError as error:
        raise ValueError(str(error)) from None
    try:
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']}, not {VERSION}")
        return {
            node: {key: _session(endpoint, handshake) for key, (endpoint, handshake) in sessions.items()}
            for node, sessions in document["nodes"].items()
        }
    except (AttributeError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _session(endpoint: str, handshake: int) -> Session:
    address_of(endpoint)
    return Session(endpoint, int(handshake))
