# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from pathlib import Path

import pytest
from wirefleet.command import run
from wirefleet.iproute import ensure_rules, missing_rules
from wirefleet_client.server import Server, find, outside, remember


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("198.51.100.10:51820", "198.51.100.10"),
        ("[2001:db8::10]:51820", "2001:db8::10"),
        ("127.0.0.1:51822", None),
        ("(none)", None),
    ],
)
def test_what_wireguard_says(endpoint: str, address: str | None) -> None:
    assert outside(endpoint) == address


def test_what_wireguard_was_told_comes_first(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    remember(Server("198.51.100.10", 51820), "vpn.example.com", hosts)
    assert find("vpn.invalid", 51820, "198.51.100.11:51820", hosts) == Server("198.51.100.11", 51820)
    assert find("vpn.invalid", 51820, "127.0.0.1:51822", hosts) == Server("198.51.100.10", 51820)


def test_with_nothing_to_remember_the_resolver_is_asked(tmp_path: Path) -> None:
    assert find("2001:db8::10", 51820, "127.0.0.1:51822", tmp_path / "hosts") == Server("2001:db8::10", 51820)


def test_the_shim_finds_the_name_in_it(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    remember(Server("2001:db8::10", 51820), "vpn.example.com", hosts)
    assert "2001:db8::10 wirefleet-balancer vpn.example.com" in hosts.read_text().splitlines()
    remember(Server("2001:db8::10", 51820), "2001:db8::10", hosts)
    assert "2001:db8::10 wirefleet-balancer" in hosts.read_text().splitlines()


@pytest.mark.parametrize(
    ("address", "endpoint", "rule"),
    [
        ("198.51.100.10", "198.51.100.10:51820", "ip -4 rule priority 5178 to 198.51.100.10/32 table 254"),
        ("2001:db8::10", "[2001:db8::10]:51820", "ip -6 rule priority 5178 to 2001:db8::10/128 table 254"),
    ],
)
def test_both_families(address: str, endpoint: str, rule: str) -> None:
    server = Server(address, 51820)
    assert (server.endpoint, str(server.rule(5178))) == (endpoint, rule)


def test_a_full_tunnel_that_came_later_is_overtaken(network: None) -> None:
    """wg-quick lets the kernel choose where its rules go, which is before those that are there."""
    server = Server("198.51.100.10", 51820)
    ensure_rules([server.rule(5178)])
    run(["ip", "rule", "add", "not", "fwmark", "51820", "table", "51820"])
    run(["ip", "rule", "add", "table", "main", "suppress_prefixlength", "0"])
    ensure_rules([server.rule(5178)])
    order = run(["ip", "-N", "rule", "show"])
    assert order.index("to 198.51.100.10 ") < order.index("lookup 51820")
    assert missing_rules([server.rule(5178)]) == [], "the rule that is there stays the one that is wanted"
