# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import pytest
from wirefleet import sysctl
from wirefleet.command import run

FORWARD = "net/ipv4/ip_forward"


@pytest.mark.root
@pytest.mark.parametrize("value", ["0", "1"])
def test_what_the_kernel_has(network: None, value: str) -> None:
    run(["sysctl", "-q", "-w", f"{FORWARD}={value}"])
    assert sysctl.values([FORWARD, "net/no/such"]) == {FORWARD: value, "net/no/such": None}


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        ({FORWARD: "1", "net/other": "7"}, []),
        ({FORWARD: "0"}, ["sysctl net/ipv4/ip_forward: is 0, wanted 1"]),
        ({FORWARD: None}, ["sysctl net/ipv4/ip_forward: missing, wanted 1"]),
        ({}, ["sysctl net/ipv4/ip_forward: missing, wanted 1"]),
    ],
)
def test_what_is_otherwise(found: dict[str, str | None], faults: list[str]) -> None:
    assert list(sysctl.faults({FORWARD: "1"}, found)) == faults
