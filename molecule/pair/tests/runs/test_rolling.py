# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that restarts what balancers have, one after the other, while clients are busy."""

from __future__ import annotations

from traffic.figures import Figures
from traffic.hosts import Lab
from traffic.pair import BALANCERS, Pair
from traffic.site import site_of_checkout

# Rules, daemon and HAProxy get other configurations.
CHANGE = '{"haproxy_lb_source_rate": 51, "haproxy_lb_collapse_window": 11, "haproxy_lb_check_downinter": "900ms"}'


def test_a_rolling_update_loses_nothing(lab: Lab, pair: Pair, figures: Figures) -> None:
    pair.roles()
    before = {name: started(pair, name) for name in BALANCERS}
    with pair.watched() as seen:
        run = site_of_checkout(lab.inventory, options=("--extra-vars", CHANGE))
    assert run.code == 0, run.output
    assert all(started(pair, name) != before[name] for name in BALANCERS), "wirefleet-steer was restarted"
    figures.add("rolling update of both balancers: pings lost", f"{seen.lost} of {seen.sent}")
    assert seen.sent >= 1000
    assert seen.lost == 0, str(seen)
    pair.roles()


def started(pair: Pair, name: str) -> str:
    return pair.host(name).check_output("systemctl show --property=InvocationID wirefleet-steer")
