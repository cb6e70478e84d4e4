# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter cluster_secret: choose the cluster's secret among the places that may hold it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_secret
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Choose a cluster's secret among the places that may hold it
description:
  - What the operator gives comes first, then what live nodes have, then the controller's store. Nodes that disagree
    are an error that names them and their public keys.
positional: _input, name
options:
  _input:
    description:
      - Results of M(ansible.builtin.slurp) in a loop over pairs of a node's name and a secret's name.
      - Nodes that have none (which is no failure) or could not be reached are passed over.
    type: list
    elements: dict
    required: true
  name:
    description:
      - V(service) for the service key, V(psk) for the seed of pre-shared keys.
      - With V(old-) before it, those that are being replaced.
    type: str
    choices: [service, psk, old-service, old-psk]
    required: true
  given:
    description: The operator's own, or empty.
    type: str
  stored:
    description: What the store on the controller has, or empty.
    type: str
"""

EXAMPLES = r"""
- name: Choose
  ansible.builtin.set_fact:
    service_key: "{{ reads.results | wirefleet.vpn.cluster_secret('service', stored=from_store) }}"
  no_log: true
"""

RETURN = r"""
_value:
  description: The secret in base64, or an empty string where nobody has one.
  type: str
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._state import StateError, choose_secret


def choose(reads: Iterable[Mapping[str, Any]], name: str, given: str = "", stored: str = "") -> str:
    """See DOCUMENTATION."""
    on_nodes = {}
    for read in reads:
        node, secret = read[read["ansible_loop_var"]]
        if read.get("failed") and not read.get("unreachable"):
            raise AnsibleFilterError(f"cluster_secret: node {node}: {read.get('msg', 'its secrets were not read')}")
        if secret == name and "content" in read:
            on_nodes[node] = base64.b64decode(read["content"]).decode("ascii", "replace")
    try:
        return choose_secret(name, given or None, on_nodes, stored or None) or ""
    except StateError as error:
        raise AnsibleFilterError(f"cluster_secret: {error}") from None


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"cluster_secret": choose}
