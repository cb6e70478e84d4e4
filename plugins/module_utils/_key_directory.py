# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A directory of key files: what touches the file system, and nothing else.

Everything goes through one open descriptor of the directory and never follows a link inside it, so whoever can
rename or link things on the path can neither have a foreign file read nor a key written elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

DEFAULT_MODE = 0o600
DEFAULT_DIRECTORY_MODE = 0o700

# 10,000 keys hold the lock for two seconds, or half a minute where only `wg` computes public keys; five minutes mean
# that somebody is stuck.
LOCK_SECONDS = 300.0

# One fsync is a few milliseconds on a busy disk. Up to here they are paid one by one; beyond, syncfs(2) writes the
# whole file system once, which a single new key should not make a database host do.
FSYNC_EACH_UP_TO = 64

# In no name of a key: those may not start with a dot.
STAGING_PREFIX = ".wirefleet-keys."

# A key is 44 characters and a line end; whatever is longer is not a key and need not be read.
READ_BYTES = 256

_OPEN_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class KeyStoreError(Exception):
    """What is asked for can not be done safely. The message names the path, and no secret."""


@dataclass(frozen=True)
class Attributes:
    """Who may do what with a file. None means: as it is, or as the system gives it."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None

    def over(self, base: Attributes) -> Attributes:
        """These attributes, and those of `base` where these are silent."""
        return Attributes(
            base.mode if self.mode is None else self.mode,
            base.uid if self.uid is None else self.uid,
            base.gid if self.gid is None else self.gid,
        )

    def set_on(self, fd: int) -> None:
        # Owner before mode: chown clears bits of the mode.
        if self.uid is not None or self.gid is not None:
            os.fchown(fd, -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid)
        if self.mode is not None:
            os.fchmod(fd, self.mode)

    @classmethod
    def of(cls, status: os.stat_result) -> Attributes:
        return cls(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


class KeyDirectory:
    """An open directory. Use `open` or `create`, and `close` (or `with`) when done."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.attributes = Attributes.of(os.fstat(fd))
        self._fd = fd

    @classmethod
    def open(cls, path: str, owner: int | None = None) -> KeyDirectory | None:
        """The directory at `path`, None where there is none.

        A symbolic link is followed only to a directory that nobody but root, us and `owner` can change.
        """
        with naming(path):
            try:
                return cls(path, os.open(path, _OPEN_DIRECTORY | os.O_NOFOLLOW))
            except FileNotFoundError:
                return None
            except NotADirectoryError:
                if not os.path.islink(path):
                    raise
            directory = cls(path, os.open(path, _OPEN_DIRECTORY))
        if directory._is_foreign(owner):
            directory.close()
            raise KeyStoreError(f"{path}: is a symbolic link to a directory that others own or can write to")
        return directory

    @classmethod
    def create(cls, path: str, attributes: Attributes) -> KeyDirectory:
        """The directory at `path`, created by this run or by one that was faster."""
        with naming(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                # Ours from the first moment; what `attributes` grants to others, they get afterwards.
                os.mkdir(path, DEFAULT_DIRECTORY_MODE)
        directory = cls.open(path, attributes.uid)
        if directory is None:
            raise KeyStoreError(f"{path}: was removed while this task created it")
        directory.protect(attributes)
        return directory

    def _is_foreign(self, owner: int | None) -> bool:
        return self.attributes.uid not in (0, os.geteuid(), owner) or self.is_writable_by_others

    @property
    def is_writable_by_others(self) -> bool:
        return bool((self.attributes.mode or 0) & (stat.S_IWGRP | stat.S_IWOTH))

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> KeyDirectory:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def path_of(self, file: str) -> str:
        return os.path.join(self.path, file)

    def lock(self) -> None:
        """Wait until no other run works in this directory; released by `close`."""
        deadline = time.monotonic() + LOCK_SECONDS
        with naming(self.path):
            while True:
                try:
                    return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise KeyStoreError(f"{self.path}: another run has held it for {LOCK_SECONDS:.0f} s") from None
                time.sleep(0.05)

    def protect(self, attributes: Attributes) -> None:
        """Set the attributes of the directory itself."""
        with naming(self.path):
            attributes.set_on(self._fd)
        self.attributes = Attributes.of(os.fstat(self._fd))

    def read(self, file: str) -> tuple[bytes, Attributes] | None:
        """The first READ_BYTES of a regular file and its attributes; None where there is no such file."""
        try:
            fd = os.open(file, os.O_RDONLY | _OPEN_FILE, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyStoreError(f"{self.path_of(file)}: {_reason(error)}") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise KeyStoreError(f"{self.path_of(file)}: is not a regular file")
            with naming(self.path_of(file)):
                return os.read(fd, READ_BYTES), Attributes.of(status)
        finally:
            os.close(fd)

    def protect_file(self, file: str, attributes: Attributes) -> None:
        with naming(self.path_of(file)):
            fd = os.open(file, os.O_RDONLY | _OPEN_FILE, dir_fd=self._fd)
            try:
                attributes.set_on(fd)
            finally:
                os.close(fd)

    def link(self, file: str, new: str) -> None:
        """A second name for the same file: same content, same protection, nothing copied, nothing replaced."""
        with naming(self.path_of(new)):
            os.link(file, new, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def remove(self, file: str) -> None:
        with naming(self.path_of(file)):
            os.unlink(file, dir_fd=self._fd)

    def sync(self) -> None:
        """Make new and removed names durable: once for all of them."""
        with naming(self.path):
            os.fsync(self._fd)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Staging]:
        """A place on the same file system that only we can enter, gone at the end with what was not published.

        Needs the lock: what a killed run left behind is cleared away first.
        """
        name = STAGING_PREFIX + secrets.token_hex(8)
        with naming(self.path):
            for stale in filter(_is_staging, os.listdir(self._fd)):
                self._discard(stale)
            os.mkdir(name, DEFAULT_DIRECTORY_MODE, dir_fd=self._fd)
            try:
                fd = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd)
                try:
                    yield Staging(self, fd, self._fd)
                finally:
                    os.close(fd)
            finally:
                self._discard(name)

    def _discard(self, staging: str) -> None:
        fd = os.open(staging, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd)
        try:
            for file in os.listdir(fd):
                os.unlink(file, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(staging, dir_fd=self._fd)


def _is_staging(name: str) -> bool:
    return name.startswith(STAGING_PREFIX)


class Staging:
    """Files that are complete before anybody can see them under their names."""

    def __init__(self, directory: KeyDirectory, fd: int, target_fd: int) -> None:
        self._directory = directory
        self._fd = fd
        self._target_fd = target_fd

    def write(self, file: str, content: bytes, attributes: Attributes) -> None:
        with naming(self._directory.path_of(file)):
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_FILE, DEFAULT_MODE, dir_fd=self._fd)
            try:
                with open(fd, "wb", buffering=0, closefd=False) as stream:
                    if stream.write(content) != len(content):
                        raise KeyStoreError(f"{self._directory.path_of(file)}: could be written only in part")
                attributes.set_on(fd)
            finally:
                os.close(fd)

    def sync(self) -> None:
        """Make the content durable before it gets its name: after a power cut a key is whole or not there."""
        with naming(self._directory.path):
            files = os.listdir(self._fd)
            if len(files) > FSYNC_EACH_UP_TO:
                _syncfs(self._target_fd)
            else:
                for file in files:
                    self._fsync(file)

    def _fsync(self, file: str) -> None:
        fd = os.open(file, os.O_RDONLY | _OPEN_FILE, dir_fd=self._fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def create(self, file: str) -> bool:
        """Publish under a name that must be free; False, and nothing done, where somebody else was faster."""
        with naming(self._directory.path_of(file)):
            try:
                os.link(file, file, src_dir_fd=self._fd, dst_dir_fd=self._target_fd, follow_symlinks=False)
            except FileExistsError:
                return False
        return True

    def replace(self, file: str) -> None:
        """Publish in the place of the file of this name."""
        with naming(self._directory.path_of(file)):
            os.rename(file, file, src_dir_fd=self._fd, dst_dir_fd=self._target_fd)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Say which path an operating system error is about: calls relative to a descriptor do not know it."""
    try:
        yield
    except OSError as error:
        raise KeyStoreError(f"{path}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    # ELOOP is what O_NOFOLLOW gives for any link, also for one that is no loop.
    return "is a symbolic link" if error.errno == errno.ELOOP else f"{error.strerror}"


def _syncfs(fd: int) -> None:
    """syncfs(2), which Python does not offer; unlike os.sync() it leaves other disks alone and reports failure."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
