# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter import_server: what a cluster has to know to take over a WireGuard server."""

from __future__ import annotations

DOCUMENTATION = r"""
name: import_server
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Find what a cluster has to know to take over a WireGuard server
description:
  - Makes items of C(vpn_clients) of the server's peers, with names from the comments of its file, so that the clients
    notice nothing.
  - What runs comes before what the file says.
positional: _input, dump, settings, seed
options:
  _input:
    description: The server's C(wg-quick) file.
    type: str
    required: true
  dump:
    description: What C(wg show NAME dump) says of it, empty while it does not run.
    type: str
    required: true
  settings:
    description: The settings of the cluster, as the role P(wirefleet.vpn.vpn_cluster#role) collects them.
    type: dict
    required: true
  seed:
    description: The cluster's seed of pre-shared keys, from which C(psk_mask) is made.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show who would be a client
  ansible.builtin.debug:
    msg: "{{ (file | wirefleet.vpn.import_server(dump, settings, seed)).clients }}"
"""

RETURN = r"""
_value:
  description: >-
    C(service_key), the server's private key (secret), C(clients), C(notes) on what else to do, and C(problems). Where
    there are problems there is nothing else.
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._import import TakeoverError, take_over


def import_server(text: str, dump: str, settings: Mapping[str, Any], seed: str) -> dict[str, Any]:
    """See DOCUMENTATION."""
    try:
        return {**take_over(text, dump, settings, seed), "problems": []}
    except TakeoverError as error:
        return {"problems": error.problems}


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"import_server": import_server}
