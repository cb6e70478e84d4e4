# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab's hosts as testinfra sees them, and what can befall them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import testinfra
from testinfra.host import Host

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "lab"))
import lab as labs  # noqa: E402


def until(what: str, seconds: float, ready: Callable[[], bool], pause: float = 0.2) -> float:
    """Wait for it; return how many seconds that took."""
    begin = time.monotonic()
    while not ready():
        assert time.monotonic() < begin + seconds, f"not within {seconds:g} s: {what}"
        time.sleep(pause)
    return time.monotonic() - begin


class Lab:
    """One lab, by the name that it shares with a scenario."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inventory = REPOSITORY / "lab" / "inventories" / name
        self._lab = labs.load(name)
        self.directory = self._lab.directory

    @cache  # noqa: B019 -- a lab lives as long as the process
    def host(self, name: str) -> Host:
        """By SSH, as Ansible goes; a host without an uplink is asked through podman."""
        host = self._lab.host(name)
        if not host.ssh_address:
            return testinfra.get_host(f"podman://{host.container}")
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ServerAliveInterval": "5",
            "ControlMaster": "auto",
            "ControlPath": f"{self.directory}/ssh-%h",
            "ControlPersist": "60s",
        }
        return testinfra.get_host(
            f"ssh://root@{host.ssh_address}",
            ssh_identity_file=str(self.directory / "id_ed25519"),
            ssh_extra_args=" ".join(f"-o {name}={value}" for name, value in options.items()),
        )

    def address(self, name: str, network: str, version: int) -> str:
        """A host's address on one of the lab's wires, without its prefix length."""
        mark = {4: ".", 6: ":"}[version]
        return next(a.split("/")[0] for a in self._lab.host(name).networks[network] if mark in a)

    def befall(self, verb: str, host: str) -> None:
        """What lab.py can do to a host: cut, mend, kill, freeze, start."""
        command = [sys.executable, str(REPOSITORY / "lab" / "lab.py"), verb, self.name, host]
        subprocess.run(command, check=True, timeout=180)
