# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A node's rules as the role writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...cores import template

TEMPLATES = Path(__file__).resolve().parents[4] / "roles/wireguard_node/templates"
CLIENT_NETWORKS = ["10.80.0.0/24", "fd00:80::/64"]
ROUTES = ["10.20.0.0/24", "fd00:20::/64"]
NO_RULES: dict[str, Any] = {"enforced": False, "default": "allow", "rules": [], "restricted": []}


def write(
    directory: Path,
    routed: bool,
    access: dict[str, Any] = NO_RULES,
    sites: list[str] | None = None,
    firewall: bool = True,
    overlap: bool = False,
) -> Path:
    """Write node.nft and access.nft; return the former, which includes the latter.

    `overlap`: wg0 serves clients of an old service key, and wg1 those of the new one.
    """
    variables: dict[str, Any] = {
        "ansible_managed": "Managed",
        "vpn_cluster": "default",
        "__vpn_dir": str(directory),
        "__vpn_plan": {
            "access": access,
            "sites": sites or [],
            "snat_sources": {},
            "mesh_sources": {"ip": ["10.9.0.10", "10.9.0.11"], "ip6": ["fd00:9::10", "fd00:9::11"]},
        },
        "__wireguard_node_table": "wirefleet_node",
        "__wireguard_node_answers": routed and access["enforced"],
        "vpn_routes": ROUTES,
        "vpn_client_networks": CLIENT_NETWORKS,
        "vpn_client_to_client": False,
        "vpn_agent_port": 8051,
        "vpn_tcp": False,
        "vpn_port": 51830 if overlap else 51820,
        "vpn_interface": "wg1" if overlap else "wg0",
        "vpn_client_table": 51831,
        "vpn_old_port": 51820,
        "vpn_old_interface": "wg0",
        "__vpn_overlap": overlap,
        "__wireguard_node_old_mark": 51820,
        "vpn_mesh_interface": "wf0",
        "vpn_mesh_port": 51821,
        "wireguard_node_firewall": firewall,
        "wireguard_node_mark": 51820,
        "__vpn_routed": routed,
        "__wireguard_node_probes": [],
        "__wireguard_node_backends": '"backend"',
        "__wireguard_node_self": {
            "mesh_addresses": ["fd77::1"],
            "return_routes": [],
            "client_routes": [{"device": "private"}] if routed else [],
        },
    }
    for name in ("access.nft", "node.nft"):
        text = (TEMPLATES / f"{name}.j2").read_text(encoding="utf-8")
        (directory / name).write_text(str(template(text, variables)))
    return directory / "node.nft"
