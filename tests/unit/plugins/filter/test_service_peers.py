# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64
import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.service_peers import FilterModule
from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import derive_preshared_key

service_peers = FilterModule().filters()["service_peers"]


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


ALICE = {"addresses": ["10.80.0.5"], "public_key": key(5), "preshared": True, "networks": [], "suspended": False}
PLAN = {"balancers": {}, "packed_clients": json.dumps({"alice": ALICE})}


def test_the_sections_of_the_clients() -> None:
    assert service_peers(PLAN, key(9), "default") == (
        f"# client alice\n[Peer]\nPublicKey = {key(5)}\n"
        f"PresharedKey = {derive_preshared_key(key(9), 'default', 'alice', key(5))}\nAllowedIPs = 10.80.0.5/32\n"
    )


def test_a_bad_seed_names_the_cluster_and_is_not_shown() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        service_peers(PLAN, "secret", "prod")
    assert str(caught.value) == (
        "service_peers: the seed of cluster 'prod': a WireGuard key has 44 characters, this text has 6"
    )
