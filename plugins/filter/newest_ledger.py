# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter newest_ledger: the ledger that a run goes on from."""

from __future__ import annotations

DOCUMENTATION = r"""
name: newest_ledger
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Choose the ledger that a run goes on from
description:
  - Live nodes come before the controller's store, the highest generation before others.
positional: _input, stored
options:
  _input:
    description:
      - Results of M(wirefleet.vpn.vpn_ledger), read as text in a loop over the names of the nodes.
      - Nodes that could not be reached are passed over. Any other failure is an error that names the node.
    type: list
    elements: dict
    required: true
  stored:
    description: What M(wirefleet.vpn.vpn_ledger) read as text in the controller's store.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Go on from the newest ledger
  ansible.builtin.set_fact:
    ledger: "{{ reads.results | wirefleet.vpn.newest_ledger(read_in_store) }}"
"""

RETURN = r"""
_value:
  description: C(generation) and C(text) of the newest, and the generation read at each place (C(nodes), C(stored)).
  type: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._state import StateError, newest_ledger


def newest(reads: Iterable[Mapping[str, Any]], stored: Mapping[str, Any]) -> dict[str, Any]:
    """See DOCUMENTATION."""
    on_nodes = {}
    for read in reads:
        node = read[read["ansible_loop_var"]]
        if "present" in read:
            on_nodes[node] = read
        elif not read.get("unreachable"):
            raise AnsibleFilterError(f"newest_ledger: node {node}: {read.get('msg', 'its ledger was not read')}")
    try:
        return newest_ledger(on_nodes, stored)
    except StateError as error:
        raise AnsibleFilterError(f"newest_ledger: {error}") from None


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"newest_ledger": newest}
