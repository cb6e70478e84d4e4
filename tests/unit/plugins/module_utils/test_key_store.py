# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._key_directory import (
    STAGING_PREFIX,
    Attributes,
    KeyDirectory,
    KeyStoreError,
    Staging,
)
from ansible_collections.wirefleet.vpn.plugins.module_utils._key_store import Entry, KeyStore, Request, file_names
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import (
    BackendError,
    find_backend,
    generate_private_key,
    public_key,
)

NOBODY = 65534
STRANGER = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def request_for(place: Path, *names: str, **options: Any) -> Request:
    return Request(str(place), file_names(names or ["alice"], ".key"), **options)


def run(request: Request, *, check_mode: bool = False) -> list[Entry]:
    return KeyStore(request, find_backend()).execute(check_mode=check_mode)


def snapshot(place: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below `place`, with content and mode."""
    return {
        str(path.relative_to(place)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in place.rglob("*")
        if path.is_file()
    }


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As root may read and write everything, be somebody else."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Room for a page or two of content, and for twenty files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,nr_inodes=24,mode=700", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


class TestNames:
    def test_files_carry_the_suffix(self) -> None:
        assert file_names(["alice", "bob smith", "a.b-c_d"], ".psk") == {
            "alice": "alice.psk",
            "bob smith": "bob smith.psk",
            "a.b-c_d": "a.b-c_d.psk",
        }

    @pytest.mark.parametrize(
        ("names", "reason"),
        [
            ([""], "'' is empty"),
            (["."], "starts with a dot"),
            ([".."], "starts with a dot"),
            ([".hidden"], "starts with a dot"),
            (["a/b"], "contains '/' or"),
            (["/etc/passwd"], "contains '/' or"),
            (["a..b"], "contains '/' or"),
            (["a\nb"], "can not be printed"),
            (["a\0b"], "can not be printed"),
            (["a\x1b[1mb"], "can not be printed"),
            (["a\ud800"], "can not be printed"),
            (["alice", "bob", "alice"], "'alice' is given twice"),
            (["x" * 230], "too long"),
            (["é" * 115], "too long"),
        ],
    )
    def test_unfit_names_are_refused(self, names: list[str], reason: str) -> None:
        with pytest.raises(KeyStoreError, match=f"names: .*{reason}"):
            file_names(names, ".key")

    @pytest.mark.parametrize("suffix", ["/x", "/../x", ".\n", "..key"])
    def test_unfit_suffixes_are_refused(self, suffix: str) -> None:
        with pytest.raises(KeyStoreError, match="with suffix"):
            file_names(["alice"], suffix)

    def test_the_longest_name_can_still_be_backed_up(self, place: Path) -> None:
        name = "x" * (255 - len(".key") - len(".20261122T172302.123456Z"))
        run(request_for(place, name))
        (entry,) = run(request_for(place, name, rotate=True, backup=True))
        assert entry.backup is not None
        assert (place / entry.backup).exists()
        with pytest.raises(KeyStoreError, match="too long"):
            file_names([name + "x"], ".key")


class TestPresent:
    def test_creates_private_files_in_a_private_directory(self, place: Path) -> None:
        alice, bob = run(request_for(place, "alice", "bob"))
        assert mode_of(place) == 0o700
        assert [path.name for path in sorted(place.iterdir())] == ["alice.key", "bob.key"]
        assert [mode_of(path) for path in place.iterdir()] == [0o600, 0o600]
        assert (alice.changed, bob.changed) == (True, True)
        text = (place / "alice.key").read_text()
        assert text == f"{alice.private_key}\n"
        assert alice.public_key == public_key(text)
        assert alice.private_key != bob.private_key

    def test_a_second_run_changes_nothing(self, place: Path) -> None:
        first = run(request_for(place, "alice", "bob"))
        before = snapshot(place)
        second = run(request_for(place, "alice", "bob"))
        assert snapshot(place) == before
        assert [entry.changed for entry in second] == [False, False]
        assert [entry.public_key for entry in second] == [entry.public_key for entry in first]

    def test_a_new_name_leaves_the_others_alone(self, place: Path) -> None:
        run(request_for(place, "alice"))
        before = snapshot(place)
        entries = run(request_for(place, "carol", "alice"))
        assert [(entry.name, entry.changed) for entry in entries] == [("carol", True), ("alice", False)]
        assert snapshot(place)["alice.key"] == before["alice.key"]

    def test_preshared_keys_have_no_public_key(self, place: Path) -> None:
        store = KeyStore(request_for(place, preshared=True), None)
        (created,) = store.execute(check_mode=False)
        (found,) = store.execute(check_mode=False)
        assert created.private_key == found.private_key == (place / "alice.key").read_text().strip()
        assert (created.public_key, found.public_key) == (None, None)

    def test_no_names_make_no_directory(self, place: Path) -> None:
        assert run(Request(str(place), {})) == []
        assert not place.exists()

    def test_attributes_of_existing_files_are_corrected_only_when_given(self, place: Path) -> None:
        run(request_for(place))
        (place / "alice.key").chmod(0o640)
        assert not run(request_for(place))[0].changed
        assert mode_of(place / "alice.key") == 0o640
        (entry,) = run(request_for(place, attributes=Attributes(0o600)))
        assert entry.changed
        assert mode_of(place / "alice.key") == 0o600

    @needs_root
    def test_owner_and_group_get_files_and_a_new_directory(self, place: Path) -> None:
        run(request_for(place, attributes=Attributes(0o440, NOBODY, NOBODY)))
        for path in (place, place / "alice.key"):
            assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)
        assert mode_of(place / "alice.key") == 0o440

    def test_directory_mode_of_an_existing_directory_is_corrected_only_when_given(self, place: Path) -> None:
        place.mkdir(0o755)
        place.chmod(0o755)
        run(request_for(place))
        assert mode_of(place) == 0o755
        store = KeyStore(request_for(place, directory_mode=0o700), find_backend())
        store.execute(check_mode=False)
        assert store.directory_changed
        assert mode_of(place) == 0o700

    def test_content_is_on_disk_before_it_has_a_name_and_names_before_the_end(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.mkdir(0o700)
        happened: list[str] = []
        real_fsync, real_link = os.fsync, os.link

        def fsync(fd: int) -> None:
            happened.append("sync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
            real_fsync(fd)

        def link(*arguments: Any, **options: Any) -> None:
            happened.append("publish")
            real_link(*arguments, **options)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "link", link)
        run(request_for(place, "alice", "bob"))
        assert happened == ["sync file", "sync file", "publish", "publish", "sync directory"]


class TestRotate:
    def test_a_new_key_takes_the_place(self, place: Path) -> None:
        (old,) = run(request_for(place))
        (new,) = run(request_for(place, rotate=True))
        assert new.changed
        assert new.public_key not in (None, old.public_key)
        assert list(snapshot(place)) == ["alice.key"]
        assert public_key((place / "alice.key").read_text()) == new.public_key

    def test_backup_keeps_the_old_key_with_its_protection(self, place: Path) -> None:
        (old,) = run(request_for(place))
        (place / "alice.key").chmod(0o640)
        (new,) = run(request_for(place, rotate=True, backup=True))
        assert new.backup is not None
        assert re.fullmatch(r"alice\.key\.\d{8}T\d{6}\.\d{6}Z", new.backup)
        assert snapshot(place)[new.backup] == (f"{old.private_key}\n".encode(), 0o640)
        assert mode_of(place / "alice.key") == 0o640

    def test_a_missing_key_is_created_without_a_backup(self, place: Path) -> None:
        (entry,) = run(request_for(place, rotate=True, backup=True))
        assert entry.backup is None
        assert list(snapshot(place)) == ["alice.key"]

    def test_a_new_key_is_not_born_readable_by_everybody(self, place: Path) -> None:
        run(request_for(place))
        (place / "alice.key").chmod(0o644)
        run(request_for(place, rotate=True))
        assert mode_of(place / "alice.key") == 0o640

    @needs_root
    def test_the_owner_stays(self, place: Path) -> None:
        run(request_for(place))
        os.chown(place / "alice.key", NOBODY, NOBODY)
        run(request_for(place, rotate=True))
        assert (place / "alice.key").stat().st_uid == NOBODY


class TestAbsent:
    def test_removes_and_is_done(self, place: Path) -> None:
        run(request_for(place, "alice", "bob"))
        (entry,) = run(request_for(place, "alice", present=False))
        assert (entry.changed, entry.public_key) == (True, None)
        assert list(snapshot(place)) == ["bob.key"]
        assert not run(request_for(place, "alice", present=False))[0].changed

    def test_missing_directory_is_not_created(self, place: Path) -> None:
        assert not run(request_for(place, present=False))[0].changed
        assert not place.exists()

    def test_backup(self, place: Path) -> None:
        (old,) = run(request_for(place))
        (entry,) = run(request_for(place, present=False, backup=True))
        assert entry.backup is not None
        assert snapshot(place) == {entry.backup: (f"{old.private_key}\n".encode(), 0o600)}

    @pytest.mark.parametrize("content", ["", "something else\n"])
    def test_what_is_no_key_is_not_removed(self, place: Path, content: str) -> None:
        place.mkdir(0o700)
        (place / "alice.key").write_text(content)
        with pytest.raises(KeyStoreError, match="neither replaced nor removed"):
            run(request_for(place, present=False))
        assert (place / "alice.key").read_text() == content

    def test_only_the_expected_key_is_removed(self, place: Path) -> None:
        (entry,) = run(request_for(place))
        with pytest.raises(KeyStoreError, match=f"expected {re.escape(STRANGER)}, found"):
            run(request_for(place, present=False, expected={"alice": STRANGER}))
        assert (place / "alice.key").exists()
        assert entry.public_key is not None
        known = {"alice": entry.public_key}
        assert run(request_for(place, present=False, expected=known))[0].changed
        assert not run(request_for(place, present=False, expected=known))[0].changed


class TestExpected:
    def test_the_known_key_passes(self, place: Path) -> None:
        (entry,) = run(request_for(place))
        assert entry.public_key is not None
        assert not run(request_for(place, expected={"alice": entry.public_key}))[0].changed

    @pytest.mark.parametrize("rotate", [False, True])
    @pytest.mark.parametrize("check_mode", [False, True])
    def test_another_key_stops_the_task_for_every_name(self, place: Path, check_mode: bool, rotate: bool) -> None:
        (entry,) = run(request_for(place))
        assert entry.public_key is not None
        before = snapshot(place)
        message = f"{place}/alice.key: the known key vanished, expected {STRANGER}, found {entry.public_key}"
        with pytest.raises(KeyStoreError, match=re.escape(message)):
            run(request_for(place, "bob", "alice", expected={"alice": STRANGER}, rotate=rotate), check_mode=check_mode)
        assert snapshot(place) == before

    @pytest.mark.parametrize("exists", [False, True], ids=["no directory", "empty directory"])
    def test_a_missing_file_stops_the_task_for_every_name(self, place: Path, exists: bool) -> None:
        if exists:
            place.mkdir(0o700)
        with pytest.raises(KeyStoreError, match=r"/alice\.key: the known key vanished, expected .*, found no file"):
            run(request_for(place, "bob", "alice", expected={"alice": STRANGER}))
        assert place.exists() is exists
        assert snapshot(place) == {}

    def test_names_that_are_not_asked_for_do_not_matter(self, place: Path) -> None:
        assert run(request_for(place, "alice", expected={"zoe": STRANGER}))[0].changed

    def test_many_lost_keys_are_counted(self, place: Path) -> None:
        names = [f"n{number}" for number in range(100)]
        with pytest.raises(KeyStoreError, match=r"n0\.key.*n4\.key.*; and 95 more\. No key was") as caught:
            run(request_for(place, *names, expected=dict.fromkeys(names, STRANGER)))
        assert "n5.key" not in str(caught.value)


class TestCheckMode:
    @pytest.mark.parametrize("exists", [False, True], ids=["fresh host", "empty directory"])
    def test_predicts_creation_and_writes_nothing(self, place: Path, exists: bool) -> None:
        if exists:
            place.mkdir(0o700)
        (entry,) = run(request_for(place), check_mode=True)
        assert (entry.changed, entry.public_key, entry.private_key) == (True, None, None)
        assert place.exists() is exists
        assert snapshot(place) == {}

    @pytest.mark.parametrize(
        ("options", "changed"),
        [
            ({}, False),
            ({"rotate": True, "backup": True}, True),
            ({"present": False, "backup": True}, True),
            ({"attributes": Attributes(0o640)}, True),
        ],
    )
    def test_predicts_changes_and_writes_nothing(self, place: Path, options: dict[str, Any], changed: bool) -> None:
        run(request_for(place))
        before = snapshot(place)
        (predicted,) = run(request_for(place, **options), check_mode=True)
        assert snapshot(place) == before
        (real,) = run(request_for(place, **options))
        assert predicted.changed is real.changed is changed

    def test_predicts_the_directory_mode(self, place: Path) -> None:
        run(request_for(place))
        store = KeyStore(request_for(place, directory_mode=0o750), find_backend())
        store.execute(check_mode=True)
        assert store.directory_changed
        assert mode_of(place) == 0o700

    def test_existing_keys_without_a_backend_are_unknown_and_kept(self, place: Path) -> None:
        run(request_for(place))
        (entry,) = KeyStore(request_for(place, expected={"alice": STRANGER}), None).execute(check_mode=True)
        assert (entry.changed, entry.public_key) == (False, None)

    def test_does_not_wait_for_a_run_at_work(self, place: Path) -> None:
        run(request_for(place))
        directory = KeyDirectory.open(str(place))
        assert directory is not None
        with directory:
            directory.lock()
            assert not run(request_for(place), check_mode=True)[0].changed


class TestUnreadable:
    @pytest.mark.parametrize("options", [{}, {"rotate": True}, {"rotate": True, "backup": True}, {"present": False}])
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"not a key\n",
            b"c2hvcnQ=\n",
            b"\xff\xfe" * 22,
            b"A" * 43 + b"=\n",
            b"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nyAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n",
        ],
        ids=["empty", "text", "short", "binary", "zero", "two keys"],
    )
    def test_what_is_no_key_stays_and_nothing_is_written(
        self, place: Path, content: bytes, options: dict[str, Any]
    ) -> None:
        place.mkdir(0o700)
        (place / "alice.key").write_bytes(content)
        before = snapshot(place)
        with pytest.raises(KeyStoreError, match=rf"^{place}/alice\.key: .*neither replaced nor removed") as caught:
            run(request_for(place, "bob", "alice", **options))
        assert snapshot(place) == before
        if content.strip():
            assert content.decode("ascii", "replace").strip() not in str(caught.value)

    @pytest.mark.parametrize("rotate", [False, True])
    def test_a_directory_in_the_place_of_a_key_stays(self, place: Path, rotate: bool) -> None:
        (place / "alice.key").mkdir(parents=True)
        with pytest.raises(KeyStoreError, match=r"alice\.key: is not a regular file"):
            run(request_for(place, rotate=rotate))
        assert (place / "alice.key").is_dir()

    @pytest.mark.parametrize("options", [{}, {"rotate": True}, {"present": False}])
    def test_a_link_stays_and_is_not_followed(self, place: Path, tmp_path: Path, options: dict[str, Any]) -> None:
        place.mkdir(0o700)
        target = tmp_path / "target"
        target.write_text(generate_private_key())
        (place / "alice.key").symlink_to(target)
        before = target.read_text()
        with pytest.raises(KeyStoreError, match=r"alice\.key: is a symbolic link"):
            run(request_for(place, "bob", "alice", **options))
        assert target.read_text() == before
        assert list(place.iterdir()) == [place / "alice.key"]

    @pytest.mark.parametrize("rotate", [False, True])
    def test_a_file_that_may_not_be_read_stays(self, tmp_path: Path, rotate: bool) -> None:
        tmp_path.chmod(0o755)
        place = tmp_path / "keys"
        run(request_for(place))
        place.chmod(0o777)
        (place / "alice.key").chmod(0)
        # Opened from inside: the way to it leads through directories that only root may enter.
        before = (place / "alice.key").stat().st_ino
        here = os.getcwd()
        os.chdir(place)
        try:
            with unprivileged(), pytest.raises(KeyStoreError, match=r"\./alice\.key: Permission denied"):
                run(request_for(Path("."), "bob", "alice", rotate=rotate))
        finally:
            os.chdir(here)
        assert (place / "alice.key").stat().st_ino == before
        assert list(place.iterdir()) == [place / "alice.key"]


class TestFailure:
    def test_a_directory_that_may_not_be_written(self, place: Path) -> None:
        place.mkdir()
        place.chmod(0o755 if os.geteuid() == 0 else 0o555)
        here = os.getcwd()
        os.chdir(place)
        try:
            with unprivileged(), pytest.raises(KeyStoreError, match=r"\.: Permission denied"):
                run(request_for(Path(".")))
        finally:
            os.chdir(here)
        assert list(place.iterdir()) == []

    @needs_root
    @pytest.mark.root
    def test_a_read_only_disk(self, small_disk: Path) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        with pytest.raises(KeyStoreError, match=f"{small_disk}: Read-only file system"):
            run(request_for(small_disk))
        with pytest.raises(KeyStoreError, match=f"{small_disk}/keys: Read-only file system"):
            run(request_for(small_disk / "keys"))

    @needs_root
    @pytest.mark.root
    @pytest.mark.parametrize("rotate", [False, True])
    def test_a_full_disk_leaves_everything_as_it_was(self, small_disk: Path, rotate: bool) -> None:
        run(request_for(small_disk, "alice"))
        before = snapshot(small_disk)
        names = ["alice", *(f"n{number}" for number in range(40))]
        with pytest.raises(KeyStoreError, match=rf"{small_disk}/n\d+\.key: No space left on device"):
            run(request_for(small_disk, *names, rotate=rotate, backup=True))
        assert snapshot(small_disk) == before
        assert list(small_disk.iterdir()) == [small_disk / "alice.key"]

    @needs_root
    @pytest.mark.root
    def test_removal_works_on_a_full_disk(self, small_disk: Path) -> None:
        run(request_for(small_disk, "alice"))
        with contextlib.suppress(OSError):
            (small_disk / "ballast").write_bytes(bytes(1 << 20))
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "more").write_bytes(b"x")
        assert run(request_for(small_disk, "alice", present=False))[0].changed

    @pytest.mark.parametrize("options", [{"rotate": True, "backup": True}, {}])
    def test_a_publication_that_fails_half_way_is_taken_back(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
    ) -> None:
        run(request_for(place, "alice"))
        before = snapshot(place)
        real_link = os.link

        def link(source: str, target: str, **directories: Any) -> None:
            if target == "carol.key":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real_link(source, target, **directories)

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(KeyStoreError, match=r"carol\.key: No space left on device"):
            run(request_for(place, "alice", "bob", "carol", **options))
        assert snapshot(place) == before

    def test_a_backup_that_fails_keeps_what_was_to_be_removed(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(request_for(place, "alice", "bob"))
        before = snapshot(place)
        real_link = os.link

        def link(source: str, target: str, **directories: Any) -> None:
            if source == "bob.key":
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            real_link(source, target, **directories)

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(KeyStoreError, match="Operation not permitted"):
            run(request_for(place, "alice", "bob", present=False, backup=True))
        assert snapshot(place) == before

    def test_a_backend_that_fails_leaves_nothing(self, place: Path) -> None:
        def fail(_private: str) -> str:
            raise BackendError("no")

        with pytest.raises(BackendError):
            KeyStore(request_for(place), fail).execute(check_mode=False)
        assert list(place.iterdir()) == []


class TestWarnings:
    @pytest.mark.parametrize(
        ("mode", "wanted", "warned"),
        [(0o600, None, False), (0o640, None, False), (0o644, None, True), (0o644, 0o600, True), (0o600, 0o604, True)],
    )
    def test_keys_that_everybody_can_reach(self, place: Path, mode: int, wanted: int | None, warned: bool) -> None:
        run(request_for(place))
        (place / "alice.key").chmod(mode)
        store = KeyStore(request_for(place, attributes=Attributes(wanted)), find_backend())
        store.execute(check_mode=False)
        assert [f"{place}/alice.key" in warning for warning in store.warnings] == [True] * warned
        assert mode_of(place / "alice.key") == (mode if wanted is None else wanted)

    @pytest.mark.parametrize(("mode", "warned"), [(0o755, False), (0o777, True), (0o1777, False)])
    def test_a_directory_that_everybody_can_write_to(self, place: Path, mode: int, warned: bool) -> None:
        place.mkdir()
        place.chmod(mode)
        store = KeyStore(request_for(place), find_backend())
        store.execute(check_mode=False)
        assert ["everybody can write" in warning for warning in store.warnings] == [True] * warned


class TestMeeting:
    """Two runs, or a run and somebody with an editor, at the same time."""

    def test_processes_that_create_end_with_one_key(self, place: Path) -> None:
        names = [f"n{number}" for number in range(30)]
        reports = meet(4, request_for(place, *names))
        assert all(report == reports[0] for report in reports)
        assert {name: public_key((place / f"{name}.key").read_text()) for name in names} == reports[0]
        assert len(snapshot(place)) == len(names)
        assert not list(place.glob(f"{STAGING_PREFIX}*"))

    def test_processes_that_rotate_lose_no_key(self, place: Path) -> None:
        (first,) = run(request_for(place))
        reports = meet(4, request_for(place, rotate=True, backup=True))
        kept = [public_key(content.decode()) for content, _mode in snapshot(place).values()]
        assert sorted(kept) == sorted([first.public_key, *(report["alice"] for report in reports)])

    def test_who_ignores_the_lock_and_is_faster_wins(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        theirs = generate_private_key()
        real_create = Staging.create

        def create(staging: Staging, file: str) -> bool:
            (place / file).write_text(f"{theirs}\n")
            return real_create(staging, file)

        monkeypatch.setattr(Staging, "create", create)
        (entry,) = run(request_for(place))
        assert (entry.changed, entry.public_key) == (False, public_key(theirs))
        assert (place / "alice.key").read_text() == f"{theirs}\n"

    def test_who_is_faster_and_gone_again_is_an_error(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Staging, "create", lambda _staging, _file: False)
        with pytest.raises(KeyStoreError, match=r"alice\.key: somebody else created and removed it"):
            run(request_for(place))


def meet(processes: int, request: Request) -> list[dict[str, str]]:
    """Run the request in as many processes at once; what each reports, name to public key."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(processes)
    reports = context.SimpleQueue()

    def work() -> None:
        start.wait(30)
        reports.put({entry.name: entry.public_key for entry in run(request)})

    workers = [context.Process(target=work) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * processes
    return [reports.get() for _ in workers]


def test_representations_do_not_show_keys(place: Path) -> None:
    (entry,) = run(request_for(place))
    assert entry.private_key is not None
    assert entry.private_key not in repr(entry)
