# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils import _key_directory
from ansible_collections.wirefleet.vpn.plugins.module_utils._key_directory import (
    FSYNC_EACH_UP_TO,
    STAGING_PREFIX,
    Attributes,
    KeyDirectory,
    KeyStoreError,
)

NOBODY = 65534
PRIVATE = Attributes(0o600)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.mkdir(0o700)
    return path


@pytest.fixture
def directory(place: Path) -> Iterator[KeyDirectory]:
    with opened(place) as directory:
        yield directory


def opened(path: Path, owner: int | None = None) -> KeyDirectory:
    directory = KeyDirectory.open(str(path), owner)
    assert directory is not None
    return directory


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestOpen:
    def test_missing_is_none(self, tmp_path: Path) -> None:
        assert KeyDirectory.open(str(tmp_path / "missing")) is None

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(KeyStoreError, match=r"/file: Not a directory"):
            KeyDirectory.open(str(tmp_path / "file"))

    def test_a_link_to_nothing_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(KeyStoreError, match=r"/link: No such file"):
            KeyDirectory.open(str(tmp_path / "link"))

    def test_a_link_to_a_directory_of_ours_is_followed(self, tmp_path: Path, place: Path) -> None:
        (place / "here").write_text("content")
        (tmp_path / "link").symlink_to(place)
        with opened(tmp_path / "link") as directory:
            assert directory.read("here") is not None

    @pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o1777])
    def test_a_link_to_a_directory_that_others_can_write_to_is_refused(
        self, tmp_path: Path, place: Path, mode: int
    ) -> None:
        place.chmod(mode)
        (tmp_path / "link").symlink_to(place)
        with pytest.raises(KeyStoreError, match=r"/link: is a symbolic link to a directory that others own or can"):
            KeyDirectory.open(str(tmp_path / "link"))

    @needs_root
    def test_a_link_to_a_stranger_s_directory_is_refused_unless_he_is_the_owner(
        self, tmp_path: Path, place: Path
    ) -> None:
        os.chown(place, NOBODY, NOBODY)
        (tmp_path / "link").symlink_to(place)
        with pytest.raises(KeyStoreError, match="others own"):
            KeyDirectory.open(str(tmp_path / "link"))
        opened(tmp_path / "link", owner=NOBODY).close()


