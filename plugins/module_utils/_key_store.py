# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Which keys should exist, which do, and what follows: read, validate, decide; then write all or nothing.

`plan` only reads, so its answer is what check mode shows. `apply` makes it true.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.wirefleet.vpn.plugins.module_utils._key_directory import (
    DEFAULT_DIRECTORY_MODE,
    DEFAULT_MODE,
    Attributes,
    KeyDirectory,
    KeyStoreError,
    Staging,
)
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import (
    Derive,
    KeyFormatError,
    generate_preshared_key,
    generate_private_key,
    validate_key,
)

NAME_BYTES = 255
LISTED = 5


@dataclass(frozen=True)
class Request:
    """What the keys of one directory should be like."""

    directory: str
    files: Mapping[str, str]
    """Name of the identity to name of its file."""
    preshared: bool = False
    present: bool = True
    rotate: bool = False
    backup: bool = False
    expected: Mapping[str, str] = field(default_factory=dict)
    """Name to the public key that its file must hold now."""
    attributes: Attributes = field(default_factory=Attributes)
    directory_mode: int | None = None


@dataclass(frozen=True)
class KeyFile:
    key: str | None = field(repr=False)
    """None while it is only planned."""
    public_key: str | None
    """None where there is none (preshared), or none known (planned, or no backend)."""
    attributes: Attributes


@dataclass
class Entry:
    """One identity: what was found, and what is to be (after `apply`: what is) there."""

    name: str
    file: str
    before: KeyFile | None
    after: KeyFile | None
    backup: str | None = None

    @property
    def changed(self) -> bool:
        return self.before != self.after

    @property
    def private_key(self) -> str | None:
        return self.after.key if self.after else None

    @property
    def public_key(self) -> str | None:
        return self.after.public_key if self.after else None

    @property
    def needs_key(self) -> bool:
        return self.after is not None and self.after.key is None


def file_names(names: Iterable[str], suffix: str) -> dict[str, str]:
    """Name to file name; KeyStoreError where a name could not be, or could leave, a directory's plain entry."""
    files: dict[str, str] = {}
    for name in names:
        if name in files:
            raise KeyStoreError(f"names: {name!r} is given twice")
        reason = _why_unfit(name, suffix)
        if reason:
            raise KeyStoreError(f"names: {name!r} {reason}")
        files[name] = name + suffix
    return files


def _why_unfit(name: str, suffix: str) -> str | None:
    if not name:
        return "is empty"
    if name.startswith("."):
        return "starts with a dot"
    file = name + suffix
    if "/" in file or ".." in file:
        return f"with suffix {suffix!r} contains '/' or '..'"
    if not file.isprintable():
        return f"with suffix {suffix!r} contains a character that can not be printed"
    if len(_backup_name(file, datetime.datetime.max).encode()) > NAME_BYTES:
        return f"is too long: a file name, with suffix and date of a backup, has at most {NAME_BYTES} bytes"
    return None


def _backup_name(file: str, when: datetime.datetime) -> str:
    # Not ending in the suffix, so that what collects "*.key" does not take up a retired key.
    return f"{file}.{when:%Y%m%dT%H%M%S.%fZ}"


