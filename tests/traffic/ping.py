# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream of pings, and what came back of it."""

from __future__ import annotations

import itertools
import re
import time
from datetime import datetime, timezone

from testinfra.host import Host

REPLY = re.compile(r"^\[(?P<at>[\d.]+)\] \d+ bytes from .* icmp_seq=(?P<seq>\d+) ", re.MULTILINE)
SENT = re.compile(r"^(\d+) packets transmitted", re.MULTILINE)
# How long an answer may take before it counts as lost: the lab's hosts share a few cores.
PATIENCE = 2.0

_numbers = itertools.count()


class Ping:
    """Pings from a host while a `with` block lasts; how they fared can be asked after it.

    It runs as a transient unit, so that nothing hangs on a connection that the test disturbs.
    """

    def __init__(self, source: Host, target: str, interval: float = 0.05) -> None:
        self._source, self._target, self._interval = source, target, interval
        self._unit = f"ping-{time.time_ns()}-{next(_numbers)}"
        self._log = f"/run/{self._unit}"
        self._replies: dict[int, float] = {}
        self.sent = 0

    def __enter__(self) -> Ping:
        # Numbers of replies wrap at 65,536: no stream here is that long.
        self._source.check_output(
            "systemd-run --quiet --unit=%s --property=KillSignal=SIGINT --property=StandardOutput=file:%s "
            "stdbuf --output=L ping -D -n -i %s %s",
            *(self._unit, self._log, str(self._interval), self._target),
        )
        return self

    def __exit__(self, *_error: object) -> None:
        time.sleep(PATIENCE)
        self._source.check_output("systemctl stop %s", self._unit)
        log = self._source.check_output("cat %s", self._log)
        self._source.check_output("rm %s", self._log)
        self._replies = {int(reply["seq"]): float(reply["at"]) for reply in REPLY.finditer(log)}
        sent = SENT.search(log)
        assert sent, f"ping said no more than:\n{log[-1000:]}"
        # What was sent in the last moments is not lost, but may be on its way.
        self.sent = max(int(sent[1]) - int(PATIENCE / self._interval), max(self._replies, default=0))

    @property
    def lost(self) -> int:
        return self.sent - len(self._replies)

    @property
    def last(self) -> float:
        """When the last answer came, in seconds since the epoch."""
        return max(self._replies.values())

    @property
    def outage(self) -> float:
        """The longest time between two answers, in seconds."""
        times = sorted(self._replies.values())
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=float("inf"))

    @property
    def gaps(self) -> list[str]:
        """After which moments pings were lost, for whoever reads a journal beside it."""
        received = sorted(self._replies.items())
        return [
            f"{later - earlier - 1} after {datetime.fromtimestamp(at, timezone.utc):%H:%M:%S.%f}"
            for (earlier, at), (later, _) in itertools.pairwise(received)
            if later - earlier > 1
        ]

    def __str__(self) -> str:
        gaps = f" ({', '.join(self.gaps[:5])})" if self.gaps else ""
        return f"{self.lost} of {self.sent} pings to {self._target} lost{gaps}, longest outage {self.outage:.2f} s"
