# SPDX-License-Identifier: GPL-3.0-or-later
"""Routed mode: the private network's router sends packets for clients to whichever balancer is active."""

from __future__ import annotations

import pytest
from traffic.cluster import inner_address
from traffic.download import Download
from traffic.figures import Figures
from traffic.hosts import Lab
from traffic.pair import Pair
from traffic.ping import Ping

DOWNLOAD_SECONDS = 10
# TCP's own time-outs double: what was lost for 3 s may be sent again after 6.2 s only.
STALL_SECONDS = 7


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "cut"])
def test_downloads_run_through_a_takeover(lab: Lab, pair: Pair, figures: Figures, planned: bool) -> None:
    active, other = pair.roles()
    c1, c2 = pair.clients.values()
    four, six = (Download(each.host, pair.targets[each.name], DOWNLOAD_SECONDS) for each in (c1, c2))
    to_client = Ping(lab.host("web"), inner_address(c1.host), 0.02)
    try:
        with pair.watched() as seen, to_client as ping, four, six:
            if planned:
                pair.host(active).check_output("systemctl restart wirefleet-keepalived")
            else:
                lab.befall("cut", active)
            pair.wait_active(other)
    finally:
        lab.befall("mend", active)
    what = "planned takeover" if planned else "active balancer cut"
    for version, download in ((4, four), (6, six)):
        figures.add(f"{what}: stall of a download over IPv{version}", download.stall, "s")
        assert download.complete, str(download)
        assert download.stall < STALL_SECONDS, str(download)
    figures.add(f"{what}: pings to a client lost, from the private network", f"{ping.lost} of {ping.sent}")
    assert ping.outage < STALL_SECONDS, str(ping)
    assert seen.sessions_kept, seen.handshakes
    if planned:
        assert ping.lost == seen.lost == 0, f"to the client: {ping}; from clients: {seen}"
    assert pair.roles() == (other, active)
