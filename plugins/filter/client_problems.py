# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter client_problems: what stands against a host's being a client."""

from __future__ import annotations

DOCUMENTATION = r"""
name: client_problems
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Find out why a host can not be a client as its variables say
description:
  - Finds clashes with other clusters that the host is a client of, and a kill switch that would do harm.
positional: _input, others
options:
  _input:
    description: The host's variables C(wg_client_*) without their prefix, and what is found on it.
    type: dict
    required: true
  others:
    description: The configurations of the daemons that clients of other clusters have on the host.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what can not be
  ansible.builtin.assert:
    that: client | wirefleet.vpn.client_problems([]) | length == 0
"""

RETURN = r"""
_value:
  description: Sentences, each with the variable and its value.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._client import problems


def find(client: Mapping[str, Any], others: list[Mapping[str, Any]]) -> list[str]:
    """See DOCUMENTATION."""
    return problems(client, others)


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"client_problems": find}
