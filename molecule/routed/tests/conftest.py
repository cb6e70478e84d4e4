# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from testinfra.host import Host
from traffic.cluster import Client, Cluster
from traffic.hosts import Lab


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    return Cluster(lab, nodes=["n1", "n2", "n3"], clients=["c1", "c2"])


@pytest.fixture(scope="session")
def c1(cluster: Cluster) -> Client:
    """It comes to the balancer over IPv4."""
    return cluster.clients["c1"]


@pytest.fixture(scope="session")
def c2(cluster: Cluster) -> Client:
    """It comes to the balancer over IPv6."""
    return cluster.clients["c2"]


@pytest.fixture(scope="session")
def server(lab: Lab) -> Host:
    """The private web server, which can speak to clients first."""
    return lab.host("web")


@pytest.fixture(scope="session")
def web(lab: Lab) -> dict[int, str]:
    """Its address, by version."""
    return {version: lab.address("web", "private", version) for version in (4, 6)}
