# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Private keys of devices that bring none, on the controller, from when they are made to when they are handed out.

A key is on disk (`NAME.new`) before the ledger or a node hears of its public key, and stays there until it is handed
out. So a run that is interrupted anywhere loses no key that nodes know. Which key is handed out, the ledger says, once
the nodes have it: one that lost against another controller's is known to nobody, and is thrown away, when it is old
enough not to be that of a run that goes on at this time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import (
    KeyFormatError,
    generate_private_key,
    public_key,
    validate_key,
)
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._secret_files import (
    SecretFileError,
    SecretFiles,
    make_directory,
)

NEW, KEPT = ".new", ".key"
# No run takes as long as that.
RUN_SECONDS = 24 * 3600


class DeviceKeys:
    """The directory of these keys. A kept key (`NAME.key`) has been handed out, and can be again."""

    def __init__(self, directory: Path, files: SecretFiles) -> None:
        self.directory = directory
        self._files = files

    def prepare(self, names: Iterable[str], known: Mapping[str, str], check: bool) -> dict[str, str | None]:
        """Have a new key for each name, which is not the known one; return the public keys.

        One that an interrupted run has left is as good as new, and one that another run makes now is for both: the
        ledger takes that of either. With `check` nothing is made, and what would be is None.
        """
        prepared: dict[str, str | None] = {}
        with contextlib.nullcontext() if check else self._alone():
            for name in names:
                private = self._read(name, NEW)
                if private is None or public_key(private) == known.get(name):
                    private = None if check else self._make(name)
                elif not check:
                    os.utime(self._path(name, NEW))  # it is young again, as the run is
                prepared[name] = private and public_key(private)
        return prepared

    def find(self, name: str, public: str) -> str | None:
        """The private key of this public one, if it is here."""
        for suffix in (NEW, KEPT):
            private = self._read(name, suffix)
            if private is not None and public_key(private) == public:
                return private
        return None

    def settle(self, name: str, private: str, keep: bool) -> None:
        """The key is handed out: keep it for another time, or forget it."""
        if keep and self._read(name, KEPT) != private:
            self._write(name, KEPT, private)
        self._path(name, NEW).unlink(missing_ok=True)

    def discard_unknown(self, known: Mapping[str, str]) -> list[str]:
        """Remove keys that no node knows any more, or ever did; return their file names.

        Not the youngest: they may be those of another run, of which this one's ledger has not heard.
        """
        removed = []
        oldest = time.time() - RUN_SECONDS
        for path in sorted(p for s in (NEW, KEPT) for p in self.directory.glob(f"*{s}")):
            if path.stat().st_mtime > oldest:
                continue
            name = path.name[: -len(path.suffix)]
            private = self._read(name, path.suffix) if name in known else None
            if private is None or public_key(private) != known[name]:
                path.unlink()
                removed.append(path.name)
        return removed

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other run on this controller come in between."""
        make_directory(self.directory)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _make(self, name: str) -> str:
        # A key that is not encrypted has no place in a repository.
        ignore = self.directory / ".gitignore"
        if not ignore.exists():
            SecretFiles("", None).write(ignore, f"*{NEW}\n".encode())
        private = generate_private_key()
        self._write(name, NEW, private)
        return private

    def _path(self, name: str, suffix: str) -> Path:
        return self.directory / f"{name}{suffix}"

    def _write(self, name: str, suffix: str, private: str) -> None:
        self._files.write(self._path(name, suffix), f"{private}\n".encode())

    def _read(self, name: str, suffix: str) -> str | None:
        path = self._path(name, suffix)
        data = self._files.read(path)
        if data is None:
            return None
        try:
            return validate_key(data.decode("ascii", "replace"))
        except KeyFormatError as error:
            raise SecretFileError(f"{path}: {error}; what can not be read is neither used nor replaced") from None
