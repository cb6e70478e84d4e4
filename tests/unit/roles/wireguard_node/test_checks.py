# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import time
from pathlib import Path

import pytest
from wirefleet_node.checks import Checks, execute
from wirefleet_node.health import CheckResult
from wirefleet_node.settings import Check


def shell(script: str, *, timeout: float = 5, interval: float = 10) -> Check:
    return Check("dns", ("sh", "-c", script), timeout, interval)


@pytest.mark.parametrize(
    ("check", "result"),
    [
        (shell("exit 0"), CheckResult(True)),
        (shell("exit 2"), CheckResult(False, "exit 2")),
        (shell("echo no answer >&2; exit 1"), CheckResult(False, "exit 1: no answer")),
        (shell("sleep 9", timeout=0.2), CheckResult(False, "timeout: no end within 0.2 s")),
    ],
)
def test_outcome(check: Check, result: CheckResult) -> None:
    assert execute(check) == result


def test_missing_command_fails() -> None:
    assert "missing: " in execute(Check("dns", ("/no/such/check",), 1, 1)).text


def test_repeats_in_its_interval_and_reports_changes_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flag = tmp_path / "up"
    flag.touch()
    checks = Checks([shell(f"test -e {flag}", interval=0.1)])
    checks.start()
    checks.wait_for_first(5)
    assert checks.results["dns"].passed
    flag.unlink()
    wait_until(checks, passed=False)
    flag.touch()
    wait_until(checks, passed=True)
    assert capfd.readouterr().err.splitlines() == [
        'event=check name=dns passed=False text="exit 1"',
        "event=check name=dns passed=True",
    ]


def test_a_slow_check_delays_nobody() -> None:
    checks = Checks([shell("sleep 5", timeout=9), Check("quick", ("true",), 1, 1)])
    checks.start()
    while "quick" not in checks.results:
        time.sleep(0.01)
    checks.wait_for_first(0.1)
    assert "dns" not in checks.results


def wait_until(checks: Checks, *, passed: bool) -> None:
    end = time.monotonic() + 5
    while checks.results["dns"].passed != passed:
        assert time.monotonic() < end
        time.sleep(0.02)
