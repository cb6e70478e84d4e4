# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._ledger import Ledger, parse, render
from ansible_collections.wirefleet.vpn.plugins.modules import vpn_ledger

from ...cores import patch_module_args

ALICE = {"kind": "client", "name": "alice", "addresses": ["10.80.0.2"]}
BOB = {"kind": "client", "name": "bob", "addresses": ["10.80.0.3"]}
NODE = {"kind": "node", "name": "n1", "addresses": ["10.80.0.1"], "id": 1}

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a ledger would be; not even its directory is there."""
    return tmp_path / "state" / "ledger.jsonl"


@pytest.fixture
def ledger(path: Path) -> Path:
    """A ledger of generation 7 that holds Alice."""
    path.parent.mkdir()
    path.write_text(render(Ledger("default", 7, (ALICE,))))
    return path


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module on the path, and return its result."""

    def run(**arguments: Any) -> dict[str, Any]:
        with (
            patch_module_args({"path": str(path), "cluster": "default", **arguments}),
            pytest.raises(SystemExit) as ended,
        ):
            vpn_ledger.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert bool(ended.value.code) is result.get("failed", False)
        result.pop("invocation", None)  # which new cores leave out
        return result

    return run


def contents(path: Path) -> dict[str, str]:
    """All files of the ledger's directory: a test that compares them finds whatever is left behind."""
    return {file.name: file.read_text() for file in path.parent.iterdir()}


def test_read(run: Run, ledger: Path) -> None:
    assert run(state="read") == {
        "changed": False,
        "present": True,
        "cluster": "default",
        "generation": 7,
        "entries": [ALICE],
    }


def test_read_as_text(run: Run, ledger: Path) -> None:
    scattered = render(Ledger("default", 7, (ALICE, BOB))).splitlines(keepends=True)
    ledger.write_text("".join([scattered[0], *reversed(scattered[1:])]))
    assert run(state="read", as_text=True) == {
        "changed": False,
        "present": True,
        "cluster": "default",
        "generation": 7,
        "text": "".join(scattered),
    }


def test_read_as_text_where_there_is_none(run: Run) -> None:
    found = run(state="read", as_text=True)
    assert (found["present"], found["generation"], found["text"]) == (False, 0, "")


def test_write_a_text(run: Run, ledger: Path) -> None:
    text = render(Ledger("default", 8, (ALICE, BOB)))
    assert run(text=text, expect_generation=7) == {
        "changed": True,
        "present": True,
        "cluster": "default",
        "generation": 8,
    }
    assert contents(ledger) == {ledger.name: text}
    assert not run(text=text, expect_generation=7)["changed"]


def test_a_text_of_somebody_elses_generation_is_a_conflict(run: Run, ledger: Path) -> None:
    result = run(text=render(Ledger("default", 8, (BOB,))), expect_generation=6)
    assert (result["conflict"], result["generation"]) == (True, 7)


def test_read_where_there_is_none(run: Run, path: Path) -> None:
    assert run(state="read") == {
        "changed": False,
        "present": False,
        "cluster": "default",
        "generation": 0,
        "entries": [],
    }
    assert not path.parent.exists()


def test_first_write(run: Run, path: Path) -> None:
    result = run(entries=[NODE, BOB, ALICE], generation=1, expect_generation=0)
    assert result == {"changed": True, "present": True, "cluster": "default", "generation": 1}
    assert contents(path) == {path.name: render(Ledger("default", 1, (ALICE, BOB, NODE)))}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert run(state="read")["entries"] == [ALICE, BOB, NODE]


def test_next_write(run: Run, ledger: Path) -> None:
    assert run(entries=[ALICE, BOB], generation=8, expect_generation=7)["changed"]
    assert contents(ledger) == {ledger.name: render(Ledger("default", 8, (ALICE, BOB)))}


def written(file: Path) -> tuple[int, ...]:
    """Which file it is, and when it was written; not when it was read."""
    status = file.stat()
    return status.st_ino, status.st_mode, status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.parametrize("expected", [7, 6, 0])
