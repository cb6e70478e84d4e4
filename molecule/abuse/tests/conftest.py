# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from testinfra.host import Host
from traffic.cluster import Client, Cluster
from traffic.hosts import Lab
from traffic.pair import Pair


@pytest.fixture(scope="session")
def pair(lab: Lab) -> Pair:
    """Client c1 comes over IPv4, c2 over IPv6."""
    return Pair(lab)


@pytest.fixture
def cluster(pair: Pair) -> Cluster:
    """The cluster as its active balancer sees it, once all is well."""
    return pair.views[pair.roles()[0]]


@pytest.fixture(scope="session")
def c1(pair: Pair) -> Client:
    return pair.clients["c1"]


@pytest.fixture(scope="session")
def stranger(lab: Lab) -> Host:
    """A host that has no tunnel, and bad intentions."""
    return lab.host("s1")
