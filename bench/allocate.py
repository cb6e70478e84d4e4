# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""How long allocate_addresses takes, for a new fleet and for a run that changes nothing.

    python bench/allocate.py

Prints a table of medians, and on its last line the seconds of a new fleet as JSON, by the number of clients.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".collections"))

from ansible_collections.wirefleet.vpn.plugins.filter.allocate_addresses import allocate_addresses

CLIENTS = (1_000, 10_000, 100_000)
REPEATS = 3
NETWORKS = ["10.0.0.0/8", "fd00:80::/48"]
NOW = "2026-11-22T00:00:00Z"


def median_seconds(run: Callable[[], Any]) -> float:
    """Return the median wall time of one run."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    fresh_seconds: dict[str, float] = {}
    print(f"allocate_addresses, {len(NETWORKS)} networks, median of {REPEATS}")
    print(f"{'clients':>8} {'new fleet':>10} {'unchanged':>10}")
    for count in CLIENTS:
        names = [f"client-{number:06}" for number in range(count)]
        ledger = allocate_addresses(names, NETWORKS, now=NOW)
        fresh = median_seconds(partial(allocate_addresses, names, NETWORKS, now=NOW))
        again = median_seconds(partial(allocate_addresses, names, NETWORKS, ledger, now=NOW))
        fresh_seconds[str(count)] = round(fresh, 4)
        print(f"{count:>8} {fresh:>8.3f} s {again:>8.3f} s")
    print(json.dumps(fresh_seconds))


if __name__ == "__main__":
    main()
