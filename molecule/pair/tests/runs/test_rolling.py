# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that restarts what one balancer has, and sets up a fresh host as the other, while clients are busy."""

from __future__ import annotations

from traffic.figures import Figures
from traffic.hosts import Lab
from traffic.pair import Pair
from traffic.site import site_of_checkout

# Rules, daemon and HAProxy get other configurations.
CHANGE = '{"haproxy_lb_source_rate": 51, "haproxy_lb_collapse_window": 11, "haproxy_lb_check_downinter": "900ms"}'


def test_an_update_and_a_fresh_host_in_one_run(lab: Lab, pair: Pair, figures: Figures) -> None:
    active, other = pair.roles()
    before = started(pair, active)
    with pair.watched() as seen:
        pair.wipe(other)
        replaced = ("--extra-vars", f"vpn_replaced_hosts={other}")
        run = site_of_checkout(lab.inventory, options=(*replaced, "--extra-vars", CHANGE))
    assert run.code == 0, run.output
    assert started(pair, active) != before, "wirefleet-steer was restarted"
    figures.add("one balancer updated, the other replaced: pings lost", f"{seen.lost} of {seen.sent}")
    assert seen.sent >= 1000
    assert seen.lost == 0, str(seen)
    assert pair.roles() == (active, other)
    with pair.watched() as seen:
        pair.host(active).check_output("systemctl restart wirefleet-keepalived")
        pair.wait_active(other)
    figures.add("takeover by the fresh host: pings lost", f"{seen.lost} of {seen.sent}")
    assert seen.lost == 0, str(seen)
    assert seen.sessions_kept, seen.handshakes


def started(pair: Pair, name: str) -> str:
    return pair.host(name).check_output("systemctl show --property=InvocationID wirefleet-steer")
