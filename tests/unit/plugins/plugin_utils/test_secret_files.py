# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._secret_files import SecretFileError, SecretFiles

SECRET = b"binary \x00\xff secret"


def test_what_was_written_is_read(files: SecretFiles, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    assert files.read(path) is None
    files.write(path, b"before")
    files.write(path, SECRET)
    assert files.read(path) == SECRET
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_nobody_else_gets_at_it(files: SecretFiles, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.write(tmp_path / "a" / "b" / "file", SECRET)
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a/b/file")]
    assert modes == [0o700, 0o700, 0o600]


def test_ansible_vault_reads_it(vaulted: SecretFiles, tmp_path: Path) -> None:
    path = tmp_path / "file"
    vaulted.write(path, b"in the vault")
    assert b"in the vault" not in path.read_bytes()
    program = Path(sys.executable).parent / "ansible-vault"
    command = [program, "view", "--vault-password-file", tmp_path / "password", path]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
    assert shown.stdout.strip() == "in the vault"


def test_without_the_password_it_is_not_read(vaulted: SecretFiles, plain: SecretFiles, tmp_path: Path) -> None:
    path = tmp_path / "file"
    vaulted.write(path, SECRET)
    with pytest.raises(SecretFileError, match="file: is encrypted"):
        plain.read(path)
    (tmp_path / "password").write_text("wrong")
    other = SecretFiles(str(tmp_path / "password"), DataLoader())
    with pytest.raises(SecretFileError, match="does not decrypt it"):
        other.read(path)


def test_a_missing_password_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match=r"vpn_handout_vault_password_file: .*nowhere"):
        SecretFiles(str(tmp_path / "nowhere"), DataLoader())


def test_a_write_that_fails_leaves_the_old_file(plain: SecretFiles, tmp_path: Path) -> None:
    path = tmp_path / "directory"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        plain.write(path, SECRET)
    assert list(tmp_path.iterdir()) == [path]
