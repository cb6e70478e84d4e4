# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The agent of a WireGuard node: keeps its routing and rules in place, and tells the balancers whether to use it."""

from __future__ import annotations
