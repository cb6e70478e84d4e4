# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Hosts of a test: network namespaces on one machine, with real interfaces between them."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar


def eventually(condition: Callable[[], Any], timeout: float = 20.0, interval: float = 0.05) -> Any:
    """Return the first true value; fail when there is none in ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(interval)
    return value


def listens(device: str, sockets: str) -> bool:
    """Whether wireguard-go takes commands for the device, by what /proc/net/unix says where it runs.

    Asking `wg` too early does harm: it removes a control socket that does not listen yet, and wireguard-go gives up.
    """
    return bool(re.search(rf" 00010000 .*/wireguard/{device}\.sock$", sockets, re.MULTILINE))


class Network:
    """Namespaces, and the processes in them; ``close`` ends exactly these."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.token = f"wf{os.getpid() % 100000}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.names: list[str] = []
        self.keys: dict[str, tuple[str, str]] = {}  # of "service" and each client: private, public

    def namespace(self, name: str) -> str:
        return f"{self.token}-{name}"

    def device(self, name: str) -> str:
        """wireguard-go's control sockets share one directory over all namespaces: names must differ."""
        return f"{self.token}{name}"

    def run(self, name: str, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        command = ["ip", "netns", "exec", self.namespace(name), *argv]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
        return done.stdout + done.stderr

    def start(self, name: str, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["ip", "netns", "exec", self.namespace(name), *argv], **options)
        self.processes.append(process)
        return process

    def add(self, name: str) -> None:
        subprocess.run(["ip", "netns", "add", self.namespace(name)], check=True)
        self.names.append(name)
        self.run(name, "ip", "link", "set", "lo", "up")
        for key in ("ipv6.conf.default.accept_dad=0", "ipv4.conf.default.rp_filter=0", "ipv4.conf.all.rp_filter=0"):
            self.run(name, "sysctl", "-qw", f"net.{key}")

    def bridge(self, name: str, *bridges: str) -> None:
        """Give a namespace bridges: those of ``fabric`` are the networks that hosts are in."""
        for bridge in bridges:
            self.run(name, "ip", "link", "add", bridge, "type", "bridge")
            self.run(name, "ip", "link", "set", bridge, "up")

    def connect(self, name: str, bridge: str, *addresses: str) -> None:
        """Give a namespace an interface named like the bridge of ``fabric`` that it leads to."""
        fabric = self.namespace("fabric")
        self.run(name, "ip", "link", "add", bridge, "type", "veth", "peer", "name", f"{bridge}-{name}", "netns", fabric)
        self.run("fabric", "ip", "link", "set", f"{bridge}-{name}", "master", bridge, "up")
        self.run(name, "ip", "link", "set", bridge, "up")
        for address in addresses:
            self.run(name, "ip", "address", "add", address, "dev", bridge)

    def wireguard(self, name: str, config: str, *addresses: str, device: str = "") -> None:
        device = self.device(device or name)
        log = self.directory / f"{device}.log"
        with log.open("wb") as output:
            process = self.start(name, "wireguard-go", "-f", device, stdout=output, stderr=output)
        eventually(lambda: process.poll() is not None or listens(device, self.run(name, "cat", "/proc/net/unix")), 30)
        assert process.poll() is None, log.read_text()
        self.run(name, "wg", "setconf", device, "/dev/stdin", stdin=config)
        for address in addresses:
            self.run(name, "ip", "address", "add", address, "dev", device)
        self.run(name, "ip", "link", "set", device, "mtu", "1420", "up")

    def key(self, name: str) -> tuple[str, str]:
        if name not in self.keys:
            private = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout.strip()
            public = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout
            self.keys[name] = (private, public.strip())
        return self.keys[name]

    def build(self) -> None:
        """Make it; each kind does it in its own way."""
        raise NotImplementedError

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()  # not kill: wireguard-go removes its control socket
        for process in self.processes:
            process.wait(timeout=10)
        for name in reversed(self.names):
            subprocess.run(["ip", "netns", "del", self.namespace(name)], check=False)


AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def alive(network: AnyNetwork) -> Iterator[AnyNetwork]:
    """The network, from when it is built until nobody needs it any more: what fixtures yield."""
    try:
        network.build()
        yield network
    finally:
        network.close()
