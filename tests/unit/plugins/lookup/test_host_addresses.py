# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError
from ansible_collections.wirefleet.vpn.plugins.lookup.host_addresses import LookupModule


def lookup(*names: str) -> list[str]:
    return LookupModule().run(names)


def test_an_address_is_its_own() -> None:
    assert lookup("2001:db8::1", "198.51.100.10") == ["198.51.100.10", "2001:db8::1"]


def test_a_name_is_looked_up() -> None:
    assert "127.0.0.1" in lookup("localhost")


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(AnsibleError, match=r"host_addresses: nobody\.invalid: "):
        lookup("nobody.invalid")
