# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from testinfra.host import Host
from traffic.hosts import Lab


@pytest.fixture(scope="session")
def server(lab: Lab) -> Host:
    """The private web server, which can speak to clients first."""
    return lab.host("web")
