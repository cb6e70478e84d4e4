# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess

import pytest
from traffic.hosts import REPOSITORY, Lab
from traffic.pair import Pair
from traffic.site import InfraRepository

# The earlier state where no release is tagged yet.
UNTAGGED = "46a0c7e7"


def earlier_state() -> str:
    """The revision to come from, and to go back to: UPGRADE_FROM, else the last release before the present state."""
    if named := os.environ.get("UPGRADE_FROM"):
        return named
    # A release that is checked once more is not its own predecessor.
    command = ["git", "describe", "--tags", "--abbrev=0", "--match=v*", "HEAD^"]
    tag = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return tag.stdout.strip() or UNTAGGED


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> InfraRepository:
    """Where the collection is installed as it was."""
    source = tmp_path_factory.mktemp("source")
    archive = source / "source.tar"
    subprocess.run(["git", "archive", f"--output={archive}", earlier_state()], cwd=REPOSITORY, check=True)
    subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={source}"], check=True)
    archive.unlink()
    return InfraRepository(tmp_path_factory.mktemp("earlier"), source)


@pytest.fixture(scope="session")
def pair(lab: Lab) -> Pair:
    """Client c1 comes over IPv4, c2 over IPv6."""
    return Pair(lab)
