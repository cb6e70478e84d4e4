# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Files with secrets on the controller: 0600 in directories of 0700, whole or not there, encrypted when asked to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, get_file_vault_secret, is_encrypted


class SecretFileError(Exception):
    """What can not be done, naming the file. Never a secret."""


class SecretFiles:
    """Reads and writes files. With a vault password file, whatever it writes is encrypted with ansible-vault."""

    def __init__(self, vault_password_file: str, loader: Any) -> None:
        self._vault: VaultLib | None = None
        if vault_password_file:
            try:
                self._secret = get_file_vault_secret(filename=vault_password_file, loader=loader)
                self._secret.load()
            except AnsibleError as error:
                raise SecretFileError(f"vpn_handout_vault_password_file: {error}") from None
            self._vault = VaultLib([("default", self._secret)])

    @property
    def encrypts(self) -> bool:
        return self._vault is not None

    def read(self, path: Path) -> bytes | None:
        """What the file holds, decrypted; None where there is no such file."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if not is_encrypted(data):
            return data
        if self._vault is None:
            raise SecretFileError(f"{path}: is encrypted, which takes vpn_handout_vault_password_file to read")
        try:
            return self._vault.decrypt(data)
        except AnsibleError:
            error = SecretFileError(f"{path}: vpn_handout_vault_password_file does not decrypt it")
        raise error

    def write(self, path: Path, data: bytes) -> None:
        """Put a complete file in the place of the old one, if any; it is on disk when this returns."""
        if self._vault is not None:
            data = self._vault.encrypt(data, self._secret)
        make_directory(path.parent)
        # With the file's own suffix: whoever removes such files removes also what a run left that was killed here.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make the directory and its parents, ours alone from the first moment."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Names are on disk only when their directory is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
