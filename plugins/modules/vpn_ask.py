# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vpn_ask
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Ask a daemon of the cluster, dead hosts included
description:
  - Runs a command of C(wirefleet-steer) or C(wirefleet-node) that answers in JSON.
  - A host that can not be reached is an answer too. The task does not fail, and the host stays in the play.
attributes:
  check_mode:
    description: Asks all the same.
    support: full
  diff_mode:
    description: Nothing is changed.
    support: none
options:
  argv:
    description: The command and its arguments.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Ask the node how it is
  wirefleet.vpn.vpn_ask:
    argv: [wirefleet-node, status]
  register: node
"""

RETURN = r"""
answer:
  description: What the daemon says; none without an answer.
  returned: always
  type: dict
problem:
  description: Why there is no answer; none with one.
  returned: always
  type: str
"""
