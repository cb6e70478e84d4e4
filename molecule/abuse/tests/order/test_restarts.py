# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything is restarted, in one order after another."""

from __future__ import annotations

import random
import time

import pytest
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.pair import SERVED_SECONDS, Pair

UNITS = {
    **dict.fromkeys(("lb1", "lb2"), ("haproxy", "wirefleet-steer", "wirefleet-keepalived", "wg-quick@wf0")),
    **dict.fromkeys(("n1", "n2"), ("wirefleet-node", "wg-quick@wg0", "wg-quick@wf0")),
}
PAUSES = (0.0, 3.0)  # seconds between two restarts
# A stock client notices by itself after 15 s that nobody answers. That may befall it when both nodes, or balancers, are
# restarted within moments.
OUTAGE_SECONDS = 30


@pytest.mark.parametrize("seed", range(2))
def test_restarts_in_any_order(lab: Lab, pair: Pair, figures: Figures, seed: int) -> None:
    order = [(host, unit) for host, units in UNITS.items() for unit in units]
    dice = random.Random(seed)
    dice.shuffle(order)
    pair.roles()
    with pair.watched() as seen:
        for host, unit in order:
            lab.host(host).check_output("systemctl restart %s", unit)
            time.sleep(dice.uniform(*PAUSES))
    begin = time.monotonic()
    pair.roles()
    for client in pair.clients.values():
        until(f"{client.name} is served", SERVED_SECONDS, lambda: pair.served(client))  # noqa: B023
    figures.add(f"{len(order)} restarts, order {seed}: pings lost, at 50/s each", f"{seen.lost} of {seen.sent}")
    figures.add(f"{len(order)} restarts, order {seed}: longest outage", seen.outage, "s")
    figures.add(f"{len(order)} restarts, order {seed}: all is well again after", time.monotonic() - begin, "s")
    assert seen.outage < OUTAGE_SECONDS, f"{order}: {seen}"
