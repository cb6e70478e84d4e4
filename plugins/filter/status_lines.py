# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter status_lines: a report of the cluster as a table for people."""

from __future__ import annotations

DOCUMENTATION = r"""
name: status_lines
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Lay a report of the cluster out for people
description:
  - Makes tables of nodes and balancers, and names what they do not agree about.
options:
  _input:
    description: What P(wirefleet.vpn.cluster_report#filter) made.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the cluster
  ansible.builtin.debug:
    msg: "{{ report | wirefleet.vpn.status_lines }}"
"""

RETURN = r"""
_value:
  description: Lines.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._status import status_lines


def lines(report: Mapping[str, Any]) -> list[str]:
    """See DOCUMENTATION."""
    if not isinstance(report, Mapping) or "nodes" not in report:
        raise AnsibleFilterError("status_lines: expected what the filter cluster_report makes")
    return status_lines(report)


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"status_lines": lines}
