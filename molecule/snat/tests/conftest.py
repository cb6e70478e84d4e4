# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from traffic.cluster import Cluster
from traffic.hosts import Lab

# What users notice is as it is without source NAT: the directory "same" has these tests, each in a module as there.
DEFAULT = Path(__file__).resolve().parents[2] / "default" / "tests"
sys.path[:0] = [str(DEFAULT / part) for part in ("settled", "trouble")]


class Translated(Cluster):
    """A cluster whose nodes know clients by addresses of the balancer."""

    def client_endpoint(self, endpoint: str) -> str:
        known = self.balancer.run("wirefleet-steer client %s", endpoint)
        return known.stdout.strip() if known.succeeded else endpoint


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Translated:
    return Translated(lab, nodes=["n1", "n2", "n3"], clients=["c1", "c2"])
