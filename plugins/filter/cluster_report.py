# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter cluster_report: what nodes and balancers say of the cluster, side by side."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_report
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Put together what nodes and balancers say of the cluster
description:
  - Shows for each node its own view and that of every balancer, and where they differ.
options:
  _input:
    description:
      - The nodes' answers by inventory name, results of M(wirefleet.vpn.vpn_ask) for C(wirefleet-node status).
    type: dict
    required: true
  balancers:
    description: The same of the balancers, for C(wirefleet-steer status --json).
    type: dict
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  collection:
    description: Version of the daemons that the collection would install.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Compare
  ansible.builtin.set_fact:
    report: "{{ nodes | wirefleet.vpn.cluster_report(balancers, cluster='default', collection='0.1.0') }}"
"""

RETURN = r"""
_value:
  description:
    - C(version) of the report, C(cluster), C(collection), and by host C(nodes) (C(state), C(weight), C(clients),
      C(sessions), C(since) in seconds, C(reason), C(drain), C(agent), C(balancers)) and C(balancers) (C(daemon),
      C(haproxy), C(tables), C(problems)).
    - C(differences) is a list of sentences.
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._status import cluster_report


def report(
    nodes: Mapping[str, Mapping[str, Any]], balancers: Mapping[str, Mapping[str, Any]], cluster: str, collection: str
) -> dict[str, Any]:
    """See DOCUMENTATION."""
    try:
        return cluster_report(cluster, collection, nodes, balancers)
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError(
            f"cluster_report: an answer is not understood: {type(error).__name__}: {error}"
        ) from None


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"cluster_report": report}
