# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from traffic.cluster import Cluster
from traffic.hosts import Lab


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    """The first one: c1 sends everything through its tunnel, c2 what is private."""
    return Cluster(lab, nodes=["n1"], clients=["c1", "c2"])
