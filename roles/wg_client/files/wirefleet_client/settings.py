# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The watcher's configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wirefleet import config
from wirefleet.config import ConfigError

SHAPE: dict[str, config.Shape] = {
    "version": int,
    "cluster": str,
    "interface": str,
    "peer": str,
    "server": {"host": str, "port": int},
    "shim": {"user": str, "port": int},
    "probe_interface": config.Optional(str),
    "rule_priority": int,
    "run_dir": str,
}


@dataclass(frozen=True)
class Config:
    """``peer`` is the service's public key, ``host`` what the balancer is called, ``port`` where it takes UDP.

    The shim listens on ``shim_port`` of 127.0.0.1. Without a ``probe_interface`` it is TCP always.
    """

    interface: str
    peer: str
    host: str
    port: int
    shim_user: str
    shim_port: int
    probe_interface: str | None
    rule_priority: int
    run_dir: Path

    @property
    def shim(self) -> str:
        """Where WireGuard sends to on the path over TCP."""
        return f"127.0.0.1:{self.shim_port}"


def load(path: str | os.PathLike[str]) -> Config:
    """Read and check the file. Raises a ConfigError that names the key."""
    document = config.load(path, SHAPE)
    if document["version"] != 1:
        raise ConfigError(f"{os.fspath(path)}: version: expected 1, got {document['version']}")
    return Config(
        interface=document["interface"],
        peer=document["peer"],
        host=document["server"]["host"],
        port=document["server"]["port"],
        shim_user=document["shim"]["user"],
        shim_port=document["shim"]["port"],
        probe_interface=document["probe_interface"],
        rule_priority=document["rule_priority"],
        run_dir=Path(document["run_dir"]),
    )
