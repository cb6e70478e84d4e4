# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import validate_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_interface import InterfaceError
from ansible_collections.wirefleet.vpn.plugins.modules.wg_interface import with_private_key

KEY = base64.b64encode(bytes([8]) * 32).decode()
CONFIG = "# wf0, the mesh\n[Interface]\nListenPort = 51821\n\n# n2\n[Peer]\nPublicKey = x\n"
WITH_KEY = f"# wf0, the mesh\n[Interface]\nPrivateKey = {KEY}\nListenPort = 51821\n\n# n2\n[Peer]\nPublicKey = x\n"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "mesh.key"
    path.write_text(f"{KEY}\n")
    return path


@pytest.mark.parametrize("may_be_missing", [False, True])
def test_the_key_goes_into_the_interface_section_and_nothing_else_changes(key_file: Path, may_be_missing: bool) -> None:
    assert with_private_key(CONFIG, key_file, may_be_missing=may_be_missing) == WITH_KEY


def test_only_the_first_header_is_one(key_file: Path) -> None:
    config = "# [Interface]\n[Interface] \t\n# [Interface]\n"
    text = with_private_key(config, key_file, may_be_missing=False)
    assert text == f"# [Interface]\n[Interface]\nPrivateKey = {KEY}\n# [Interface]\n"


@pytest.mark.parametrize("line", ["PrivateKey = x", "privatekey=x", "  PrivateKey  =x"])
def test_two_keys_can_not_both_be_right(key_file: Path, line: str) -> None:
    with pytest.raises(InterfaceError, match=r"^config has a PrivateKey, and private_key_path is given: "):
        with_private_key(f"[Interface]\n{line}\n", key_file, may_be_missing=False)


def test_a_key_in_a_comment_is_none(key_file: Path) -> None:
    assert f"PrivateKey = {KEY}" in with_private_key("[Interface]\n# PrivateKey = x\n", key_file, may_be_missing=False)


def test_a_missing_file_is_an_error_and_in_check_mode_a_key_that_will_come(tmp_path: Path) -> None:
    path = tmp_path / "mesh.key"
    with pytest.raises(InterfaceError) as caught:
        with_private_key(CONFIG, path, may_be_missing=False)
    assert str(caught.value) == f"{path}: there is no such key file"
    before, after = with_private_key(CONFIG, path, may_be_missing=True).split("PrivateKey = ")
    made, rest = after.split("\n", 1)
    assert before + rest == CONFIG
    assert validate_key(made) == made
    assert not path.exists()


@pytest.mark.parametrize("may_be_missing", [False, True])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (KEY[:-1], "a WireGuard key has 44 characters, this text has 43"),
        (KEY[:-2] + "!=", "not base64"),
        ("", "a WireGuard key has 44 characters, this text has 0"),
    ],
)
def test_a_file_that_is_no_key_is_never_replaced_nor_shown(
    key_file: Path, content: str, problem: str, may_be_missing: bool
) -> None:
    key_file.write_text(content)
    with pytest.raises(InterfaceError) as caught:
        with_private_key(CONFIG, key_file, may_be_missing=may_be_missing)
    assert str(caught.value) == f"{key_file}: {problem}"
    assert key_file.read_text() == content


def test_a_file_that_can_not_be_read_is_an_error_even_in_check_mode(tmp_path: Path) -> None:
    with pytest.raises(InterfaceError, match="Is a directory"):
        with_private_key(CONFIG, tmp_path, may_be_missing=True)
