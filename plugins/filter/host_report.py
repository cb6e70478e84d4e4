# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter host_report: what the planner needs of a host's facts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_report
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Reduce a host's facts to what the cluster's plan needs
description:
  - Lists a host's global addresses by interface and family, next to its public keys and the operator's hints.
  - The result is an element of O(wirefleet.vpn.cluster_plan#filter:reports).
positional: _input, name
options:
  _input:
    description: The host's C(ansible_facts).
    type: dict
    required: true
  name:
    description: Inventory name of the host.
    type: str
    required: true
  keys:
    description: Public keys of the host by purpose (C(mesh), C(probe), C(client)); empty values are left out.
    type: dict
    default: {}
  hints:
    description: The operator's choice of addresses, by the name of the variable that holds it.
    type: dict
    default: {}
  own_interfaces:
    description: Names of tunnel interfaces, which are no candidates for the underlay.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Report this host
  ansible.builtin.set_fact:
    report: "{{ ansible_facts | wirefleet.vpn.host_report(inventory_hostname, own_interfaces=['wg0', 'wf0']) }}"
"""

RETURN = r"""
_value:
  description: The host's C(name), C(interfaces) (name to C(ip) and C(ip6) lists of address/prefix), C(keys), C(hints).
  type: dict
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._plan import host_report


def report(
    facts: Mapping[str, Any],
    name: str,
    keys: Mapping[str, str | None] | None = None,
    hints: Mapping[str, Any] | None = None,
    own_interfaces: Sequence[str] = (),
) -> dict[str, Any]:
    """See DOCUMENTATION."""
    if not isinstance(facts, Mapping):
        raise AnsibleFilterError(f"host_report: {name}: the facts have to be a dictionary, not {type(facts).__name__}")
    return host_report(name, facts, keys or {}, hints or {}, own_interfaces)


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"host_report": report}
