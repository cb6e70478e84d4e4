# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Keys and hand-outs, as the playbook makes them: by ansible-playbook, one task each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KEYS, HANDOUTS = "wirefleet.vpn.vpn_device_keys", "wirefleet.vpn.vpn_handouts"
SERVICE_KEY = "wD8mWjHnVd1sIuDJXRvSkhgPsd2ehLPkMR9wGwKkFlc="
SEED = "8W3DSpjZQrzOc3DtvV7iK0HeJTQ7wZ1KUI/Id6uEsWo="
CLIENTS = [{"name": "alice", "owner": "Alice"}, {"name": "bob", "public_key": SERVICE_KEY}, {"name": "carol"}]


@pytest.fixture
def make_keys(play: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def run(*options: str, **arguments: Any) -> Any:
        given = {"directory": str(tmp_path / "keys"), "clients": CLIENTS, "ledger": [], "tunnel": "vpn", **arguments}
        return play("here", KEYS, *options, **given)

    return run


@pytest.fixture
def hand_out(play: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    page = tmp_path / "page.html.j2"
    page.write_text("{{ device.name }}")

    def run(ledger: list[dict[str, Any]], *options: str, **arguments: Any) -> Any:
        return play(
            "here",
            HANDOUTS,
            *options,
            **{
                "directory": str(tmp_path / "handouts"),
                "key_directory": str(tmp_path / "keys"),
                "template": str(page),
                "clients": CLIENTS,
                "ledger": ledger,
                "cluster": "default",
                "seed": SEED,
                "service_public_key": SERVICE_KEY,
                "endpoint": "2001:db8::10",
                "port": 51820,
                "mtu": 1420,
                "routes": ["10.20.0.0/16"],
                "tunnel": "vpn",
                **arguments,
            },
        )

    return run


def entry(name: str, public_key: str, **more: Any) -> dict[str, Any]:
    return {"kind": "client", "name": name, "public_key": public_key, "addresses": ["10.80.0.7"], **more}


def test_from_keys_to_hand_outs(make_keys: Callable[..., Any], hand_out: Callable[..., Any], tmp_path: Path) -> None:
    made = make_keys()
    assert (made.result["changed"], made.result["names"]) == (True, ["alice", "carol"])
    # Another controller was faster with carol.
    ledger = [entry("alice", made.result["public_keys"]["alice"]), entry("bob", SERVICE_KEY), entry("carol", SEED)]
    written = hand_out(ledger, "--diff", "-vvv", terminal=True, only=["alice"])
    assert written.result["written"] == ["alice"], written.output
    conf = (tmp_path / "handouts" / "alice" / "vpn.conf").read_text()
    assert "Endpoint = [2001:db8::10]:51820\n" in conf
    for line in conf.splitlines():
        if line.startswith(("PrivateKey", "PresharedKey")):
            assert line.split(" = ")[1] not in written.output
    assert "▄" in written.output or "█" in written.output

    for left in (tmp_path / "keys").iterdir():
        os.utime(left, (0, 0))
    everybody = hand_out(ledger)
    assert everybody.result["written"] == ["bob"], everybody.output
    assert not [path for path in (tmp_path / "keys").iterdir() if path.suffix == ".new"]
    assert hand_out(ledger).result["changed"] is False
    gone = hand_out([entry("bob", SERVICE_KEY), entry("alice", SEED, released="2026-11-22T00:00:00Z")])
    assert gone.result["removed"] == ["alice"]


def test_a_check_changes_nothing(make_keys: Callable[..., Any], hand_out: Callable[..., Any], tmp_path: Path) -> None:
    assert make_keys("--check").result["names"] == ["alice", "carol"]
    assert hand_out([entry("bob", SERVICE_KEY)], "--check").result["written"] == ["bob"]
    assert not (tmp_path / "keys").exists()
    assert not (tmp_path / "handouts").exists()


@pytest.mark.parametrize(
    ("arguments", "complaints"),
    [
        ({"tunnel": "a tunnel"}, ["vpn_handout_tunnel: 'a tunnel' is no name that all devices take"]),
        ({"only": ["dave"]}, ["client=dave: vpn_clients has no such device"]),
        (
            {"only": ["bob"], "rekey": True, "keep_keys": True},
            ["bob: brings a public_key of its own", "vpn_handout_keep_keys keeps devices' private keys"],
        ),
        (
            {"rekey": True, "terminal": True},
            ["vpn_handout_rekey: which device?", "_terminal: which device?"],
        ),
        ({"vault_password_file": "/nowhere"}, ["vpn_handout_vault_password_file: "]),
    ],
)
def test_what_can_not_be_is_told_before_a_key_is_made(
    make_keys: Callable[..., Any], tmp_path: Path, arguments: dict[str, Any], complaints: list[str]
) -> None:
    refused = make_keys(**arguments)
    assert refused.result["failed"]
    assert all(complaint in refused.result["msg"] for complaint in complaints), refused.result["msg"]
    assert not (tmp_path / "keys").exists()
