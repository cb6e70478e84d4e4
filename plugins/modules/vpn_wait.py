# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of this name, which runs on the controller and shows how far the node is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vpn_wait
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Wait until a balancer says that a node is up, drained or empty
description:
  - Asks C(wirefleet-steer) on the balancer, which is the task's host, until the node is where it shall be.
  - Prints a line whenever the answer changes.
  - A balancer that can not be reached is a warning and no failure.
attributes:
  check_mode:
    description: Asks once, and does not fail when the node is not there yet.
    support: full
  diff_mode:
    description: Nothing is changed.
    support: none
options:
  node:
    description: Inventory name of the node.
    type: str
    required: true
  goal:
    description:
      - V(up) means that it takes clients, V(drained) that it takes no new ones.
      - V(settled) means that its health check passes, whether it takes clients or not.
      - V(back) means settled, and that the node does not drain itself. Its weight may be 0, or HAProxy may drain it.
      - V(empty) means that it is drained and that no client has a session there. That is a client whose latest
        handshake was there, less than 180 seconds ago.
    type: str
    choices: [up, drained, settled, back, empty]
    required: true
  timeout:
    description: Seconds after which the task fails.
    type: int
    default: 60
  names:
    description: What clients are called, by their public keys.
    type: dict
    default: {}
  command:
    description: The cluster's C(wirefleet-steer) on the balancer.
    type: str
    default: wirefleet-steer
  hint:
    description: What the operator is told on failure, after what is wrong.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Wait until nobody is at n2
  wirefleet.vpn.vpn_wait:
    node: n2
    goal: empty
    timeout: 300
  delegate_to: lb1
"""

RETURN = r"""
reached:
  description: Whether the node is there; none when the balancer can not be reached, which has no say then.
  returned: always
  type: bool
left:
  description: How many clients a node that shall be empty still has, if it is drained.
  returned: always
  type: int
clients:
  description: Some of them, by name or public key.
  returned: always
  type: list
  elements: str
seconds:
  description: How long it took.
  returned: always
  type: float
"""
