# SPDX-License-Identifier: GPL-3.0-or-later
"""Floods from one of a lab's hosts, with whatever source addresses it makes up."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from testinfra.host import Host

from .hosts import until

PORT = 51820
PROGRAM = Path(__file__).with_name("spoof.py")
PATIENCE = 30.0  # seconds for the sender to end

_numbers = itertools.count()


class Flood:
    """Datagrams from made-up sources while a `with` block lasts, at most for ``seconds``; ``sent`` is known after it.

    It runs as a transient unit, so that nothing hangs on a connection that the flood disturbs.
    """

    def __init__(
        self,
        source: Host,
        target: str,
        origin: str,
        payloads: list[bytes],
        *,
        rate: int,
        seconds: float,
        port: int = PORT,
    ) -> None:
        self._source = source
        self._unit = f"flood-{time.time_ns()}-{next(_numbers)}"
        self._log = f"/run/{self._unit}"
        self._arguments = (target, str(port), origin, str(seconds), str(rate), *(payload.hex() for payload in payloads))
        self._seconds = seconds
        self.sent = 0

    def __enter__(self) -> Flood:
        words = " ".join(["%s"] * len(self._arguments))
        self._begin = time.monotonic()
        self._source.check_output(
            f"systemd-run --quiet --unit=%s --property=StandardOutput=file:%s python3 -c %s {words}",
            *(self._unit, self._log, PROGRAM.read_text(), *self._arguments),
        )
        return self

    @property
    def over(self) -> bool:
        return self._source.run("systemctl is-active --quiet %s", self._unit).failed

    def __exit__(self, *_error: object) -> None:
        left = max(self._begin + self._seconds - time.monotonic(), 0) + PATIENCE
        until("the flood is over", left, lambda: self.over)
        self.sent = int(self._source.check_output("cat %s", self._log))
        self._source.check_output("rm %s", self._log)

    @property
    def rate(self) -> int:
        """Datagrams per second."""
        return round(self.sent / self._seconds)
