# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that only the private network's server knows, while the tunnel is up."""

from __future__ import annotations

import pytest
from testinfra.host import Host
from traffic.cluster import Cluster
from traffic.hosts import until

NAME = "intranet.corp.test"


@pytest.fixture(params=["c1", "c2"])
def host(request: pytest.FixtureRequest, cluster: Cluster) -> Host:
    """With openresolv, which was installed, and with systemd-resolved, which was there."""
    return cluster.clients[request.param].host


def knows(host: Host, name: str) -> bool:
    return host.run("timeout 5 getent hosts %s", name).succeeded


def test_a_private_name_is_known_by_all_programs(host: Host, web: dict[int, str]) -> None:
    assert host.check_output("getent hosts %s", NAME).split()[0] == web[4]
    assert "private web server" in host.check_output("curl --silent --max-time 5 http://%s/", NAME)


def test_search_domains(host: Host, web: dict[int, str]) -> None:
    assert host.check_output("getent hosts intranet").split()[0] == web[4]


def test_it_ends_with_the_tunnel(host: Host) -> None:
    host.check_output("systemctl stop wg-quick@wg0")
    try:
        assert not knows(host, NAME)
    finally:
        host.check_output("systemctl start wg-quick@wg0")
    until("the name is known again", 30, lambda: knows(host, NAME))


def test_what_was_there_is_used(cluster: Cluster) -> None:
    own = cluster.clients["c2"].host
    assert own.service("systemd-resolved").is_running
    assert not own.package("openresolv").is_installed
    assert cluster.clients["c1"].host.package("openresolv").is_installed
