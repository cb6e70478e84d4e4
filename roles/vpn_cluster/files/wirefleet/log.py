# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Events for the journal: one line per change, none per poll."""

from __future__ import annotations

import json
import re
import sys

_BARE = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")


def event(kind: str, /, **fields: object) -> None:
    """Write ``event=name key=value key="with spaces"`` to stderr; fields that are None are left out."""
    words = [f"{key}={_value(value)}" for key, value in {"event": kind, **fields}.items() if value is not None]
    print(" ".join(words), file=sys.stderr, flush=True)


def _value(value: object) -> str:
    """Quote what a reader could not tell apart otherwise; JSON also keeps line breaks inside the line."""
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
