# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The configuration that the tests start from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wirefleet_node.settings import Config, load


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "cluster": "default",
        "node": "n1",
        "interface": "wg0",
        "port": 51820,
        "listen": [["127.0.0.1", 8051]],
        "old": None,
        "gateway": {
            "mark": 51820,
            "table": 51820,
            "priority": 5182,
            "routes": [
                {"family": 4, "device": "backend", "network": "10.9.0.0/24", "via": "10.9.0.10"},
                {"family": 6, "device": "backend", "network": "fd00:9::/64", "via": "fd00:9::10"},
            ],
        },
        "nft": {"family": "inet", "table": "wirefleet_node", "file": f"{tmp_path}/node.nft"},
        "sysctls": {"net/ipv4/ip_forward": "1"},
        "checks": [{"name": "dns", "command": ["true"], "timeout": 2, "interval": 10}],
        "adopters": ["127.0.0.1"],
        "probes": ["probe"],
        "state_dir": str(tmp_path),
        "usage": str(tmp_path / "usage.json"),
        "per_peer_metrics": False,
    }


@pytest.fixture
def configure(document: dict[str, Any], tmp_path: Path) -> Callable[..., Config]:
    """Load the document with some of its keys changed."""

    def load_with(**changes: Any) -> Config:
        path = tmp_path / "node.json"
        path.write_text(json.dumps({**document, **changes}))
        return load(path)

    return load_with
