# SPDX-License-Identifier: GPL-3.0-or-later
"""Another controller, with the collection as it is shipped and without any state, finds all on the nodes."""

from __future__ import annotations

import shutil
import time

import pytest
from traffic.figures import Figures
from traffic.hosts import Lab
from traffic.site import InfraRepository


@pytest.fixture(scope="module", autouse=True)
def _state_is_lost(lab: Lab) -> None:
    shutil.rmtree(lab.directory / "state")


def test_a_check_predicts_no_change(lab: Lab, infra: InfraRepository) -> None:
    infra.site(lab.inventory, options=("--check", "--diff")).assert_unchanged()


def test_a_run_changes_nothing(lab: Lab, infra: InfraRepository, figures: Figures) -> None:
    begin = time.monotonic()
    infra.site(lab.inventory).assert_unchanged()
    figures.add("a run that has nothing to do", time.monotonic() - begin, "s")
