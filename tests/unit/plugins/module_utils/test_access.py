# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils import _access

ROUTES = [_access.network("10.20.0.0/16"), _access.network("fd00:20::/48")]
NOON = datetime.datetime(2027, 1, 31, 12, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2027-01-31T12:00:00Z", NOON),
        ("2027-01-31 13:00+01:00", NOON),
        (NOON, NOON),
        ("2027-01-31", NOON.replace(day=1, month=2, hour=0)),
        (datetime.date(2027, 1, 31), NOON.replace(day=1, month=2, hour=0)),
    ],
)
def test_expiry(value: object, moment: datetime.datetime) -> None:
    assert _access.expiry(value) == moment.timestamp()


@pytest.mark.parametrize(
    "value",
    ["", "tomorrow", "2027-02-30", "2027-01-31T12:00:00", datetime.datetime(2027, 1, 31), "9999-12-31", 1798761600, []],
)
def test_no_expiry(value: object) -> None:
    with pytest.raises(ValueError, match="neither a date"):
        _access.expiry(value)


@pytest.mark.parametrize(
    ("words", "elements"),
    [
        (["tcp/443"], ["tcp . 443"]),
        (["udp/8000-8100", "tcp/22"], ["udp . 8000-8100", "tcp . 22"]),
        (["icmp"], ["icmp . 0-65535", "icmpv6 . 0-65535"]),
        ([], ["0-255 . 0-65535"]),
        (None, ["0-255 . 0-65535"]),
    ],
)
def test_ports(words: object, elements: list[str]) -> None:
    assert _access.ports(words) == elements


@pytest.mark.parametrize("word", ["443", "tcp/0", "tcp/65536", "tcp/20-10", "sctp/1", "tcp/443;", "tcp/4\n"])
def test_no_ports(word: str) -> None:
    with pytest.raises(ValueError, match="is not such as tcp/443"):
        _access.ports([word])


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("all", "vpn_access: has to be a list of rules"),
        (["all"], "vpn_access[0]: has to have keys of clients, groups, ports, to, and no other"),
        ([{"port": []}], "vpn_access[0]: has to have keys of clients, groups, ports, to, and no other"),
        ([{}, {"groups": ["a b"]}], "vpn_access[1]: 'a b' is no usable name (letters, digits and _ . @ -, at most 63)"),
        ([{"to": ["10.21.0.0/16"]}], "vpn_access[0]: to: 10.21.0.0/16 is neither in vpn_routes nor behind a client"),
        ([{"to": "10.20.0.0/16"}], "vpn_access[0]: '10.20.0.0/16' has to be a list of words"),
    ],
)
def test_rules_that_can_not_work(rules: Any, problem: str) -> None:
    assert _access.check(rules, "allow", ["alice"], ROUTES) == [problem]


def test_a_rule_for_everybody_names_nobody() -> None:
    clients = {"alice": {"groups": [], "prefixes": ["10.80.0.1/32"]}}
    described = _access.describe([{}], "deny", clients, ROUTES)
    assert (described["rules"][0]["from"], described["restricted"]) == (["10.80.0.1/32"], [])
