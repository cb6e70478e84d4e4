# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter dropping_chains: other firewalls that drop what the cluster needs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: dropping_chains
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Find base chains of other firewalls that drop a UDP port
description:
  - Reads the output of C(nft --json --terse list ruleset), which shows iptables-nft, ufw, Docker and firewalld as well.
  - A heuristic. A chain counts when its policy, or a rule at its end, refuses what comes, and no rule that may accept
    the port is reached from it. What the ruleset does not tell, such as the contents of named sets, counts as accepted.
positional: _input, hook, port
options:
  _input:
    description: The output of nft. Empty where the host has no nft.
    type: str
    required: true
  hook:
    description: V(input) or V(forward).
    type: str
    choices: [input, forward]
    required: true
  port:
    description: UDP port.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Which chains drop WireGuard?
  ansible.builtin.debug:
    msg: "{{ ruleset.stdout | wirefleet.vpn.dropping_chains('input', 51820) }}"
"""

RETURN = r"""
_value:
  description: The chains, each as family, table and name.
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._firewall import dropping_chains


def find(ruleset: str, hook: str, port: int) -> list[str]:
    """See DOCUMENTATION."""
    return dropping_chains(ruleset, hook, int(port))


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"dropping_chains": find}
