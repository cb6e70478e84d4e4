# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way a client takes, and what its network does to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from testinfra.host import Host

from .hosts import until

# What its network does to a client.
NO_UDP = """\
table inet network {
  chain output { type filter hook output priority 300; oifname "public" udp dport 51820 drop; }
  chain input { type filter hook input priority -300; iifname "public" udp sport 51820 drop; }
}
"""


def path(host: Host) -> dict[str, Any]:
    """What the client's watcher says."""
    answer: dict[str, Any] = json.loads(host.run_expect([0, 1], "wirefleet-client status").stdout)
    return answer


def comes_by(host: Host, wanted: str, seconds: float) -> float:
    """Wait until the tunnel takes that path, and is alive there; return how many seconds that took."""

    def there() -> bool:
        seen = path(host)
        return bool(seen["path"] == wanted and seen["handshake_age"] is not None and seen["handshake_age"] < 60)

    return until(f"the client comes by {wanted}", seconds, there)


@contextmanager
def without_udp(host: Host) -> Iterator[None]:
    host.check_output("echo %s | nft --file -", NO_UDP)
    try:
        yield
    finally:
        host.check_output("nft delete table inet network")
