# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter mesh_peers: the [Peer] sections of a host's management interface."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mesh_peers
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Lay out the peers of a host's management interface
description:
  - Returns the C([Peer]) sections of all other hosts of the cluster whose mesh key is known.
positional: _input, host, port
options:
  _input:
    description: The plan, see P(wirefleet.vpn.cluster_plan#filter).
    type: dict
    required: true
  host:
    description: Inventory name of the host whose interface this is.
    type: str
    required: true
  port:
    description: UDP port of the mesh.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show the sections
  ansible.builtin.debug:
    msg: "{{ plan | wirefleet.vpn.mesh_peers('n1', 51821) }}"
"""

RETURN = r"""
_value:
  description: The sections as text, by name.
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import mesh_peers, render_peers


def render(plan: Mapping[str, Any], host: str, port: int) -> str:
    """See DOCUMENTATION."""
    return render_peers(mesh_peers(plan, host, int(port)))


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"mesh_peers": render}
