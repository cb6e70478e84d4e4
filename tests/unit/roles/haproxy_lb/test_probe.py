# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A real tunnel over loopback: the probe's interface and a peer behind it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from wirefleet.command import CommandError, run
from wirefleet_steer import probe
from wirefleet_steer.haproxy import Report

from .conftest import eventually


@pytest.mark.parametrize(
    ("status", "check", "expected"),
    [
        ("DOWN", "L4TOUT", True),
        ("DOWN 1/2", "L4CON", True),
        ("DOWN", "L7TOUT", True),
        ("DOWN", "L7STS", False),  # the agent answered, through the tunnel
        ("DOWN", "L7RSP", False),
        ("UP 1/2", "L4TOUT", False),
        ("MAINT", "", False),
    ],
)
def test_unanswered(status: str, check: str, expected: bool) -> None:
    assert probe.unanswered(Report(status, 1, check)) is expected


def key() -> tuple[str, str]:
    private = run(["wg", "genkey"]).strip()
    return private, run(["wg", "pubkey"], stdin=private).strip()


@pytest.fixture
def tunnel(network: None) -> Iterator[tuple[str, str]]:
    """Yield the probe's interface and the public key of its peer, a node on port 5001 of loopback."""
    names = [f"wfp{os.getpid() % 100000}{side}" for side in "ab"]
    (probe_private, probe_public), (node_private, node_public) = key(), key()
    secret = run(["wg", "genpsk"]).strip()
    probe = (
        f"{node_public}\nEndpoint = 127.0.0.1:5001\nAllowedIPs = 10.1.0.2/32, fd00:1::2/128\nPersistentKeepalive = 25"
    )
    node = f"{probe_public}\nAllowedIPs = 10.1.0.1/32"
    processes = []
    try:
        for name in names:
            processes.append(subprocess.Popen(["wireguard-go", "-f", name], stderr=subprocess.DEVNULL))
            eventually(lambda name=name: name in run(["wg", "show", "interfaces"]).split())  # type: ignore[misc]
        setconf(names[1], f"PrivateKey = {node_private}\nListenPort = 5001", node, secret)
        setconf(names[0], f"PrivateKey = {probe_private}", probe, secret)
        yield names[0], node_public
    finally:
        for process in processes:
            process.terminate()  # not kill: it removes its control socket
            process.wait(timeout=10)


def setconf(name: str, interface: str, peer: str, secret: str) -> None:
    document = f"[Interface]\n{interface}\n[Peer]\nPublicKey = {peer}\nPresharedKey = {secret}\n"
    run(["wg", "setconf", name, "/dev/stdin"], stdin=document)
    run(["ip", "link", "set", name, "up"])


@pytest.mark.root
def test_renewing_starts_over_and_loses_nothing(tunnel: tuple[str, str]) -> None:
    interface, peer = tunnel
    eventually(lambda: probe.handshake_age(interface, peer, time.time()) is not None)
    before = run(["wg", "showconf", interface])
    sent = run(["wg", "show", interface, "transfer"])
    assert probe.renew(interface, peer)
    assert run(["wg", "show", interface, "transfer"]) != sent, "the peer is a new one"
    assert run(["wg", "showconf", interface]) == before
    eventually(lambda: probe.handshake_age(interface, peer, time.time()) is not None)


@pytest.mark.root
def test_a_peer_that_is_not_there_is_not_made_up(tunnel: tuple[str, str]) -> None:
    interface, _ = tunnel
    before = run(["wg", "showconf", interface])
    assert not probe.renew(interface, key()[1])
    assert run(["wg", "showconf", interface]) == before
    assert probe.handshake_age(interface, key()[1], 0) is None


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_an_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CommandError, match="wfp-none"):
        probe.renew("wfp-none", key()[1])
