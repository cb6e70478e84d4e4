# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wirefleet_node.health import CheckResult, Drain, Observation, Verdict, judge
from wirefleet_node.settings import Config

Configure = Callable[..., Config]

FIT = Observation("up", True, {"net/ipv4/ip_forward": "1"}, checks={"dns": CheckResult(True)})
DRAIN = Drain("alice", "2026-11-22T10:00:00+00:00", "new kernel")


def test_fit(configure: Configure) -> None:
    assert judge(configure(), FIT) == Verdict("ok", ())


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (replace(FIT, link="missing"), "interface wg0: missing"),
        (replace(FIT, link="down"), "interface wg0: down"),
        (replace(FIT, listening=False), "interface wg0: nothing listens on UDP port 51820"),
        (replace(FIT, sysctls={"net/ipv4/ip_forward": "0"}), "sysctl net/ipv4/ip_forward: is 0, wanted 1"),
        (replace(FIT, sysctls={}), "sysctl net/ipv4/ip_forward: missing, wanted 1"),
        (replace(FIT, lost=("nftables table inet x",)), "nftables table inet x: missing"),
        (replace(FIT, errors=("ip: timeout",)), "ip: timeout"),
        (replace(FIT, checks={"dns": CheckResult(False, "exit 1")}), "check dns: exit 1"),
        (replace(FIT, checks={}), "check dns: no result yet"),
    ],
)
@pytest.mark.parametrize("drain", [None, DRAIN])
def test_a_fault_fails_even_a_drained_node(
    configure: Configure, seen: Observation, reason: str, drain: Drain | None
) -> None:
    assert judge(configure(), replace(seen, drain=drain)) == Verdict("failed", (reason,), drain)


def test_drained_says_who_and_why(configure: Configure) -> None:
    verdict = judge(configure(), replace(FIT, drain=DRAIN))
    reason = "drained by alice since 2026-11-22T10:00:00+00:00: new kernel"
    assert verdict == Verdict("drained", (reason,), DRAIN)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    link=st.sampled_from(["up", "down", "missing"]),
    listening=st.booleans(),
    forward=st.sampled_from([None, "0", "1"]),
    lost=st.lists(st.text(), max_size=2),
    passed=st.none() | st.booleans(),
    drain=st.sampled_from([None, DRAIN]),
)
def test_ok_means_that_nothing_at_all_is_wrong(
    configure: Configure,
    link: str,
    listening: bool,
    forward: str | None,
    lost: list[str],
    passed: bool | None,
    drain: Drain | None,
) -> None:
    checks = {} if passed is None else {"dns": CheckResult(passed, "exit 1")}
    seen = Observation(link, listening, {"net/ipv4/ip_forward": forward}, tuple(lost), checks=checks, drain=drain)
    verdict = judge(configure(), seen)
    fit = (link, listening, forward, lost, passed) == ("up", True, "1", [], True)
    assert verdict.state == ("failed" if not fit else "drained" if drain else "ok")
    assert bool(verdict.reasons) == (verdict.state != "ok")
