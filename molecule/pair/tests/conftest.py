# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from traffic.hosts import Lab
from traffic.pair import Pair


@pytest.fixture(scope="session")
def pair(lab: Lab) -> Pair:
    """Client c1 comes over IPv4, c2 over IPv6."""
    return Pair(lab)
