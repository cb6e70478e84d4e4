# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from testinfra.host import Host
from traffic.hosts import Lab
from traffic.pair import Pair


@pytest.fixture(scope="session")
def trio(lab: Lab) -> Pair:
    """Three balancers. Client c1 comes over IPv4, c2 over IPv6."""
    return Pair(lab, balancers=("lb1", "lb2", "lb3"))


@pytest.fixture(scope="session")
def cloud(lab: Lab) -> Host:
    return lab.host("gw")
