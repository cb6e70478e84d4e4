# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Let a probe tunnel recover at once.

After a node was away, WireGuard's own timers (a handshake every 5 s, given up after 90 s, then none until the next
packet) would add seconds to its return. A peer that has just been added has no such past.

But a node under load answers a handshake with a cookie only. WireGuard keeps that for its own next attempt, 5 s later,
and a peer that is added anew has forgotten it. So every now and then it is left alone for long enough.
"""

from __future__ import annotations

from wirefleet.command import run

from .haproxy import Report

PAUSES = (2.0, 2.0, 8.0)  # seconds from one attempt to the next, over and over
ALIVE = 5.0  # seconds after a handshake in which a check is still to notice it
UNANSWERED = frozenset({"L4TOUT", "L4CON", "L6TOUT", "L7TOUT", "SOCKERR"})


def unanswered(report: Report) -> bool:
    """Say whether the tunnel may be at fault: a wrong answer (L7STS, …) came through it, and so did a refusal."""
    failed = report.status.startswith("DOWN") and report.check_status in UNANSWERED
    return failed and not (report.refused or report.maybe_refused)


def renew(interface: str, key: str) -> bool:
    """Remove the peer and add it as it was, in one request to the kernel. False when the interface has no such peer."""
    endpoint = _value(interface, "endpoints", key)
    allowed = _value(interface, "allowed-ips", key)
    if endpoint is None or allowed is None:
        return False
    keepalive = _value(interface, "persistent-keepalive", key) or "off"
    secret = _value(interface, "preshared-keys", key)
    command = ["wg", "set", interface, "peer", key, "remove", "peer", key, "endpoint", endpoint]
    command += ["allowed-ips", allowed.replace(" ", ","), "persistent-keepalive", keepalive]
    run(command if secret is None else [*command, "preshared-key", "/dev/stdin"], stdin=secret)
    return True


def handshake_age(interface: str, key: str, now: float) -> float | None:
    """Return the seconds since the tunnel's latest handshake, None before the first.

    None, too, when it is dated later than now: the clock was set back, and who knows since when.
    """
    value = int(_value(interface, "latest-handshakes", key) or 0)
    return now - value if 0 < value <= now else None


def _value(interface: str, field: str, key: str) -> str | None:
    """Return the peer's value of one field of ``wg show``; None when there is no such peer, or no such value."""
    for line in run(["wg", "show", interface, field]).splitlines():
        peer, _tab, value = line.partition("\t")
        if peer == key:
            return None if value == "(none)" else value
    return None
