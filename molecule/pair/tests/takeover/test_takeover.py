# SPDX-License-Identifier: GPL-3.0-or-later
"""The active balancer goes, in every way that there is; clients notice little and keep their sessions."""

from __future__ import annotations

import pytest
from traffic.figures import Figures
from traffic.hosts import Lab
from traffic.pair import Pair

OUTAGE_SECONDS = 3


@pytest.mark.parametrize(("befall", "undo"), [("cut", "mend"), ("kill", "start"), ("freeze", "start")])
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


def test_a_planned_takeover(pair: Pair, figures: Figures) -> None:
    active, other = pair.roles()
    with pair.watched() as seen:
        pair.host(active).check_output("systemctl stop wirefleet-keepalived")
        pair.wait_active(other)
    pair.host(active).check_output("systemctl start wirefleet-keepalived")
    figures.add("planned takeover: pings lost, at 50/s each", f"{seen.lost} of {seen.sent}")
    assert pair.roles() == (other, active)
    assert seen.lost == 0, str(seen)
    assert seen.sessions_kept, seen.handshakes
