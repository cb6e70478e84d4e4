# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.public_key import FilterModule

public_key = FilterModule().filters()["public_key"]

# Alice of RFC 7748, section 6.1.
PRIVATE = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
PUBLIC = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="


@pytest.mark.parametrize("private", [PRIVATE, f"{PRIVATE}\n"])
def test_the_public_key_of_a_private_key(private: str) -> None:
    assert public_key(private) == PUBLIC


def test_what_is_no_key_is_refused_and_not_shown() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        public_key(PRIVATE[:-2])
    assert str(caught.value) == "public_key: a WireGuard key has 44 characters, this text has 42"