class KeyStore:
    def __init__(self, request: Request, derive: Derive | None) -> None:
        """`derive` may be None where no public key is needed, or, for `plan`, none can be had."""
        self.request = request
        self.warnings: list[str] = []
        self.directory_changed = False
        self._derive = derive

    def execute(self, *, check_mode: bool) -> list[Entry]:
        """Bring the keys into the requested state; in check mode, say what that would change."""
        request = self.request
        directory = KeyDirectory.open(request.directory, request.attributes.uid)
        if directory is None:
            entries = self.plan(None)
            if check_mode or not any(entry.needs_key for entry in entries):
                return entries
            directory = KeyDirectory.create(request.directory, self._new_directory_attributes())
        with directory:
            if not check_mode:
                directory.lock()
            # Read under the lock: what another run made meanwhile is found, and kept.
            entries = self.plan(directory)
            self._warn(directory, entries)
            if not check_mode:
                self.apply(directory, entries)
        return entries

    # Read, validate, decide

    def plan(self, directory: KeyDirectory | None) -> list[Entry]:
        """What is there and what should be. Writes nothing; raises before anything is written."""
        entries = []
        for name, file in self.request.files.items():
            before = self._read(directory, file) if directory else None
            entries.append(Entry(name, file, before, self._wanted(before)))
        self._refuse_lost_identities(entries)
        self.directory_changed = directory is not None and self._must_protect(directory)
        return entries

    def _read(self, directory: KeyDirectory, file: str) -> KeyFile | None:
        found = directory.read(file)
        if found is None:
            return None
        content, attributes = found
        try:
            key = validate_key(content.decode("ascii", "replace"))
        except KeyFormatError as error:
            raise KeyStoreError(
                f"{directory.path_of(file)}: {error}; what can not be read is neither replaced nor removed"
            ) from None
        return KeyFile(key, self._public_key(key), attributes)

    def _public_key(self, key: str) -> str | None:
        if self.request.preshared or self._derive is None:
            return None
        return self._derive(key)

    def _wanted(self, before: KeyFile | None) -> KeyFile | None:
        request = self.request
        if not request.present:
            return None
        if before is None:
            return KeyFile(None, None, request.attributes.over(Attributes(DEFAULT_MODE)))
        if request.rotate:
            # A new key never inherits being readable by everybody.
            private = dataclasses.replace(before.attributes, mode=_mode(before.attributes) & ~stat.S_IRWXO)
            return KeyFile(None, None, request.attributes.over(private))
        return dataclasses.replace(before, attributes=request.attributes.over(before.attributes))

    def _refuse_lost_identities(self, entries: Iterable[Entry]) -> None:
        lost = [reason for reason in map(self._why_lost, entries) if reason]
        if lost:
            raise KeyStoreError(
                f"{_list(lost)}. No key was generated or changed. Restore the file, or take the entry out of the "
                "expected public keys to accept that this identity is lost"
            )

    def _why_lost(self, entry: Entry) -> str | None:
        expected = self.request.expected.get(entry.name)
        if expected is None:
            return None
        path = os.path.join(self.request.directory, entry.file)
        if entry.before is None:
            # Removing what is gone already is no loss.
            return f"{path}: the known key vanished, expected {expected}, found no file" if entry.after else None
        if entry.before.public_key in (expected, None):
            return None
        return f"{path}: the known key vanished, expected {expected}, found {entry.before.public_key}"

    def _must_protect(self, directory: KeyDirectory) -> bool:
        wanted = self.request.directory_mode
        return self.request.present and wanted is not None and wanted != directory.attributes.mode

    def _new_directory_attributes(self) -> Attributes:
        mode = self.request.directory_mode
        return dataclasses.replace(self.request.attributes, mode=DEFAULT_DIRECTORY_MODE if mode is None else mode)

    def _warn(self, directory: KeyDirectory, entries: Iterable[Entry]) -> None:
        if _mode(directory.attributes) & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            self.warnings.append(f"{directory.path}: everybody can write to this directory, and so replace its keys")
        exposed = [
            directory.path_of(entry.file)
            for entry in entries
            if any(key and _mode(key.attributes) & stat.S_IRWXO for key in (entry.before, entry.after))
        ]
        if exposed:
            self.warnings.append(f"keys that everybody on this host can reach, consider them known: {_list(exposed)}")

    # Write

    def apply(self, directory: KeyDirectory, entries: Iterable[Entry]) -> None:
        changed = [entry for entry in entries if entry.changed]
        if self.directory_changed:
            directory.protect(Attributes(self.request.directory_mode))
        if not changed:
            return
        if self.request.present:
            self._write(directory, changed)
        else:
            self._remove(directory, changed)
        directory.sync()

    def _write(self, directory: KeyDirectory, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.after and not entry.needs_key:
                directory.protect_file(entry.file, entry.after.attributes)
        fresh = [entry for entry in entries if entry.needs_key]
        if not fresh:
            return
        with directory.staging() as staging:
            for entry in fresh:
                entry.after = self._generate(staging, entry)
            staging.sync()
            new = [entry for entry in fresh if entry.before is None]
            old = [entry for entry in fresh if entry.before is not None]
            with contextlib.ExitStack() as undo:
                self._back_up(directory, old, undo)
                for entry in new:
                    self._publish(directory, staging, entry, undo)
                # What is left renames over names that exist, and so needs no space.
                undo.pop_all()
            for entry in old:
                staging.replace(entry.file)

    def _generate(self, staging: Staging, entry: Entry) -> KeyFile:
        if entry.after is None:
            raise AssertionError(f"{entry.file} is not wanted")
        key = generate_preshared_key() if self.request.preshared else generate_private_key()
        staging.write(entry.file, f"{key}\n".encode(), entry.after.attributes)
        return dataclasses.replace(entry.after, key=key, public_key=self._public_key(key))

    def _publish(self, directory: KeyDirectory, staging: Staging, entry: Entry, undo: contextlib.ExitStack) -> None:
        if staging.create(entry.file):
            undo.callback(directory.remove, entry.file)
        else:
            # Somebody who does not know our lock was faster: theirs is the key.
            entry.before = entry.after = self._read(directory, entry.file)
            if entry.after is None:
                raise KeyStoreError(f"{directory.path_of(entry.file)}: somebody else created and removed it just now")

    def _remove(self, directory: KeyDirectory, entries: list[Entry]) -> None:
        with contextlib.ExitStack() as undo:
            self._back_up(directory, entries, undo)
            undo.pop_all()
        for entry in entries:
            directory.remove(entry.file)

    def _back_up(self, directory: KeyDirectory, entries: list[Entry], undo: contextlib.ExitStack) -> None:
        if not self.request.backup:
            return
        now = datetime.datetime.now(datetime.timezone.utc)
        for entry in entries:
            entry.backup = _backup_name(entry.file, now)
            directory.link(entry.file, entry.backup)
            undo.callback(directory.remove, entry.backup)


def _mode(attributes: Attributes) -> int:
    return attributes.mode or 0


def _list(items: list[str]) -> str:
    more = f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return "; ".join(items[:LISTED]) + more
