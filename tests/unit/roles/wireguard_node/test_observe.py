# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

import pytest
from wirefleet.command import CommandError, run
from wirefleet_node import observe
from wirefleet_node.settings import Config

Configure = Callable[..., Config]


def test_link() -> None:
    assert observe.link("lo") == "up"
    assert observe.link("no-such-link") == "missing"


LOOK = """
mount -t sysfs sysfs /sys
ip tuntap add wftun0 mode tun
ip link add wfveth0 type veth peer name wfveth1
exec "$0" -c "
from wirefleet_node.observe import implementation
print(*map(implementation, ('wftun0', 'wfveth0', 'wfnone')))
"
"""


@pytest.mark.root
def test_who_runs_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tun device is what wireguard-go makes; any other is the kernel's own."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    seen = run(["unshare", "--net", "--mount", "sh", "-e", "-c", LOOK, sys.executable])
    assert seen.split() == ["userspace", "kernel", "None"]


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["ipv4", "ipv6"]
)
def test_listening_sees_either_family(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        port = sock.getsockname()[1]
        assert observe.listening(port)
    assert not observe.listening(port)


def test_what_can_not_be_looked_at_hides_nothing_else(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_wanted: object) -> list[observe.Fixture]:
        raise CommandError(["ip", "rule"], "timeout")

    config = configure()
    monkeypatch.setattr(observe, "missing_rules", broken)
    monkeypatch.setattr(observe, "missing_routes", lambda wanted: list(wanted))
    monkeypatch.setattr(observe.nft, "table_present", lambda _family, _name: False)
    assert observe.missing(config) == ([*config.routes, config.table], ["ip rule: timeout"])
