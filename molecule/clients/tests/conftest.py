# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from testinfra.host import Host
from traffic.cluster import Cluster
from traffic.hosts import Lab


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    """It has no managed clients."""
    return Cluster(lab, nodes=["n1", "n2"], clients=[])


@pytest.fixture(scope="session")
def phone(lab: Lab) -> Host:
    """A device with stock software, of which the inventory knows nothing."""
    return lab.host("phone")
