# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the scenario default: rules that are flushed, and a flood."""

from __future__ import annotations

from test_balancer import (  # noqa: F401
    stranger,
    test_a_flood_of_junk_costs_nobody_anything,
    test_the_ruleset_is_flushed_and_comes_back,
)
