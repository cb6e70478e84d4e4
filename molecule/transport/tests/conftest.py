# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from traffic.cluster import Cluster
from traffic.hosts import Lab


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    """Client c1 comes over TCP and IPv4, c2 over IPv6, by UDP if it can."""
    return Cluster(lab, nodes=["n1", "n2"], clients=["c1", "c2"])
