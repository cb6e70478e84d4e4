# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64

from ansible_collections.wirefleet.vpn.plugins.filter.mesh_peers import FilterModule

mesh_peers = FilterModule().filters()["mesh_peers"]


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


PLAN = {
    "families": ["ip"],
    "nodes": {
        name: {
            "mesh_public_key": key(number),
            "mesh_addresses": [f"fd77::{number}"],
            "backend": {"ip": {"address": f"10.9.0.{number}"}},
        }
        for number, name in ((1, "n1"), (2, "n2"))
    },
    "balancers": {},
    "monitors": {},
}


def test_the_sections_of_the_other_hosts() -> None:
    assert mesh_peers(PLAN, "n1", "51821") == (
        f"# n2\n[Peer]\nPublicKey = {key(2)}\nAllowedIPs = fd77::2/128\nEndpoint = 10.9.0.2:51821\n"
    )
