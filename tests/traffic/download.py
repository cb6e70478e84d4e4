# SPDX-License-Identifier: GPL-3.0-or-later
"""A download over one TCP connection: whether every byte came, and how long the stream ever stood still."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

from testinfra.host import Host

from .hosts import until

PROGRAM = Path(__file__).with_name("reader.py")
PATTERN = bytes(range(251)) * 256  # as lab/image/…/web.py repeats it
RATE = 1_000_000  # bytes per second: a pace that a busy machine keeps, so that a gap is the network's
PATIENCE = 20.0
ENDLESS = 24 * 3600.0

_numbers = itertools.count()


def checksum(size: int) -> str:
    """The SHA-256 of the web server's first bytes."""
    whole, rest = divmod(size, len(PATTERN))
    digest = hashlib.sha256()
    for _ in range(whole):
        digest.update(PATTERN)
    digest.update(PATTERN[:rest])
    return digest.hexdigest()


class Download:
    """Reads from a lab's web server while a `with` block lasts; how it fared can be asked after it.

    It lasts ``seconds``, and the block waits for that; or, without a number, as long as the block.

    It runs as a transient unit, so that nothing hangs on a connection that the test disturbs.
    """

    def __init__(self, source: Host, address: str, seconds: float | None = None) -> None:
        self._source, self._address = source, address
        self._size = int((seconds or ENDLESS) * RATE)
        self._seconds = seconds
        self._unit = f"download-{time.time_ns()}-{next(_numbers)}"
        self._log = f"/run/{self._unit}"
        self._result: dict[str, Any] = {}

    def __enter__(self) -> Download:
        self._source.check_output(
            "systemd-run --quiet --unit=%s --property=StandardOutput=file:%s python3 -c %s %s %s %s",
            *(self._unit, self._log, PROGRAM.read_text(), self._address, str(self._size), str(RATE)),
        )
        return self

    def __exit__(self, error: type[BaseException] | None, *_rest: object) -> None:
        try:
            if error is None:
                if self._seconds is None:
                    self._source.run("systemctl stop %s", self._unit)
                else:
                    until(f"{self} ends", self._seconds + PATIENCE, self._ended)
                self._result = json.loads(self._source.check_output("cat %s", self._log))
        finally:
            self._source.run("systemctl stop %s; rm %s", self._unit, self._log)

    def _ended(self) -> bool:
        return self._source.run("systemctl is-active --quiet %s", self._unit).failed

    @property
    def error(self) -> str | None:
        """How the connection broke, if it did."""
        return self._result["error"]  # type: ignore[no-any-return]

    @property
    def received(self) -> int:
        """How many bytes came."""
        return self._size - self._result["left"]  # type: ignore[no-any-return]

    @property
    def complete(self) -> bool:
        """Whether all bytes came that there was time for, and were the right ones."""
        return self.error is None and self._result["sha256"] == checksum(self.received)

    @property
    def stall(self) -> float:
        """The longest time that the reader had to wait for bytes, in seconds."""
        return self._result["stall"]  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return f"download of {self._size} bytes from {self._address}: {self._result or 'no result'}"
