# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""How many clients each node had over the last while, for the status page's lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

INTERVAL = 10.0  # seconds between two samples
SAMPLES = 180  # half an hour


class History:
    def __init__(self) -> None:
        self._counts: deque[Mapping[str, int]] = deque(maxlen=SAMPLES)
        self._due = float("-inf")

    def follow(self, counts: Mapping[str, int], now: float) -> None:
        """Take a sample when it is time for one; ``now`` is on the monotonic clock."""
        if now >= self._due:
            self._due = now + INTERVAL
            self._counts.append(dict(counts))

    def of(self, node: str) -> Sequence[int]:
        return [counts.get(node, 0) for counts in list(self._counts)]