class TestCreate:
    def test_parents_are_ordinary_and_the_directory_private(self, tmp_path: Path) -> None:
        path = tmp_path / "parent" / "keys"
        KeyDirectory.create(str(path), Attributes(0o700)).close()
        assert mode_of(path) == 0o700
        assert mode_of(path.parent) != 0o700

    def test_a_faster_run_is_no_error(self, place: Path) -> None:
        KeyDirectory.create(str(place), Attributes(0o750)).close()
        assert mode_of(place) == 0o750

    def test_umask_takes_nothing_away(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            KeyDirectory.create(str(tmp_path / "keys"), Attributes(0o755)).close()
        finally:
            os.umask(before)
        assert mode_of(tmp_path / "keys") == 0o755


class TestLock:
    def test_a_second_holder_waits_in_vain(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_key_directory, "LOCK_SECONDS", 0.1)
        with opened(place) as first, opened(place) as second:
            first.lock()
            with pytest.raises(KeyStoreError, match=f"{place}: another run has held it"):
                second.lock()

    def test_close_releases(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_key_directory, "LOCK_SECONDS", 0.1)
        with opened(place) as first:
            first.lock()
        with opened(place) as second:
            second.lock()


class TestRead:
    def test_content_and_attributes(self, place: Path, directory: KeyDirectory) -> None:
        (place / "key").write_bytes(b"content")
        (place / "key").chmod(0o640)
        assert directory.read("key") == (b"content", Attributes(0o640, os.geteuid(), os.getegid()))

    def test_missing_is_none(self, directory: KeyDirectory) -> None:
        assert directory.read("key") is None

    def test_a_link_is_not_followed(self, place: Path, directory: KeyDirectory) -> None:
        (place / "other").write_text("content")
        (place / "key").symlink_to("other")
        with pytest.raises(KeyStoreError, match=r"/key: is a symbolic link"):
            directory.read("key")

    def test_a_directory_is_refused(self, place: Path, directory: KeyDirectory) -> None:
        (place / "key").mkdir()
        with pytest.raises(KeyStoreError, match=r"/key: is not a regular file"):
            directory.read("key")

    def test_a_pipe_is_refused_and_not_waited_for(self, place: Path, directory: KeyDirectory) -> None:
        os.mkfifo(place / "key")
        with pytest.raises(KeyStoreError, match="not a regular file"):
            directory.read("key")


class TestStaging:
    def test_nothing_has_a_name_before_it_is_published(self, place: Path, directory: KeyDirectory) -> None:
        with directory.staging() as staging:
            staging.write("key", b"content", PRIVATE)
            (private,) = place.iterdir()
            assert mode_of(private) == 0o700
            assert mode_of(private / "key") == 0o600
            assert staging.create("key")
        assert [path.name for path in place.iterdir()] == ["key"]
        assert (place / "key").read_bytes() == b"content"
        assert (place / "key").stat().st_nlink == 1

    def test_a_file_is_private_before_its_attributes_widen_it(
        self, place: Path, directory: KeyDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        born: list[int] = []
        monkeypatch.setattr(Attributes, "set_on", lambda _self, fd: born.append(stat.S_IMODE(os.fstat(fd).st_mode)))
        before = os.umask(0)
        try:
            with directory.staging() as staging:
                staging.write("key", b"content", Attributes(0o644))
        finally:
            os.umask(before)
        assert born == [0o600]

    def test_create_does_not_replace(self, place: Path, directory: KeyDirectory) -> None:
        (place / "key").write_bytes(b"theirs")
        with directory.staging() as staging:
            staging.write("key", b"ours", PRIVATE)
            assert not staging.create("key")
        assert (place / "key").read_bytes() == b"theirs"

    def test_create_does_not_replace_a_link_or_write_through_it(self, place: Path, directory: KeyDirectory) -> None:
        (place / "key").symlink_to("elsewhere")
        with directory.staging() as staging:
            staging.write("key", b"ours", PRIVATE)
            assert not staging.create("key")
        assert not (place / "elsewhere").exists()

    def test_replace(self, place: Path, directory: KeyDirectory) -> None:
        (place / "key").write_bytes(b"old")
        with directory.staging() as staging:
            staging.write("key", b"new", PRIVATE)
            staging.replace("key")
        assert (place / "key").read_bytes() == b"new"

    def test_what_is_not_published_goes(self, place: Path, directory: KeyDirectory) -> None:
        def fail_after_writing() -> None:
            with directory.staging() as staging:
                staging.write("key", b"content", PRIVATE)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail_after_writing()
        assert list(place.iterdir()) == []

    def test_what_a_killed_run_left_goes(self, place: Path, directory: KeyDirectory) -> None:
        stale = place / f"{STAGING_PREFIX}0123"
        stale.mkdir()
        (stale / "key").write_text("content")
        (place / ".other").mkdir()
        with directory.staging():
            pass
        assert [path.name for path in place.iterdir()] == [".other"]

    @pytest.mark.parametrize(
        ("files", "one_by_one", "at_once"),
        [(1, 1, 0), (FSYNC_EACH_UP_TO, FSYNC_EACH_UP_TO, 0), (FSYNC_EACH_UP_TO + 1, 0, 1)],
    )
    def test_content_is_synced_one_by_one_or_at_once(
        self,
        directory: KeyDirectory,
        monkeypatch: pytest.MonkeyPatch,
        files: int,
        one_by_one: int,
        at_once: int,
    ) -> None:
        fsync: list[int] = []
        syncfs: list[int] = []
        monkeypatch.setattr(os, "fsync", fsync.append)
        monkeypatch.setattr(_key_directory, "_syncfs", syncfs.append)
        with directory.staging() as staging:
            for number in range(files):
                staging.write(str(number), b"content", PRIVATE)
            staging.sync()
        assert (len(fsync), len(syncfs)) == (one_by_one, at_once)


def test_syncfs_works_and_reports_failure(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY)
    try:
        _key_directory._syncfs(fd)
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        _key_directory._syncfs(-1)


def test_link_keeps_content_and_protection_and_replaces_nothing(place: Path, directory: KeyDirectory) -> None:
    (place / "key").write_bytes(b"content")
    (place / "key").chmod(0o640)
    directory.link("key", "copy")
    assert (place / "copy").read_bytes() == b"content"
    assert mode_of(place / "copy") == 0o640
    with pytest.raises(KeyStoreError, match=r"/copy: File exists"):
        directory.link("key", "copy")


@needs_root
def test_protect_file_sets_owner_and_mode(place: Path, directory: KeyDirectory) -> None:
    (place / "key").touch()
    directory.protect_file("key", Attributes(0o4640, NOBODY, NOBODY))
    status = (place / "key").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o4640, NOBODY, NOBODY)


def test_protect_file_does_not_follow_a_link(place: Path, directory: KeyDirectory) -> None:
    (place / "other").touch(0o644)
    (place / "key").symlink_to("other")
    with pytest.raises(KeyStoreError, match=r"/key: is a symbolic link"):
        directory.protect_file("key", PRIVATE)
    assert mode_of(place / "other") == 0o644


@pytest.mark.parametrize(
    ("wanted", "base", "result"),
    [
        (Attributes(), Attributes(0o640, 1, 2), Attributes(0o640, 1, 2)),
        (Attributes(0o600, 0, 0), Attributes(0o640, 1, 2), Attributes(0o600, 0, 0)),
        (Attributes(0), Attributes(0o640), Attributes(0)),
    ],
)
def test_attributes_fall_back_where_silent(wanted: Attributes, base: Attributes, result: Attributes) -> None:
    assert wanted.over(base) == result
