# SPDX-License-Identifier: GPL-3.0-or-later
"""What can not work is said before anything is changed on any host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from testinfra.host import Host
from traffic.hosts import Lab
from traffic.site import Run, site_of_checkout

BALANCER = Path(__file__).resolve().parents[2] / "balancer"
BOOTSTRAP = ("--extra-vars", "vpn_bootstrap=true")


@pytest.fixture(autouse=True)
def _far_west(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller's time zone says nothing about its clock."""
    monkeypatch.setenv("TZ", "America/New_York")


def site(lab: Lab, *variables: str) -> Run:
    more = [option for variable in variables for option in ("--extra-vars", variable)]
    return site_of_checkout(lab.inventory, BALANCER, options=(*BOOTSTRAP, *more))


@contextmanager
def undone(host: Host, do: str, undo: str) -> Iterator[None]:
    host.check_output(do)
    try:
        yield
    finally:
        host.check_output(undo)


def test_a_clock_that_is_off(lab: Lab) -> None:
    wrong = r"""printf '#!/bin/sh\nexec /bin/date --date "+30 seconds" "$@"\n' > /usr/local/bin/date"""
    with undone(lab.host("n1"), f"{wrong}; chmod +x /usr/local/bin/date", "rm /usr/local/bin/date"):
        site(lab).assert_refused("n1: its clock is ")


def test_a_firewall_that_drops_wireguard(lab: Lab) -> None:
    node = lab.host("n1")
    node.check_output("apt-get install --yes --quiet=2 nftables")
    rules = (
        "add table inet other; add chain inet other in { type filter hook input priority 0; policy drop; };"
        "add rule inet other in tcp dport 22 accept; add rule inet other in ct state established accept"
    )
    with undone(node, f"nft '{rules}'", "nft delete table inet other"):
        site(lab).assert_refused("n1: drops UDP 51820 by the policy of the chain(s) inet other in")


def test_an_haproxy_of_somebody_else(lab: Lab) -> None:
    because = "lb1: /etc/haproxy/haproxy.cfg was written by somebody else"
    site(lab, "haproxy_lb_instance=system").assert_refused(because)


@pytest.mark.parametrize(
    ("variables", "because"),
    [
        pytest.param("vpn_bootstrap=false", "If this is the first run of a new cluster", id="no bootstrap"),
        pytest.param('{"vpn_backend_networks": []}', "n1: which backend address? Candidates:", id="two interfaces"),
        pytest.param(
            '{"vpn_client_networks": ["fd00:9:6::/48"]}',
            "networks overlap: vpn_client_networks fd00:9:6::/48 and fd00:9:6::/64 (n1, backend)",
            id="overlap",
        ),
        pytest.param(
            '{"vpn_balancers_group": "wireguard_nodes"}', "n1: is in wireguard_nodes and in haproxy_lbs", id="one host"
        ),
        pytest.param("vpn_port=0", "vpn_port: 0 is not a port (1 to 65535)", id="port"),
        pytest.param("haproxy_lb_check_inter=soon", "lb1: haproxy_lb_check_inter: soon is no time", id="no time"),
        pytest.param("vpn_vip_script=/take-over", "lb1: vpn_vip_script: /take-over has no use", id="script"),
        pytest.param("haproxy_lb_check_fall=twice", "haproxy_lb_check_fall", id="no number"),
    ],
)
def test_variables_that_can_not_work(lab: Lab, variables: str, because: str) -> None:
    site(lab, variables).assert_refused(because)
