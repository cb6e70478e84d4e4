# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from traffic.cluster import Cluster
from traffic.hosts import Lab
from traffic.monitor import Monitor


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    return Cluster(lab, nodes=["n1", "n2"], clients=["c1"])


@pytest.fixture(scope="session")
def monitor(lab: Lab) -> Monitor:
    return Monitor(lab.host("mon"))
