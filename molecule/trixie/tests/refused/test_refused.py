# SPDX-License-Identifier: GPL-3.0-or-later
"""What Debian 13 brings, and what can not serve."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from traffic.hosts import Lab
from traffic.site import site_of_checkout

INSTALL = "apt-get install --yes --quiet=2 --no-install-recommends --allow-downgrades %s"


@pytest.fixture
def _its_own_wireguard_go(lab: Lab) -> Iterator[None]:
    """n1 gets Debian 13's, which nothing that runs notices; the lab's hosts otherwise have Debian 12's."""
    lab.host("n1").check_output(INSTALL, "wireguard-go/trixie")
    yield
    lab.host("n1").check_output(INSTALL, "wireguard-go")


@pytest.mark.usefixtures("_its_own_wireguard_go")
def test_a_wireguard_go_that_loses_packets(lab: Lab) -> None:
    if lab.host("n1").run("test -d /sys/module/wireguard || modprobe --dry-run --quiet wireguard").succeeded:
        pytest.skip("the kernel has WireGuard")
    run = site_of_checkout(lab.inventory)
    run.assert_refused("n1: its kernel has no WireGuard, and wireguard-go 0.0.20231211")
