# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Events for the journal: one line per change, none per poll."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import deque
from typing import NamedTuple

_BARE = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")


class Event(NamedTuple):
    """``at`` is seconds since the epoch."""

    at: float
    name: str
    fields: dict[str, str]


recent: deque[Event] = deque(maxlen=50)  # the last ones, for whoever shows them


def event(kind: str, /, **fields: object) -> None:
    """Write ``event=name key=value key="with spaces"`` to stderr; fields that are None are left out."""
    texts = {key: str(value) for key, value in fields.items() if value is not None}
    recent.append(Event(time.time(), kind, texts))
    words = [f"{key}={_quoted(text)}" for key, text in {"event": kind, **texts}.items()]
    print(" ".join(words), file=sys.stderr, flush=True)


def _quoted(text: str) -> str:
    """Quote what a reader could not tell apart otherwise; JSON also keeps line breaks inside the line."""
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
