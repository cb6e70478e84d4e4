# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import generate_private_key, public_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_config import parse
from ansible_collections.wirefleet.vpn.plugins.plugin_utils import _handouts
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._device_keys import DeviceKeys
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._handout import Device, Page, Service
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._handouts import Handouts
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._secret_files import SecretFileError, SecretFiles

SERVICE = Service(public_key=public_key(generate_private_key()), endpoint="vpn:51820", mtu=1420, tunnel="vpn")
FILES = ["vpn.conf", "vpn.html", "vpn.png", "vpn.svg"]


def device(name: str, public: str, **changes: Any) -> Device:
    bare = Device(name, "", ["10.80.0.7"], public, False, None, ["10.20.0.0/16"], [])
    return dataclasses.replace(bare, **changes)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "handouts"


@pytest.fixture
def keys(tmp_path: Path, files: SecretFiles) -> DeviceKeys:
    return DeviceKeys(tmp_path / "keys", files)


@pytest.fixture
def handouts(directory: Path, files: SecretFiles, keys: DeviceKeys) -> Callable[..., Handouts]:
    """As the next run finds them."""

    def opened(keep: bool = False, page: str = "{{ configuration }}", **service: Any) -> Handouts:
        return Handouts(directory, files, keys, dataclasses.replace(SERVICE, **service), Page(page), keep)

    return opened


@pytest.fixture
def alice(keys: DeviceKeys) -> Device:
    """Her key pair has been made, and the nodes know it."""
    return device("alice", str(keys.prepare(["alice"], {}, check=False)["alice"]))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_hand_out_is_written_once(handouts: Callable[..., Handouts], alice: Device, directory: Path) -> None:
    assert handouts().write([alice], [], check=True).written == ["alice"]
    assert not directory.exists()
    assert handouts().write([alice], [], check=False).written == ["alice"]
    assert names(directory / "alice") == FILES
    assert names(directory) == [".gitignore", ".written.json", "alice"]
    assert handouts().write([alice], [], check=False).written == []


