# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from wirefleet.command import run
from wirefleet.config import ConfigError
from wirefleet_node import expiry
from wirefleet_node.expiry import Expiries, Expiry, load
from wirefleet_node.watched import Watched

from ..namespaces import eventually, listens
from ..vpn_cluster.conftest import network as network  # a fixture


def test_who_has_expired() -> None:
    expiries = Expiries({"early": 100.0, "late": 200.0}, written=50.0)
    assert expiries.over(99.9) == frozenset()
    assert expiries.over(100) == {"early"}
    assert expiries.over(1000) == {"early", "late"}


def test_a_clock_behind_the_file_brings_nobody_back() -> None:
    assert Expiries({"early": 100.0, "late": 200.0}, written=150.0).over(0) == {"early"}


@pytest.mark.parametrize(("now", "expected"), [(0, 100), (99.9, 100), (100, 200), (200, None)])
def test_who_is_next(now: float, expected: float | None) -> None:
    assert Expiries({"early": 100.0, "late": 200.0}, written=0.0).next(now) == expected


def test_the_file_says_when_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "expiry.json"
    path.write_text(json.dumps({"version": 1, "expires": {"key": 12}}))
    os.utime(path, (1000, 1000))
    assert load(path) == Expiries({"key": 12}, 1000)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting property name"),
        ('{"version": 2, "expires": {}}', "version: this agent reads version 1, got 2"),
        ('{"version": 1, "expires": {"key": "soon"}}', 'expires.key: expected number, got "soon"'),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "expiry.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: {problem}")


def test_a_file_is_read_once_until_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    reads: list[str] = []

    def read(path: Path) -> str:
        reads.append(path.read_text())
        return reads[-1]

    watched = Watched(path, read)
    path.write_text("one")
    assert (watched.get(), watched.get(), reads) == ("one", "one", ["one"])
    (tmp_path / "new").write_text("two")
    os.replace(tmp_path / "new", path)
    assert (watched.get(), reads) == ("two", ["one", "two"])


def test_what_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    attempts: list[int] = []

    def read(_path: Path) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConfigError("broken")
        return "read"

    watched = Watched(path, read)
    with pytest.raises(ConfigError):
        watched.get()
    assert watched.get() == "read"


DAY = 86400.0


@pytest.fixture
def interface(network: None) -> Iterator[str]:
    """WireGuard without a peer."""
    name = f"wfe{os.getpid() % 100000}"
    process = subprocess.Popen(["wireguard-go", "-f", name], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(name, run(["cat", "/proc/net/unix"])))
        yield name
    finally:
        process.terminate()  # not kill: it removes its control socket
        process.wait(timeout=10)


def add(interface: str, networks: str, *, secret: bool) -> str:
    """Add a peer; return its public key."""
    key = run(["wg", "pubkey"], stdin=run(["wg", "genkey"])).strip()
    options = ["preshared-key", "/dev/stdin"] if secret else []
    run(["wg", "set", interface, "peer", key, *options, "allowed-ips", networks], stdin=run(["wg", "genpsk"]))
    return key


def sections(interface: str) -> list[str]:
    """What the interface has, peers in an order of their own."""
    return sorted(part.strip() for part in run(["wg", "showconf", interface]).split("\n\n"))


@pytest.mark.root
def test_who_expired_by_a_wrong_clock_comes_back_as_it_was(
    interface: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soon = add(interface, "10.80.0.5/32,fd00:80::5/128", secret=True)
    too, revoked, late = (add(interface, f"10.80.0.{n}/32", secret=n == 7) for n in (6, 7, 8))
    before = sections(interface)
    now, path = time.time(), tmp_path / "expiry.json"
    path.write_text(json.dumps({"version": 1, "expires": {soon: now + 60, too: now + 60, late: now + 3 * DAY}}))
    enforcing = Expiry(interface, path)

    def peers(offset: float) -> set[str]:
        monkeypatch.setattr(expiry.time, "time", lambda: now + offset)
        enforcing.enforce()
        return set(run(["wg", "show", interface, "peers"]).split())

    assert peers(0) == {soon, too, revoked, late}
    assert peers(DAY) == {revoked, late}
    assert peers(0) == {soon, too, revoked, late}
    assert sections(interface) == before, "with secrets and networks"
    assert capsys.readouterr().err.count("event=put_back ") == 2

    assert peers(DAY) == {revoked, late}
    for key in (soon, too):
        run(["wg", "set", interface, "peer", key])
    assert peers(0) == {soon, too, revoked, late}, "somebody else was faster"

    assert peers(DAY) == {revoked, late}
    path.write_text(json.dumps({"version": 1, "expires": {soon: now + 60, late: now + 3 * DAY}}))
    os.utime(path, (now + 1, now + 1))
    assert peers(0) == {revoked, late}, "with another file that is up to who wrote it"
