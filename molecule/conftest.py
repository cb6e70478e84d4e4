# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of all scenarios share. A scenario has the name of its lab."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from traffic.cluster import Client, Cluster
from traffic.figures import Figures
from traffic.hosts import Lab
from traffic.pair import Pair
from traffic.site import InfraRepository

LAB = Lab(os.environ["MOLECULE_SCENARIO_NAME"])
FIGURES = Figures(LAB.directory / "figures.json")


@pytest.fixture(scope="session")
def lab() -> Lab:
    return LAB


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    """Three nodes and two clients, where a scenario does not say otherwise."""
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
def web(lab: Lab) -> dict[int, str]:
    """The private web server's address, by version."""
    return {version: lab.address("web", "private", version) for version in (4, 6)}


@pytest.fixture(scope="session")
def figures() -> Figures:
    return FIGURES


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> InfraRepository:
    return InfraRepository(tmp_path_factory.mktemp("infra"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed measurement comes with what is needed to see why."""
    report = yield
    seen = next((a for a in getattr(item, "funcargs", {}).values() if isinstance(a, Cluster | Pair)), None)
    if report.failed and seen:
        report.sections.append(("The cluster after the failure", seen.explain()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section(f"figures of the lab {LAB.name}")
    for line in FIGURES.table():
        terminalreporter.line(line)
