# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import time

import pytest
from wirefleet.command import CommandError, run


def test_returns_stdout_and_passes_stdin() -> None:
    assert run(["cat"], stdin="hello\n") == "hello\n"


def test_commands_speak_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(["sh", "-c", "echo $LC_ALL"]) == "C\n"


@pytest.mark.parametrize(
    ("argv", "rc", "message"),
    [
        (["sh", "-c", "echo one >&2; exit 3"], 3, "exit 3: one"),
        (["sh", "-c", "printf '1\\n2\\n3\\n4\\n' >&2; exit 1"], 1, "exit 1: 2; 3; 4"),
        (["false"], 1, "false: exit 1"),
        (["/no/such/command"], "missing", "No such file"),
    ],
)
def test_failure_says_what_and_why(argv: list[str], rc: int | str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        run(argv)
    assert caught.value.rc == rc
    assert message in str(caught.value)


def test_stdin_appears_in_no_error() -> None:
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "cat >/dev/null; exit 1"], stdin="hidden")
    assert "hidden" not in f"{caught.value!r} {caught.value} {vars(caught.value)}"


def test_timeout_kills_grandchildren_that_hold_the_pipe() -> None:
    started = time.monotonic()
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "sleep 30 & sleep 30"], timeout=0.2)
    assert caught.value.rc == "timeout"
    assert time.monotonic() - started < 5
