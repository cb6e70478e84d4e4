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
  - What there is for each client is packed into texts. Ansible visits every item of a variable, for each host and task
    that touches it, and needs seconds for those of ten thousand clients.
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
    description: Text of the newest ledger, empty where there is none.
    type: str
    required: true
  now:
    description: The time in ISO 8601 and UTC, which dates the release of addresses.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Plan
  ansible.builtin.set_fact:
    plan: "{{ settings | wirefleet.vpn.cluster_plan(reports, ledger.text, '2026-11-22T10:00:00Z') }}"
"""

RETURN = r"""
_value:
  description: >-
    C(families) served, C(nodes), C(balancers) and C(managed_clients) by name with their addresses and public keys, all
    clients as C(packed_clients) (for P(wirefleet.vpn.service_peers#filter)), the C(sites) behind clients, when clients
    expire by public key (C(expires)) and the keys of those that are C(expired), what nodes enforce of C(access), names
    that are C(pending), the text (C(ledger)) and C(generation) of the ledger after this run, C(warnings) and
    C(problems). Where there are problems, each a sentence naming host, variable and value, there is nothing else.
  type: dict
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._ledger import Ledger, LedgerError, parse, render
from ansible_collections.wirefleet.vpn.plugins.module_utils._plan import PlanError, build_plan


def cluster_plan(
    settings: Mapping[str, Any], reports: Sequence[Mapping[str, Any]], ledger: str, now: str
) -> dict[str, Any]:
    """See DOCUMENTATION."""
    known = parse(ledger) if ledger else None
    try:
        plan = build_plan(settings, reports, known.entries if known else (), now)
        following = _following(known, tuple(plan["ledger"]), settings["cluster"])
    except PlanError as error:
        return {"problems": error.problems}
    except LedgerError as error:
        return {"problems": [f"the ledger would contradict itself: {error}"]}
    clients = plan.pop("clients")
    return {
        **plan,
        "ledger": render(following),
        "generation": following.generation,
        "packed_clients": json.dumps(clients),
        "managed_clients": {name: clients[name] for name in settings["managed_clients"] if name in clients},
        "expires": {
            key: c["expires"]
            for c in clients.values()
            if c["expires"] is not None and not c["suspended"]
            for key in _public_keys(c)
        },
        "expired": [key for c in clients.values() if c["expired"] for key in _public_keys(c)],
        "problems": [],
    }


def _public_keys(client: Mapping[str, Any]) -> list[str]:
    """All that nodes may know a client by."""
    return [client[term] for term in ("public_key", "old_public_key") if term in client]


def _following(known: Ledger | None, entries: tuple[dict[str, Any], ...], cluster: str) -> Ledger:
    """The ledger after this run, which is of a new generation where something changes."""
    if known and known.entries == entries:
        return known
    return Ledger(cluster, known.generation + 1 if known else 1, entries)


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"cluster_plan": cluster_plan}
