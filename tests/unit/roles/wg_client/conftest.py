# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A client with a session, the interface beside it, and the cluster: three real interfaces, over loopback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from wirefleet.command import run

from ..namespaces import eventually, listens
from ..vpn_cluster.conftest import network as network  # a fixture

PORT = 5001


def key() -> tuple[str, str]:
    private = run(["wg", "genkey"]).strip()
    return private, run(["wg", "pubkey"], stdin=private).strip()


@dataclass(frozen=True)
class Client:
    """Names of interfaces, and public keys. The cluster takes UDP at PORT of 127.0.0.1."""

    interface: str
    probe: str
    cluster: str
    key: str
    peer: str

    def handshake(self, interface: str) -> int:
        """When the latest one was, in seconds since the epoch; 0 for never."""
        (value,) = (line.split()[1] for line in run(["wg", "show", interface, "latest-handshakes"]).splitlines())
        return int(value)


@pytest.fixture
def client(network: None) -> Iterator[Client]:
    names = [f"wft{os.getpid() % 100000}{side}" for side in "abc"]
    (private, public), (service_private, service_public) = key(), key()
    secret = run(["wg", "genpsk"]).strip()
    there = f"PublicKey = {service_public}\nPresharedKey = {secret}\nAllowedIPs = 10.1.0.0/24, fd00:1::/64\n"
    there += f"Endpoint = 127.0.0.1:{PORT}\nPersistentKeepalive = 5\n"
    here = f"PublicKey = {public}\nPresharedKey = {secret}\nAllowedIPs = 10.1.0.1/32\n"
    processes = []
    try:
        for name, document in (
            (names[2], f"[Interface]\nPrivateKey = {service_private}\nListenPort = {PORT}\n[Peer]\n{here}"),
            (names[1], f"[Interface]\nPrivateKey = {private}\n"),
            (names[0], f"[Interface]\nPrivateKey = {private}\n[Peer]\n{there}"),
        ):
            processes.append(subprocess.Popen(["wireguard-go", "-f", name], stderr=subprocess.DEVNULL))
            eventually(lambda name=name: listens(name, run(["cat", "/proc/net/unix"])))  # type: ignore[misc]
            run(["wg", "setconf", name, "/dev/stdin"], stdin=document)
            run(["ip", "link", "set", name, "up"])
        made = Client(*names, public, service_public)
        eventually(lambda: made.handshake(made.interface) > 0 and made.handshake(made.cluster) > 0)
        yield made
    finally:
        for process in processes:
            process.terminate()  # not kill: it removes its control socket
            process.wait(timeout=10)
