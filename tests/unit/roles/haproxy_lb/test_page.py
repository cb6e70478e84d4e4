# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The status page: what it says, that it needs nothing else, and how Chromium draws it (build/screenshots)."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from wirefleet.log import Event
from wirefleet_steer.page import ACTIVE, STANDBY, UNREACHABLE, Balancer, View, render
from wirefleet_steer.status import Row

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests"))
from traffic.monitor import photograph

PASSED = "Layer7 check passed: OK"


def row(node: str, kernel: str = "up", reason: str = PASSED, **changes: object) -> Row:
    fine = Row(node, "UP", kernel, 100, 341, 120, 118, 93784, reason)
    return replace(fine, **changes)  # type: ignore[arg-type]


def view(*nodes: Row, balancers: Mapping[str, str] = {"lb1": ACTIVE, "lb2": STANDBY}) -> View:
    return View(
        cluster="default",
        host="lb1",
        at=1795392000.0,
        nodes=nodes,
        advice={node.node: f"what to do about {node.node}" for node in nodes},
        balancers=[Balancer(name, role) for name, role in balancers.items()],
        history={node.node: [100 + 9 * (i % 5) for i in range(150)] + [node.clients or 0] * 30 for node in nodes},
        interval=10.0,
        events=[Event(1795391000.0 + i, "node", {"node": "n2", "state": "up", "reason": PASSED}) for i in range(30)],
        stats_url="http://127.0.0.1:8404/",
    )


HEALTHY = view(row("n1"), row("n2"), row("n3"))
DRAINING = view(row("n1", "draining", "Not Found", haproxy="NOLB", weight=100, clients=3), row("n2"), row("n3"))
FAILED = view(
    row("n1"),
    row("n2", "down", "Layer4 timeout", haproxy="DOWN", clients=0, sessions=0, since=42),
    row("n3", "down", "Layer4 connection problem: No route to host at step 1 of http-check", haproxy="DOWN", clients=0),
    balancers={"lb1": ACTIVE, "lb2": UNREACHABLE},
)


@pytest.mark.parametrize(
    ("shown", "mood", "summary"),
    [
        (HEALTHY, "up", "All 3 nodes take clients"),
        (view(row("n1")), "up", "The node takes clients"),
        (DRAINING, "draining", "2 of 3 nodes take clients"),
        (view(row("n1", "draining (damped)")), "down", "0 of 1 nodes take clients"),
        (view(row("n1", "up (held)")), "down", "All nodes fail their checks; the last state is held"),
    ],
)
def test_summary(shown: View, mood: str, summary: str) -> None:
    page = render(shown)
    assert f'<p class="summary {mood}"><i></i>{summary}</p>' in page
    assert f"<title>{summary} - default</title>" in page


def test_what_can_be_done_is_said_of_those_that_are_not_up() -> None:
    page = render(DRAINING)
    assert "what to do about n1" in page
    assert "what to do about n2" not in page


def test_the_latest_events_come_first() -> None:
    times = re.findall(r"<time>([^<]+)", render(HEALTHY))
    assert len(times) == 20
    assert times == sorted(times, reverse=True)


def test_the_line_says_how_far_back_it_goes() -> None:
    assert "Clients of n1 in the last 29 min 50 s: now 118, at most 136" in render(HEALTHY)
    short = replace(HEALTHY, history={"n1": [3, 5, 4]})
    assert "Clients of n1 in the last 20 s: now 4, at most 5" in render(short)


def test_nothing_is_known_yet() -> None:
    shown = replace(HEALTHY, nodes=[row("n1", weight=None, clients=None, since=None)], history={}, events=[])
    page = render(shown)
    assert "<svg" not in page
    assert "<dt>clients" not in page
    assert "None since the daemon started." in page


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59, "59 s"), (3600, "1 h"), (93784, "1 d 2 h")])
def test_durations(seconds: int, text: str) -> None:
    assert f"<dd>{text}</div>" in render(view(row("n1", since=seconds)))


def test_whatever_hosts_say_is_text() -> None:
    evil = '"><script>alert(1)</script>'
    shown = view(row(evil, evil, evil, haproxy=evil), balancers={evil: evil})
    events = [Event(0.0, evil, {evil: evil})]
    page = render(replace(shown, cluster=evil, host=evil, stats_url=evil, events=events))
    assert "<script" not in page


class Outside(HTMLParser):
    """Collects what a page loads from elsewhere, and what is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object"):
            self.loaded.append(tag)
        self.loaded += [name for name, _ in attrs if name in ("src", "srcset", "style", "onload", "onclick")]


def test_it_needs_nothing_from_elsewhere() -> None:
    outside = Outside()
    outside.feed(render(FAILED))
    assert outside.loaded == []
    assert "url(" not in render(FAILED)
    assert "@import" not in render(FAILED)


def size(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    header = picture.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


@pytest.mark.parametrize(
    ("name", "shown", "options"),
    [
        ("page-healthy", HEALTHY, {}),
        ("page-draining-dark", DRAINING, {"dark": True}),
        ("page-failed-phone", FAILED, {"width": 500, "height": 1600}),
    ],
)
def test_chromium_draws_it(name: str, shown: View, options: dict[str, int]) -> None:
    picture = photograph(render(shown), name, **options)  # type: ignore[arg-type]
    assert size(picture)[0] == options.get("width", 1100)