def test_what_is_there_already_is_left_alone(run: Run, ledger: Path, expected: int) -> None:
    before = written(ledger)
    result = run(entries=[ALICE], generation=7, expect_generation=expected)
    assert result == {"changed": False, "present": True, "cluster": "default", "generation": 7}
    assert written(ledger) == before


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (6, "somebody else wrote generation 7; this run has read 6. Nothing was written: run again"),
        (8, "somebody else wrote generation 7; this run has read 8. Nothing was written: run again"),
        (0, "somebody else wrote generation 7; this run has read none. Nothing was written: run again"),
    ],
)
def test_conflict(run: Run, ledger: Path, expected: int, message: str, check_mode: bool) -> None:
    before = contents(ledger)
    result = run(entries=[BOB], generation=9, expect_generation=expected, _ansible_check_mode=check_mode)
    assert result == {"failed": True, "conflict": True, "generation": 7, "msg": f"{ledger}: {message}"}
    assert contents(ledger) == before


def test_a_ledger_that_is_gone_is_a_conflict(run: Run, path: Path) -> None:
    result = run(entries=[ALICE], generation=8, expect_generation=7)
    assert (result["conflict"], result["generation"]) == (True, 0)
    assert result["msg"].startswith(f"{path}: generation 7, which this run has read, is gone")
    assert not path.parent.exists()


def test_check_mode_predicts_on_a_fresh_host(run: Run, path: Path) -> None:
    result = run(entries=[ALICE], generation=1, expect_generation=0, _ansible_check_mode=True)
    assert result == {"changed": True, "present": True, "cluster": "default", "generation": 1}
    assert not path.parent.exists()


@pytest.mark.parametrize("check_mode", [False, True])
def test_diff_shows_the_text(run: Run, ledger: Path, check_mode: bool) -> None:
    before = ledger.read_text()
    result = run(
        entries=[ALICE, BOB], generation=8, expect_generation=7, _ansible_diff=True, _ansible_check_mode=check_mode
    )
    assert result["diff"] == {
        "before_header": str(ledger),
        "before": before,
        "after_header": str(ledger),
        "after": render(Ledger("default", 8, (ALICE, BOB))),
    }
    assert (ledger.read_text() == before) is check_mode


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1: the file is empty"),
        (render(Ledger("default", 7, (ALICE, BOB)))[:-10].encode(), "line 3: not JSON"),
        (b"<<<<<<< HEAD\n", "line 1: git conflict marker"),
        (render(Ledger("default", 7, (ALICE,))).encode() + b'{"name": "\xff"}\n', "line 3: not UTF-8"),
        (render(Ledger("other", 7, (ALICE,))).encode(), "belongs to the cluster 'other', not to 'default'"),
    ],
    ids=["empty", "cut off", "merge", "binary", "other cluster"],
)
@pytest.mark.parametrize(
    "arguments",
    [{"state": "read"}, {"entries": [ALICE], "generation": 8, "expect_generation": 7}],
    ids=["read", "present"],
)
def test_damage_is_refused_and_left_as_it_is(
    run: Run, ledger: Path, data: bytes, message: str, arguments: dict[str, Any]
) -> None:
    ledger.write_bytes(data)
    result = run(**arguments)
    assert result["failed"]
    assert result["msg"].startswith(f"{ledger}: {message}")
    assert ledger.read_bytes() == data


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"entries": [ALICE, ALICE]}, "entries[1]: client alice is there twice"),
        ({"entries": [{"kind": "client"}]}, "entries[0]: name has to be a string"),
        ({"generation": 0}, "generation has to be a number from 1, not 0"),
        ({"cluster": ""}, "cluster has to be a name, not ''"),
        ({"path": "ledger.jsonl"}, "'ledger.jsonl' is not absolute"),
        ({"entries": None}, "state=present needs entries"),
        ({"expect_generation": None}, "state=present needs expect_generation"),
        ({"text": render(Ledger("default", 1, ()))}, "parameters are mutually exclusive: text|entries"),
    ],
)
def test_bad_input_writes_nothing(run: Run, path: Path, arguments: dict[str, Any], message: str) -> None:
    result = run(**{"entries": [ALICE], "generation": 1, "expect_generation": 0, **arguments})
    assert result["failed"]
    assert message in result["msg"]
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "state=present needs entries, generation"),
        ("{}", "line 1: version is None"),
        (render(Ledger("other", 1)), "text: belongs to the cluster 'other', not to 'default'"),
    ],
)
def test_a_bad_text_writes_nothing(run: Run, path: Path, text: str, message: str) -> None:
    result = run(text=text, expect_generation=0)
    assert result["failed"]
    assert message in result["msg"]
    assert not path.parent.exists()


