# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The operator's checks, each in a thread and interval of its own: a slow one delays nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from wirefleet.command import CommandError, run
from wirefleet.log import event

from .health import CheckResult
from .settings import Check


def execute(check: Check) -> CheckResult:
    try:
        run(check.command, timeout=check.timeout)
    except CommandError as error:
        outcome = f"exit {error.rc}" if isinstance(error.rc, int) else error.rc
        return CheckResult(False, f"{outcome}: {error.stderr}" if error.stderr else outcome)
    return CheckResult(True)


class Checks:
    """``results`` maps a check's name to how it ended last; a check that never ended is not in it."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._checks = tuple(checks)
        self.results: dict[str, CheckResult] = {}
        self._first = {check.name: threading.Event() for check in self._checks}

    def start(self) -> None:
        for check in self._checks:
            threading.Thread(target=self._repeat, args=(check,), name=f"check {check.name}", daemon=True).start()

    def wait_for_first(self, seconds: float) -> None:
        """Return when every check has ended once, or the time is up."""
        deadline = time.monotonic() + seconds
        for first in self._first.values():
            first.wait(max(deadline - time.monotonic(), 0))

    def _repeat(self, check: Check) -> None:
        while True:
            started = time.monotonic()
            self._record(check)
            time.sleep(max(check.interval - (time.monotonic() - started), 0.1))

    def _record(self, check: Check) -> None:
        result = execute(check)
        if self.results.get(check.name, CheckResult(True)).passed != result.passed:
            event("check", name=check.name, passed=result.passed, text=result.text or None)
        self.results[check.name] = result
        self._first[check.name].set()
