# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the scenario default: drains, and what may come and go meanwhile."""

from __future__ import annotations

from test_drain import TestWhileNodesAreDrained, drain  # noqa: F401
