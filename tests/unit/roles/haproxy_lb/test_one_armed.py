# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A balancer with one interface: what clients send and what nodes answer arrives by the same one."""

from __future__ import annotations

import signal
import time

import pytest

from ..namespaces import eventually
from .conftest import PORT, Cluster

pytestmark = [pytest.mark.root, pytest.mark.parametrize("cluster", ["public"], indirect=True)]


@pytest.mark.parametrize("family", ["ip", "ip6"])
@pytest.mark.parametrize("listen", [0, PORT])
def test_a_client_reaches_a_node_even_from_the_port_that_nodes_have(cluster: Cluster, family: str, listen: int) -> None:
    cluster.client("c1", family, listen=listen)
    assert cluster.ping("c1") == 0


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_without_its_table_nothing_is_forwarded(cluster: Cluster, family: str) -> None:
    cluster.steer.send_signal(signal.SIGSTOP)
    try:
        cluster.watch_leaks("c1")
        cluster.nft("flush", "ruleset")
        cluster.send_as_node("n1", family, "04000000" + "ab" * 100)
        time.sleep(0.2)
        assert cluster.leaked("c1", family) == 0
    finally:
        cluster.steer.send_signal(signal.SIGCONT)
    cluster.client("c1", family)
    eventually(lambda: cluster.ping("c1", wait=1) == 0)
