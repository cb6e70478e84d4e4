# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter derive_preshared_key: a client's pre-shared key from the cluster's seed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: derive_preshared_key
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Derive a client's pre-shared key from the cluster's seed
description:
  - HKDF-SHA256 of the seed, with cluster, name and public key of the client as context.
  - Nobody has to store or merge the pre-shared keys of thousands of clients, and one client's key tells nothing of
    another's.
positional: _input, cluster, name, public_key, renewals
options:
  _input:
    description: The cluster's seed, 32 bytes in base64.
    type: str
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  name:
    description: Name of the client.
    type: str
    required: true
  public_key:
    description: Public key of the client.
    type: str
    required: true
  renewals:
    description: How often the client got another pre-shared key for the same public key, as the ledger counts it.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Use a client's pre-shared key
  ansible.builtin.set_fact:
    preshared_key: "{{ seed | wirefleet.vpn.derive_preshared_key('default', 'alice-phone', public_key) }}"
  no_log: true
"""

RETURN = r"""
_value:
  description: The pre-shared key, 32 bytes in base64.
  type: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError
from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import derive_preshared_key


def derive(seed: str, cluster: str, name: str, public_key: str, renewals: int = 0) -> str:
    """See DOCUMENTATION."""
    try:
        return derive_preshared_key(seed, cluster, name, public_key, renewals)
    except KeyFormatError as error:
        raise AnsibleFilterError(f"derive_preshared_key: the seed of cluster {cluster!r}: {error}") from None


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"derive_preshared_key": derive}
