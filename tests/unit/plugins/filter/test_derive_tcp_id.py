# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64
import uuid

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.derive_tcp_id import FilterModule

derive_tcp_id = FilterModule().filters()["derive_tcp_id"]
SEED, OTHER = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))


def test_each_cluster_and_each_seed_has_its_own() -> None:
    derived = derive_tcp_id(SEED, "default")
    assert str(uuid.UUID(derived)) == derived == derive_tcp_id(SEED, "default")
    assert len({derived, derive_tcp_id(SEED, "other"), derive_tcp_id(OTHER, "default")}) == 3


def test_it_stays_what_it_is() -> None:
    """A node that is updated before its clients has to know them still."""
    assert derive_tcp_id(SEED, "default") == "32910e35-176f-452a-a863-4d251b3d273c"


def test_a_bad_seed_names_the_cluster_and_is_not_shown() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        derive_tcp_id("secret", "prod")
    assert str(caught.value) == (
        "derive_tcp_id: the seed of cluster 'prod': a WireGuard key has 44 characters, this text has 6"
    )
