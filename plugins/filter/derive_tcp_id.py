# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter derive_tcp_id: the identity of a cluster's connections over TCP, from its seed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: derive_tcp_id
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Derive the identity of a cluster's connections over TCP
description:
  - HKDF-SHA256 of the seed, with the cluster's name as context, as a UUID.
  - Nodes accept WireGuard over TCP from those who know it. Who may do what is WireGuard's matter.
positional: _input, cluster
options:
  _input:
    description: The cluster's seed, 32 bytes in base64.
    type: str
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Use the cluster's identity
  ansible.builtin.set_fact:
    tcp_id: "{{ seed | wirefleet.vpn.derive_tcp_id('default') }}"
  no_log: true
"""

RETURN = r"""
_value:
  description: The UUID.
  type: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError
from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import derive_tcp_id


def derive(seed: str, cluster: str) -> str:
    """See DOCUMENTATION."""
    try:
        return derive_tcp_id(seed, cluster)
    except KeyFormatError as error:
        raise AnsibleFilterError(f"derive_tcp_id: the seed of cluster {cluster!r}: {error}") from None


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"derive_tcp_id": derive}
