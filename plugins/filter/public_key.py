# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter public_key: the public key that belongs to a private key."""

from __future__ import annotations

DOCUMENTATION = r"""
name: public_key
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Compute the public key that belongs to a WireGuard private key
description:
  - Multiplies the curve's base point by the private key (X25519, RFC 7748), as C(wg pubkey) does.
options:
  _input:
    description: The private key in base64.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the service's public key
  ansible.builtin.debug:
    msg: "{{ vpn_service_key | wirefleet.vpn.public_key }}"
"""

RETURN = r"""
_value:
  description: The public key in base64.
  type: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError, public_key


def compute(private_key: str) -> str:
    """See DOCUMENTATION."""
    try:
        return public_key(private_key.strip())
    except KeyFormatError as error:
        raise AnsibleFilterError(f"public_key: {error}") from None


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"public_key": compute}
