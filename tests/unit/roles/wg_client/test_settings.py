# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wirefleet_client.__main__ import main
from wirefleet_client.settings import ConfigError, load

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "cluster": "default",
    "interface": "wg0",
    "peer": "K",
    "server": {"host": "vpn.example.com", "port": 51820},
    "shim": {"user": "wirefleet-shim", "port": 51822},
    "probe_interface": None,
    "rule_priority": 5178,
    "run_dir": "/run/wirefleet-client",
}


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**DOCUMENT, **changes}))
    return path


def test_what_it_says(tmp_path: Path) -> None:
    config = load(write(tmp_path / "client.json", probe_interface="wfudp"))
    assert (config.shim, config.probe_interface, config.host) == ("127.0.0.1:51822", "wfudp", "vpn.example.com")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"version": 2}, "version: expected 1, got 2"), ({"shim": {"user": "u"}}, "shim.port: missing")],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(write(tmp_path / "client.json", **changes))


def test_the_role_can_check_it(tmp_path: Path) -> None:
    assert main(["check-config", str(write(tmp_path / "client.json"))]) == 0
    assert main(["check-config", str(write(tmp_path / "client.json", peer=1))]) == 2
