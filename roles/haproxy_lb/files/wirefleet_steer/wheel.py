# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Which node a new client gets: a wheel of slots, shared out by weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b

SLOTS = 1024  # as in steer.nft: jhash … mod 1024


def wheel(weights: Mapping[str, int]) -> list[str | None]:
    """Return the node of each slot; None everywhere when no node has a weight.

    Weighted rendezvous hashing: every node draws a score for every slot and the best one has it. So balancers agree
    without talking, and when a node leaves, only its own slots get another owner.
    """
    draws = [(name, weight, _draws(name)) for name, weight in sorted(weights.items()) if weight > 0]
    if not draws:
        return [None] * SLOTS
    return [max(draws, key=lambda node: node[1] * node[2][slot])[0] for slot in range(SLOTS)]


@lru_cache(maxsize=256)
def _draws(name: str) -> tuple[float, ...]:
    """One number per slot: -1 / ln(u), u uniform in (0, 1). Times a weight w it is the greatest of all with P ~ w."""
    return tuple(
        -1 / math.log((int.from_bytes(blake2b(f"{name}/{slot}".encode(), digest_size=6).digest(), "big") + 0.5) / 2**48)
        for slot in range(SLOTS)
    )
