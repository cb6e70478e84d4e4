# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the scenario default: stock clients reach the private network, by any node."""

from __future__ import annotations

from test_traffic import (  # noqa: F401
    test_a_handshake_goes_through_the_balancer,
    test_large_pages_arrive_whole,
    test_sessions_spread_over_all_nodes,
    test_the_private_web_server_answers,
    test_the_wheel_gives_every_node_its_share,
    test_weights_set_in_haproxy_turn_the_wheel,
    test_without_the_tunnel_nobody_answers,
)
