# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import public_key
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._device_keys import DeviceKeys
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._secret_files import SecretFileError, SecretFiles


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "devices"


@pytest.fixture
def keys(directory: Path, plain: SecretFiles) -> DeviceKeys:
    return DeviceKeys(directory, plain)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".gitignore")


def test_a_key_is_on_disk_before_anybody_hears_of_it(files: SecretFiles, directory: Path) -> None:
    keys = DeviceKeys(directory, files)
    made = keys.prepare(["alice", "bob"], {}, check=False)
    assert names(directory) == ["alice.new", "bob.new"]
    for name, public in made.items():
        private = keys.find(name, str(public))
        assert private is not None
        assert public_key(private) == public
        assert (private.encode() in (directory / f"{name}.new").read_bytes()) is not files.encrypts


def test_an_interrupted_run_is_taken_up_again(keys: DeviceKeys) -> None:
    assert keys.prepare(["alice"], {}, check=False) == keys.prepare(["alice"], {}, check=False)


def test_a_check_makes_nothing_and_tells_what_is_there(keys: DeviceKeys, directory: Path) -> None:
    assert keys.prepare(["alice"], {}, check=True) == {"alice": None}
    assert not directory.exists()
    made = keys.prepare(["alice"], {}, check=False)
    assert keys.prepare(["alice", "bob"], {}, check=True) == {**made, "bob": None}


def test_a_key_that_is_known_already_is_no_new_one(keys: DeviceKeys) -> None:
    made = keys.prepare(["alice"], {}, check=False)
    again = keys.prepare(["alice"], {"alice": str(made["alice"])}, check=False)
    assert again["alice"] != made["alice"]


def test_a_key_that_was_handed_out_is_forgotten_or_kept(keys: DeviceKeys, directory: Path) -> None:
    made = keys.prepare(["alice", "bob"], {}, check=False)
    for name, keep in (("alice", False), ("bob", True)):
        private = keys.find(name, str(made[name]))
        assert private is not None
        keys.settle(name, private, keep)
    assert names(directory) == ["bob.key"]
    assert keys.find("alice", str(made["alice"])) is None
    assert keys.find("bob", str(made["bob"])) is not None


def test_a_kept_key_stays_until_the_next_one_is_handed_out(keys: DeviceKeys, directory: Path) -> None:
    first = str(keys.prepare(["alice"], {}, check=False)["alice"])
    keys.settle("alice", str(keys.find("alice", first)), keep=True)
    second = str(keys.prepare(["alice"], {"alice": first}, check=False)["alice"])
    # Whichever the ledger will say, it is here.
    assert keys.find("alice", first)
    assert keys.find("alice", second)
    keys.settle("alice", str(keys.find("alice", second)), keep=True)
    assert names(directory) == ["alice.key"]
    assert keys.find("alice", first) is None


def age(directory: Path) -> None:
    """Whatever is there, nobody has touched it for two days."""
    for path in directory.iterdir():
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)


def test_what_no_node_knows_is_removed(keys: DeviceKeys, directory: Path) -> None:
    made = keys.prepare(["alice", "bob", "carol"], {}, check=False)
    age(directory)
    known = {"alice": str(made["alice"]), "bob": "another controller's"}
    assert keys.discard_unknown(known) == ["bob.new", "carol.new"]
    assert names(directory) == ["alice.new"]


def test_another_runs_key_is_not(keys: DeviceKeys) -> None:
    """That run has not written the ledger yet, or this one has read it before."""
    keys.prepare(["alice"], {}, check=False)
    assert keys.discard_unknown({}) == []
    age(keys.directory)
    keys.prepare(["alice"], {}, check=False)
    assert keys.discard_unknown({}) == []


def test_two_runs_at_once_make_one_key(keys: DeviceKeys) -> None:
    """Else the ledger could get one, and the disk the other."""
    devices = [f"device-{number}" for number in range(20)]
    with ThreadPoolExecutor(4) as runs:
        made = list(runs.map(lambda _run: keys.prepare(devices, {}, check=False), range(4)))
    assert made == [{name: public_key(str(keys.find(name, str(key)))) for name, key in made[0].items()}] * 4


def test_a_run_that_is_killed_while_it_writes_leaves_no_key_for_ever(
    keys: DeviceKeys, directory: Path, killed_while_writing: Callable[..., None]
) -> None:
    killed_while_writing("alice.new", lambda: keys.prepare(["alice"], {}, check=False))
    [left] = names(directory)
    # Out of repositories, like the others.
    assert left.endswith(".new")
    keys.prepare(["alice"], {}, check=False)
    age(directory)
    assert keys.discard_unknown({}) == [left, "alice.new"]


def test_a_damaged_key_is_neither_used_nor_replaced(keys: DeviceKeys, directory: Path) -> None:
    directory.mkdir()
    (directory / "alice.new").write_text("half a k")
    with pytest.raises(SecretFileError, match=r"alice\.new: a WireGuard key has 44 characters, this text has 8"):
        keys.prepare(["alice"], {}, check=False)
    assert (directory / "alice.new").read_text() == "half a k"


def test_new_keys_stay_out_of_repositories(keys: DeviceKeys, directory: Path) -> None:
    keys.prepare(["alice"], {}, check=False)
    assert (directory / ".gitignore").read_text() == "*.new\n"
