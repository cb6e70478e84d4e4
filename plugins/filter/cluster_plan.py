# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter cluster_plan: from settings, reports and ledger to the plan that the roles render."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_plan
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Plan a cluster, or say everything that can not work
description:
  - Chooses the hosts' addresses, allocates tunnel addresses and numbers, and decides who is a peer.
  - Pure; the same input gives the same plan. What can not work is returned as C(problems), all at once.
positional: _input, reports, ledger, now
options:
  _input:
    description: The settings of the cluster, as the role P(wirefleet.vpn.vpn_cluster#role) collects them.
    type: dict
    required: true
  reports:
    description: One report for each host that this run reached, see P(wirefleet.vpn.host_report#filter).
    type: list
    elements: dict
    required: true
  ledger:
    description: Entries of the newest ledger.
    type: list
    elements: dict
    required: true
  now:
    description: The time in ISO 8601 and UTC, which dates the release of addresses.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Plan
  ansible.builtin.set_fact:
    plan: "{{ settings | wirefleet.vpn.cluster_plan(reports, ledger.entries, '2026-11-22T10:00:00Z') }}"
"""

RETURN = r"""
_value:
  description: >-
    C(families) served, C(nodes), C(balancers) and C(clients) by name with their addresses and public keys, the C(sites)
    behind clients, what nodes enforce of C(access), names that are C(pending), the C(ledger) entries after this run,
    C(warnings) and C(problems). Where there are problems, each a sentence naming host, variable and value, there is
    nothing else.
  type: dict
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._plan import PlanError, build_plan


def cluster_plan(
    settings: Mapping[str, Any], reports: Sequence[Mapping[str, Any]], ledger: Sequence[dict[str, Any]], now: str
) -> dict[str, Any]:
    """See DOCUMENTATION."""
    try:
        return {**build_plan(settings, reports, ledger, now), "problems": []}
    except PlanError as error:
        return {"problems": error.problems}


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"cluster_plan": cluster_plan}