def test_a_key_is_forgotten_only_when_it_is_handed_out(
    handouts: Callable[..., Handouts], alice: Device, keys: DeviceKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(_handouts.QrCode, "png", full)
        with pytest.raises(OSError, match="No space"):
            handouts().write([alice], [], check=False)
    assert keys.find("alice", alice.public_key)
    handouts().write([alice], [], check=False)
    assert keys.find("alice", alice.public_key) is None


def test_what_nodes_do_not_know_is_not_handed_out(
    handouts: Callable[..., Handouts], alice: Device, directory: Path
) -> None:
    other = dataclasses.replace(alice, public_key=public_key(generate_private_key()))
    assert handouts().write([other], [], check=False).written == []
    assert not (directory / "alice").exists()


def test_a_hand_out_that_is_still_there_follows_the_settings(
    handouts: Callable[..., Handouts], alice: Device, directory: Path, files: SecretFiles
) -> None:
    handouts().write([alice], [], check=False)
    changed = handouts(endpoint="new.example.com:51820").write([alice], [], check=False)
    assert changed.written == ["alice"]
    text = files.read(directory / "alice" / "vpn.conf") or b""
    assert b"Endpoint = new.example.com:51820" in text
    # Under another name, too.
    handouts(tunnel="acme").write([alice], [], check=False)
    assert names(directory / "alice") == ["acme.conf", "acme.html", "acme.png", "acme.svg"]


def test_a_hand_out_that_was_taken_away_is_delivered(
    handouts: Callable[..., Handouts], alice: Device, directory: Path
) -> None:
    handouts().write([alice], [], check=False)
    (directory / "alice" / "vpn.conf").unlink()
    assert handouts().write([alice], [], check=False).written == []
    # Its page alone does not make it wrong.
    assert handouts(page="new").write([alice], [], check=False).outdated == []
    moved = handouts(endpoint="new.example.com:51820").write([alice], [], check=False)
    assert (moved.written, moved.outdated) == ([], ["alice"])
    with pytest.raises(SecretFileError, match=r"alice: was handed out on \d{4}-\d\d-\d\d, and its private key is not"):
        handouts().write([alice], ["alice"], check=False)


def test_a_kept_key_is_handed_out_again_on_request(
    handouts: Callable[..., Handouts], alice: Device, directory: Path
) -> None:
    handouts(keep=True).write([alice], [], check=False)
    for path in (directory / "alice").iterdir():
        path.unlink()
    assert handouts(keep=True).write([alice], [], check=False).written == []
    assert handouts(keep=True).write([alice], ["alice"], check=False).written == ["alice"]
    assert names(directory / "alice") == FILES


def test_a_new_key_pair_replaces_the_hand_out(
    handouts: Callable[..., Handouts], alice: Device, keys: DeviceKeys, directory: Path, files: SecretFiles
) -> None:
    handouts().write([alice], [], check=False)
    before = files.read(directory / "alice" / "vpn.conf")
    new = keys.prepare(["alice"], {"alice": alice.public_key}, check=False)["alice"]
    assert handouts().write([device("alice", str(new))], ["alice"], check=False).written == ["alice"]
    assert files.read(directory / "alice" / "vpn.conf") != before


def test_another_controllers_device_is_left_alone(handouts: Callable[..., Handouts], directory: Path) -> None:
    outcome = handouts().write([device("alice", SERVICE.public_key)], [], check=False)
    assert (outcome.written, outcome.outdated) == ([], [])
    with pytest.raises(SecretFileError, match="alice: was handed out before, maybe by another controller"):
        handouts().write([device("alice", SERVICE.public_key)], ["alice"], check=False)


def test_a_device_with_its_own_key_gets_no_code(
    handouts: Callable[..., Handouts], alice: Device, directory: Path
) -> None:
    handouts().write([alice], [], check=False)
    own = dataclasses.replace(alice, own_key=True)
    assert handouts().write([own], [], check=False).written == ["alice"]
    assert names(directory / "alice") == ["vpn.conf", "vpn.html"]
    assert handouts().qr_code("alice") is None


def test_who_is_gone_leaves_nothing(handouts: Callable[..., Handouts], alice: Device, directory: Path) -> None:
    handouts().write([alice], [], check=False)
    assert handouts().clear(["alice"], check=False) == []
    assert handouts().clear([], check=True) == ["alice"]
    assert names(directory / "alice") == FILES
    assert handouts().clear([], check=False) == ["alice"]
    assert names(directory) == [".gitignore", ".written.json"]


def test_the_record_has_no_secret(handouts: Callable[..., Handouts], alice: Device, directory: Path) -> None:
    handouts().write([alice], [], check=False)
    [record] = json.loads((directory / ".written.json").read_text()).values()
    assert sorted(record) == ["conf", "encrypted", "page", "written"]
    assert alice.public_key not in str(record)


def test_a_plain_hand_out_is_encrypted_from_when_that_is_asked(
    directory: Path, tmp_path: Path, plain: SecretFiles, vaulted: SecretFiles
) -> None:
    def hand_out(files: SecretFiles) -> list[str]:
        opened = Handouts(directory, files, DeviceKeys(tmp_path / "keys", files), SERVICE, Page("page"), False)
        return opened.write([bob], [], check=False).written

    bob = device("bob", str(DeviceKeys(tmp_path / "keys", plain).prepare(["bob"], {}, check=False)["bob"]))
    assert [hand_out(plain), hand_out(vaulted), hand_out(vaulted)] == [["bob"], ["bob"], []]
    assert all(path.read_bytes().startswith(b"$ANSIBLE_VAULT") for path in (directory / "bob").iterdir())
    with pytest.raises(SecretFileError, match="is encrypted"):
        hand_out(plain)


def test_a_run_that_is_killed_while_it_writes_leaves_no_key(
    handouts: Callable[..., Handouts], alice: Device, directory: Path, killed_while_writing: Callable[..., None]
) -> None:
    killed_while_writing("vpn.conf", lambda: handouts().write([alice], [], check=False))
    assert names(directory / "alice") != FILES
    handouts().write([alice], [], check=False)
    assert names(directory / "alice") == FILES
    assert handouts().write([alice], [], check=False).written == []


def test_runs_that_are_killed_lose_no_key(tmp_path: Path, plain: SecretFiles) -> None:
    """The nodes know all of these devices. Whenever a run ends, each key is here, or in a hand-out that is whole."""
    names = [f"device-{number}" for number in range(30)]

    def opened() -> tuple[DeviceKeys, Handouts]:
        keys = DeviceKeys(tmp_path / "keys", plain)
        return keys, Handouts(tmp_path / "handouts", plain, keys, SERVICE, Page("page"), False)

    known = {name: str(key) for name, key in opened()[0].prepare(names, {}, check=False).items()}
    devices = [device(name, public) for name, public in known.items()]
    for milliseconds in (20, 80, 160, 320):
        child = os.fork()
        if child == 0:
            opened()[1].write(devices, [], check=False)
            os._exit(0)
        time.sleep(milliseconds / 1000)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    opened()[1].write(devices, [], check=False)
    for name, public in known.items():
        conf = parse((tmp_path / "handouts" / name / "vpn.conf").read_text())
        assert public_key(conf.device.private_key) == public
        assert sorted(path.name for path in (tmp_path / "handouts" / name).glob("vpn.*")) == FILES
    assert opened()[1].write(devices, [], check=False).written == []
