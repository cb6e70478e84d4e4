# SPDX-License-Identifier: GPL-3.0-or-later
"""The active balancer goes, in every way that there is; clients notice little and keep their sessions."""

from __future__ import annotations

import time

import pytest
from traffic.figures import Figures
from traffic.hosts import Lab
from traffic.pair import Pair

OUTAGE_SECONDS = 3
STALE_AFTER = 5  # seconds after which wirefleet-steer knows that it was frozen


@pytest.mark.parametrize(("befall", "undo"), [("cut", "mend"), ("kill", "start")])
def test_the_active_balancer_is_lost(lab: Lab, pair: Pair, figures: Figures, befall: str, undo: str) -> None:
    active, other = pair.roles()
    with pair.watched() as seen:
        lab.befall(befall, active)
        pair.wait_active(other)
    figures.add(f"active balancer {befall}: longest outage", seen.outage, "s")
    try:
        assert seen.outage <= OUTAGE_SECONDS, str(seen)
        assert seen.sessions_kept, seen.handshakes
    finally:
        with pair.watched() as seen:
            lab.befall(undo, active)
            assert pair.roles() == (other, active)
    figures.add(f"active balancer {befall}, it returns: pings lost", f"{seen.lost} of {seen.sent}")
    assert seen.lost == 0, str(seen)


def test_a_frozen_balancer_wakes_up_and_takes_over_again(lab: Lab, pair: Pair, figures: Figures) -> None:
    """It was active and believes that it is; of two that are active, VRRP prefers the one with the greater address."""
    greater, lesser = "lb2", "lb1"
    if pair.roles()[0] != greater:
        pair.host(lesser).check_output("systemctl restart wirefleet-keepalived")
        assert pair.roles() == (greater, lesser)
    with pair.watched() as seen:
        lab.befall("freeze", greater)
        pair.wait_active(lesser)
        time.sleep(2 * STALE_AFTER)
    figures.add("active balancer freeze: longest outage", seen.outage, "s")
    assert seen.outage <= OUTAGE_SECONDS, str(seen)
    assert seen.sessions_kept, seen.handshakes
    with pair.watched() as seen:  # these sessions begin while it is frozen
        lab.befall("start", greater)
        assert pair.roles() == (greater, lesser)
    figures.add("active balancer freeze, it wakes up: longest outage", seen.outage, "s")
    assert seen.outage <= OUTAGE_SECONDS, str(seen)
    assert seen.sessions_kept, seen.handshakes


def test_a_planned_takeover(pair: Pair, figures: Figures) -> None:
    active, other = pair.roles()
    with pair.watched() as seen:
        pair.host(active).check_output("systemctl stop wirefleet-keepalived")
        pair.wait_active(other)
    pair.host(active).check_output("systemctl start wirefleet-keepalived")
    figures.add("planned takeover: pings lost, at 50/s each", f"{seen.lost} of {seen.sent}")
    assert pair.roles() == (other, active)
    assert seen.sent >= 1000
    assert seen.lost == 0, str(seen)
    assert seen.sessions_kept, seen.handshakes