def test_a_directory_in_the_way_is_named(run: Run, path: Path) -> None:
    path.mkdir(parents=True)
    assert run(state="read")["msg"] == f"{path}: Is a directory"


def test_a_symbolic_link_stays_one(run: Run, ledger: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(ledger)
    assert run(path=str(link), entries=[BOB], generation=8, expect_generation=7)["changed"]
    assert link.is_symlink()
    assert parse(ledger.read_text()).entries == (BOB,)


def test_a_failed_write_leaves_the_old_file_and_no_other(
    run: Run, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vpn_ledger.os, "fsync", full)
    before = contents(ledger)
    assert run(entries=[BOB], generation=8, expect_generation=7)["msg"] == f"{ledger}: No space left on device"
    assert contents(ledger) == before


# -- two at once -------------------------------------------------------------------------------------------------------

# Children share the test's memory, and with it what the test has patched.
fork = multiprocessing.get_context("fork")


def test_of_two_controllers_exactly_one_wins(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = vpn_ledger.load

    def slow_load(path: str, cluster: str) -> Ledger | None:
        found = load(path, cluster)
        time.sleep(0.2)  # long enough for the other to read the same generation, if it could
        return found

    def controller(name: str) -> None:
        start.wait()
        try:
            vpn_ledger.store(str(ledger), Ledger("default", 8, ({"kind": "client", "name": name},)), 7)
        except vpn_ledger.Conflict as conflict:
            outcomes.put((name, conflict.found))
        else:
            outcomes.put((name, None))

    monkeypatch.setattr(vpn_ledger, "load", slow_load)
    start, outcomes = fork.Barrier(2, timeout=10), fork.Queue()
    controllers = [fork.Process(target=controller, args=(name,)) for name in ("one", "two")]
    for process in controllers:
        process.start()
    try:
        results = dict(outcomes.get(timeout=10) for _ in controllers)
    finally:
        for process in controllers:
            process.kill()

    assert sorted(results.values(), key=str) == [8, None]
    [winner] = [name for name, conflict in results.items() if conflict is None]
    assert contents(ledger) == {ledger.name: render(Ledger("default", 8, ({"kind": "client", "name": winner},)))}


def test_whoever_waited_for_a_removed_lock_file_takes_the_new_one(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    def wait_for_lock() -> None:
        with vpn_ledger.locked(str(lock)):
            inside.send(os.stat(lock).st_ino)
            inside.recv()

    outside, inside = fork.Pipe()
    process = fork.Process(target=wait_for_lock)
    process.start()
    try:
        assert not outside.poll(0.3)
        # The file is removed and made anew while the other waits for it.
        os.unlink(lock)
        lock.touch()
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        assert outside.poll(10)
        assert outside.recv() == lock.stat().st_ino
        outside.send("done")
        process.join(10)
        assert process.exitcode == 0
    finally:
        process.kill()
        os.close(descriptor)
    assert not lock.exists()


def test_a_lock_file_that_a_crash_left_behind_does_not_matter(run: Run, ledger: Path) -> None:
    Path(f"{ledger}.lock").touch()
    assert run(entries=[BOB], generation=8, expect_generation=7)["changed"]
    assert set(contents(ledger)) == {ledger.name}


def test_ten_thousand_entries_take_less_than_a_second(path: Path) -> None:
    entries = tuple(
        {"kind": "client", "name": f"c{n}", "addresses": [f"10.80.{n >> 8}.{n & 255}", f"fd00:80::{n:x}"]}
        for n in range(10_000)
    )
    start = time.process_time()
    wanted = Ledger("default", 1, entries)
    vpn_ledger.store(str(path), wanted, 0)
    assert vpn_ledger.load(str(path), "default") == wanted
    assert time.process_time() - start < 10
