# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter service_peers: the [Peer] sections of a node's client-facing interface."""

from __future__ import annotations

DOCUMENTATION = r"""
name: service_peers
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Lay out the peers of a node's client-facing interface
description:
  - Returns the text of all C([Peer]) sections at once, so that no template loops over ten thousand clients.
  - The pre-shared key of each client (but those with C(psk) V(false)) is derived from the cluster's seed, see
    P(wirefleet.vpn.derive_preshared_key#filter). The result is secret.
positional: _input, seed, cluster, old
options:
  _input:
    description: The plan, see P(wirefleet.vpn.cluster_plan#filter).
    type: dict
    required: true
  seed:
    description: The cluster's seed of pre-shared keys, 32 bytes in base64.
    type: str
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  old:
    description: List clients as an old service key knows them, which is being replaced and whose seed this is.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the sections (secret!)
  ansible.builtin.debug:
    msg: "{{ plan | wirefleet.vpn.service_peers(seed, 'default') }}"
"""

RETURN = r"""
_value:
  description: The sections as text, the balancers' probes first, then the clients by name.
  type: str
"""

import json
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError
from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import render_peers, service_peers


def render(plan: Mapping[str, Any], seed: str, cluster: str, old: bool = False) -> str:
    """See DOCUMENTATION."""
    unpacked = {"balancers": plan["balancers"], "clients": json.loads(plan["packed_clients"])}
    try:
        return render_peers(service_peers(unpacked, seed, cluster, old))
    except KeyFormatError as error:
        raise AnsibleFilterError(f"service_peers: the seed of cluster {cluster!r}: {error}") from None


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"service_peers": render}
