# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Is this node fit for clients? What was seen, and the verdict on it; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wirefleet import sysctl

from .settings import Config

OK = "ok"
DRAINED = "drained"
FAILED = "failed"


@dataclass(frozen=True)
class CheckResult:
    """How an operator's check ended; ``text`` says why it failed."""

    passed: bool
    text: str = ""


@dataclass(frozen=True)
class Drain:
    """An operator's order to take no more clients."""

    by: str
    since: str  # ISO 8601
    reason: str = ""


@dataclass(frozen=True)
class Observation:
    """The node at one moment."""

    link: str  # "up", "down" or "missing"
    listening: bool  # WireGuard's UDP port is open
    sysctls: Mapping[str, str | None]  # None: no such sysctl
    lost: tuple[str, ...] = ()  # rules, routes and tables that are missing and could not be put back
    errors: tuple[str, ...] = ()  # what could not be looked at
    checks: Mapping[str, CheckResult] | None = None
    drain: Drain | None = None


@dataclass(frozen=True)
class Verdict:
    """``ok``: send clients; ``drained``: keep those it has, send none; ``failed``: it can not carry traffic."""

    state: str
    reasons: tuple[str, ...]
    drain: Drain | None = None


def judge(config: Config, seen: Observation) -> Verdict:
    """A fault outranks a drain: a drained node still carries its clients, a faulty one must lose them."""
    faults = [*_interface_faults(config, seen), *sysctl.faults(config.sysctls, seen.sysctls)]
    faults += [f"{item}: missing" for item in seen.lost]
    faults += [*_check_faults(config, seen), *seen.errors]
    if faults:
        return Verdict(FAILED, tuple(faults), seen.drain)
    if seen.drain:
        why = f": {seen.drain.reason}" if seen.drain.reason else ""
        return Verdict(DRAINED, (f"drained by {seen.drain.by} since {seen.drain.since}{why}",), seen.drain)
    return Verdict(OK, ())


def _interface_faults(config: Config, seen: Observation) -> list[str]:
    if seen.link != "up":
        return [f"interface {config.interface}: {seen.link}"]
    return [] if seen.listening else [f"interface {config.interface}: nothing listens on UDP port {config.port}"]


def _check_faults(config: Config, seen: Observation) -> list[str]:
    """A check that has not ended yet has not passed: a node takes no clients on credit."""
    results = seen.checks or {}
    pending = CheckResult(False, "no result yet")
    ended = ((check.name, results.get(check.name, pending)) for check in config.checks)
    return [f"check {name}: {result.text}" for name, result in ended if not result.passed]
