# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup host_addresses: the addresses of names."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_addresses
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Look names up on the controller
description:
  - Returns the addresses of the names, those of IPv4 first, in an order that stays. An address is its own.
options:
  _terms:
    description: Names or addresses.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show where the VPN is
  ansible.builtin.debug:
    msg: "{{ query('wirefleet.vpn.host_addresses', 'vpn.example.com') }}"
"""

RETURN = r"""
_raw:
  description: The addresses.
  type: list
  elements: str
"""

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    def run(self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """See DOCUMENTATION."""
        found = set()
        for name in terms:
            try:
                found |= {ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
            except OSError as error:
                raise AnsibleLookupError(f"host_addresses: {name}: {error.strerror}") from None
        return [str(address) for address in sorted(found, key=lambda address: (address.version, int(address)))]
