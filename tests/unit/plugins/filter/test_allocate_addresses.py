# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.allocate_addresses import FilterModule

allocate_addresses = FilterModule().filters()["allocate_addresses"]
NETWORKS = ["10.80.0.0/16", "fd00:80::/48"]


def test_the_documented_example() -> None:
    first = allocate_addresses(["alice", "bob", "carol"], NETWORKS, now="2026-11-22T00:00:00Z")
    assert allocate_addresses(
        ["alice", "carol", "gateway"],
        NETWORKS,
        ledger=first,
        explicit={"gateway": ["10.80.1.1"]},
        now="2026-11-23T00:00:00Z",
    ) == {
        "alice": {"addresses": ["10.80.0.1", "fd00:80::1"]},
        "bob": {"addresses": ["10.80.0.2", "fd00:80::2"], "released": "2026-11-23T00:00:00Z"},
        "carol": {"addresses": ["10.80.0.3", "fd00:80::3"]},
        "gateway": {"addresses": ["10.80.1.1", "fd00:80::4"]},
    }


def test_every_option_reaches_the_allocation() -> None:
    ledger = {"gone": {"addresses": ["10.80.0.2"], "released": "2026-11-20T00:00:00Z"}}
    assert allocate_addresses(
        ["a", "b"],
        NETWORKS[:1],
        ledger=ledger,
        reserved=["10.80.0.1"],
        explicit={"b": ["10.80.0.9"]},
        now="2026-11-22T00:00:00Z",
        quarantine_days=1,
    ) == {"a": {"addresses": ["10.80.0.2"]}, "b": {"addresses": ["10.80.0.9"]}}


def test_errors_name_the_filter_and_the_input() -> None:
    with pytest.raises(AnsibleFilterError, match="allocate_addresses: names: 'a' is there twice"):
        allocate_addresses(["a", "a"], NETWORKS, now="2026-11-22T00:00:00Z")


def test_the_time_is_never_guessed() -> None:
    with pytest.raises(TypeError, match="now"):
        allocate_addresses(["a"], NETWORKS)
