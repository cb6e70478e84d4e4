# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._client import problems

PLAIN = {
    "cluster": "second",
    "foreign": False,
    "interface": "wg0",
    "transport": "udp",
    "probe_interface": "wfudp",
    "shim_port": "51822",
    "kill_switch": False,
    "kill_switch_allow": [],
    "allowed_networks": ["10.20.0.0/16"],
    "client_networks": ["10.80.0.0/16", "fd00:80::/48"],
    "connection_kind": "ssh",
    "connection": "192.0.2.1 50000 192.0.2.9 22",
}
FULL = {"kill_switch": True, "allowed_networks": ["0.0.0.0/0", "::/0"], "kill_switch_allow": ["192.0.2.0/24"]}
WATCHER = {"cluster": "default", "shim": {"port": 51822}, "probe_interface": "wfudp"}
KILL_SWITCH = {"cluster": "default", "table": "wirefleet_kill_switch", "rules": "/etc/…"}


@pytest.mark.parametrize(
    ("client", "others"),
    [
        pytest.param({}, [], id="the only one"),
        pytest.param({}, [WATCHER, KILL_SWITCH], id="beside another, over UDP"),
        pytest.param({"transport": "tcp", "shim_port": "51832"}, [WATCHER], id="beside another, with another port"),
        pytest.param(FULL, [], id="a kill switch that allows the controller"),
        pytest.param(
            {**FULL, "connection_kind": "containers.podman.podman", "connection": ""},
            [],
            id="a connection of another kind",
        ),
        pytest.param({**FULL, "connection": "::ffff:192.0.2.1 1 ::ffff:192.0.2.9 22"}, [], id="over a socket of IPv6"),
        pytest.param({**FULL, "connection": "fe80::1%eth0 1 fe80::2%eth0 22", "kill_switch_allow": ["fe80::/10"]}, []),
        pytest.param({**FULL, "connection": "203.0.113.1 1 10.80.0.5 22"}, [], id="a controller behind the tunnel"),
    ],
)
def test_nothing_stands_against_it(client: dict[str, Any], others: list[dict[str, Any]]) -> None:
    assert problems({**PLAIN, **client}, others) == []


@pytest.mark.parametrize(
    ("client", "others", "complaint"),
    [
        ({"foreign": True}, [], "wg_client_interface is wg0, but /etc/wireguard/wg0.conf is not"),
        ({"transport": "tcp"}, [WATCHER], "wg_client_shim_port is 51822, which the client of the cluster default"),
        (
            {"transport": "auto", "shim_port": "51832"},
            [WATCHER],
            "wg_client_probe_interface is wfudp, which the client of the cluster default",
        ),
        ({**FULL, "connection": ""}, [], "the host does not say where this connection comes from"),
        (FULL, [KILL_SWITCH], "wg_client_kill_switch is true, and the client of the cluster default"),
        ({**FULL, "allowed_networks": ["10.20.0.0/16"]}, [], "wg_client_allowed_networks has neither"),
        (
            {**FULL, "kill_switch_allow": ["192.0.2.1/24"]},
            [],
            "kill_switch_allow: 192.0.2.1/24 has host bits",
        ),
        ({**FULL, "kill_switch_allow": []}, [], "cut off this very connection, which comes from 192.0.2.1"),
        ({**FULL, "connection": "203.0.113.1 1 198.51.100.9 22"}, [], "which comes from 203.0.113.1"),
    ],
)
def test_what_is_refused(client: dict[str, Any], others: list[dict[str, Any]], complaint: str) -> None:
    found = problems({**PLAIN, **client}, others)
    assert [text for text in found if complaint in text] == found != []
