# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.derive_preshared_key import FilterModule
from ansible_collections.wirefleet.vpn.plugins.module_utils import _peers

derive_preshared_key = FilterModule().filters()["derive_preshared_key"]
SEED, PUBLIC = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))


def test_each_client_gets_what_the_nodes_derive() -> None:
    derived = derive_preshared_key(SEED, "default", "alice", PUBLIC)
    assert derived == _peers.derive_preshared_key(SEED, "default", "alice", PUBLIC)
    assert derived != derive_preshared_key(SEED, "default", "bob", PUBLIC)
    assert derived == derive_preshared_key(SEED, "default", "alice", PUBLIC, 0)
    renewed = derive_preshared_key(SEED, "default", "alice", PUBLIC, renewals=1)
    assert renewed == _peers.derive_preshared_key(SEED, "default", "alice", PUBLIC, 1) != derived


def test_a_bad_seed_names_the_cluster_and_is_not_shown() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        derive_preshared_key("secret", "prod", "alice", PUBLIC)
    assert str(caught.value) == (
        "derive_preshared_key: the seed of cluster 'prod': a WireGuard key has 44 characters, this text has 6"
    )
