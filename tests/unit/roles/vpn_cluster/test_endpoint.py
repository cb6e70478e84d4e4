# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wirefleet.endpoint import address_of


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(1, 65535))
def test_what_wireguard_writes_is_read(address: object, port: int) -> None:
    text = f"[{address}]" if ":" in str(address) else str(address)
    assert address_of(f"{text}:{port}") == address


@pytest.mark.parametrize(
    "endpoint",
    [
        None,
        5,
        "",
        "(none)",
        "198.51.100.1",
        "198.51.100.1:0",
        "198.51.100.1:65536",
        "198.51.100.1:5\n",
        "[198.51.100.1]:5",
        "2001:db8::1:5",
        "[fe80::1%eth0]:5",
        "[fe80::1%\n]:5",
        "vpn.example.com:5",
        "[::g]:5",
    ],
)
def test_nothing_else_is(endpoint: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        address_of(endpoint)
