# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from traffic.book import Book
from traffic.cluster import Cluster
from traffic.hosts import Lab


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    return Cluster(lab, nodes=["n1", "n2"], clients=["c1"])


@pytest.fixture(scope="session")
def book(lab: Lab, cluster: Cluster) -> Book:
    return Book(cluster, lab.directory / "state")
