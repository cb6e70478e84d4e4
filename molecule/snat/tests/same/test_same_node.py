# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the scenario default: a node's death, and its return."""

from __future__ import annotations

from test_node import (  # noqa: F401
    test_a_node_dies_and_its_clients_go_elsewhere,
    test_a_node_whose_wireguard_stopped_is_down,
    test_a_nodes_rules_are_flushed_and_come_back,
)
