# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import pytest
from wirefleet.command import run
from wirefleet_steer.vip import is_active, is_local

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network")]

ADDRESSES = ("198.51.100.1", "2001:db8::1")


@pytest.fixture
def _host(network: None) -> None:
    """One that has routes to everywhere, and addresses of its own."""
    run(["ip", "link", "add", "backend", "type", "veth", "peer", "name", "other"])
    for device in ("other", "backend"):
        run(["ip", "link", "set", device, "up"])
    for address in ("10.9.0.1/24", "fd00:9::1/64"):
        run(["ip", "address", "add", address, "dev", "backend", *(["nodad"] if ":" in address else [])])
    run(["ip", "-4", "route", "add", "default", "via", "10.9.0.254"])
    run(["ip", "-6", "route", "add", "default", "via", "fd00:9::254"])


@pytest.mark.usefixtures("_host")
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_comes_and_goes(address: str) -> None:
    # As hosts with HAProxy often have it.
    run(["sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1", "net.ipv6.ip_nonlocal_bind=1"])
    deprecated = ["nodad", "preferred_lft", "0"] if ":" in address else []
    assert not is_local(address)
    run(["ip", "address", "add", address, "dev", "backend", *deprecated])
    assert is_local(address)
    run(["ip", "address", "del", address, "dev", "backend"])
    assert not is_local(address)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_host_without_a_route_does_not_have_it(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize(
    ("vips", "active"),
    [([], True), (["127.0.0.1", ADDRESSES[1]], True), ([*ADDRESSES, "127.0.0.1"], True), (ADDRESSES, False)],
)
def test_a_balancer_is_active_where_any_of_the_addresses_is_or_where_there_are_none(
    vips: list[str], active: bool
) -> None:
    assert is_active(vips) is active
