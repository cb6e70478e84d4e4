# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A real tunnel over loopback: the probe's interface and a peer behind it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pytest
from wirefleet.command import CommandError, run
from wirefleet_steer import probe
from wirefleet_steer.haproxy import Report

from .conftest import eventually


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (Report("DOWN", 1, "L4TOUT", "Layer4 timeout"), True),
        (Report("DOWN 1/2", 1, "L4CON", "Layer4 connection problem: No route to host"), True),
        (Report("DOWN", 1, "L4CON", "Layer4 connection problem: Connection refused"), False),  # the agent is not there
        (Report("DOWN", 1, "L4CON", "Layer4 connection problem", under_way=True), False),  # or was not there
        (Report("DOWN", 1, "L7TOUT"), True),
        (Report("DOWN", 1, "L7STS"), False),  # the agent answered
        (Report("DOWN", 1, "L7RSP"), False),
        (Report("UP 1/2", 1, "L4TOUT"), False),
        (Report("MAINT", 1), False),
    ],
)
def test_unanswered(report: Report, expected: bool) -> None:
    assert probe.unanswered(report) is expected


def key() -> tuple[str, str]:
    private = run(["wg", "genkey"]).strip()
    return private, run(["wg", "pubkey"], stdin=private).strip()


class Tunnel(NamedTuple):
    """Two interfaces, and the node's public key."""

    probe: str
    node: str
    peer: str


@pytest.fixture
def tunnel(network: None) -> Iterator[Tunnel]:
    """The node listens on port 5001 of loopback."""
    names = [f"wfp{os.getpid() % 100000}{side}" for side in "ab"]
    (probe_private, probe_public), (node_private, node_public) = key(), key()
    secret = run(["wg", "genpsk"]).strip()
    behind_probe = (
        f"{node_public}\nEndpoint = 127.0.0.1:5001\nAllowedIPs = 10.1.0.2/32, fd00:1::2/128\nPersistentKeepalive = 25"
    )
    behind_node = f"{probe_public}\nAllowedIPs = 10.1.0.1/32"
    processes = []
    try:
        for name in names:
            processes.append(subprocess.Popen(["wireguard-go", "-f", name], stderr=subprocess.DEVNULL))
            eventually(lambda name=name: name in run(["wg", "show", "interfaces"]).split())  # type: ignore[misc]
        setconf(names[1], f"PrivateKey = {node_private}\nListenPort = 5001", behind_node, secret)
        setconf(names[0], f"PrivateKey = {probe_private}", behind_probe, secret)
        yield Tunnel(names[0], names[1], node_public)
    finally:
        for process in processes:
            process.terminate()  # not kill: it removes its control socket
            process.wait(timeout=10)


def setconf(name: str, interface: str, peer: str, secret: str) -> None:
    document = f"[Interface]\n{interface}\n[Peer]\nPublicKey = {peer}\nPresharedKey = {secret}\n"
    run(["wg", "setconf", name, "/dev/stdin"], stdin=document)
    run(["ip", "link", "set", name, "up"])


@pytest.mark.root
def test_a_node_that_returns_is_reached_at_once(tunnel: Tunnel) -> None:
    age = partial(probe.handshake_age, tunnel.probe, tunnel.peer)
    eventually(lambda: age(time.time()) is not None)
    assert age(time.time() - 86400) is None, "nobody knows since when the clock is right"
    before = run(["wg", "showconf", tunnel.probe])
    run(["wg", "set", tunnel.node, "listen-port", "5002"])  # the node is away
    assert probe.renew(tunnel.probe, tunnel.peer)
    time.sleep(0.5)
    assert age(time.time()) is None, "the peer is a new one, and waits 5 s for its answer"
    run(["wg", "set", tunnel.node, "listen-port", "5001"])
    assert probe.renew(tunnel.probe, tunnel.peer)
    eventually(lambda: age(time.time()) is not None, timeout=10)
    assert run(["wg", "showconf", tunnel.probe]) == before, "with its endpoint, its networks, its secret, its keepalive"


@pytest.mark.root
def test_a_peer_that_is_not_there_is_not_made_up(tunnel: Tunnel) -> None:
    before = run(["wg", "showconf", tunnel.probe])
    assert not probe.renew(tunnel.probe, key()[1])
    assert run(["wg", "showconf", tunnel.probe]) == before
    assert probe.handshake_age(tunnel.probe, key()[1], 0) is None


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_an_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CommandError, match="wfp-none"):
        probe.renew("wfp-none", key()[1])
