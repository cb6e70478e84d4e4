# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""HAProxy's words go through ``decide``, as in the daemon; the clock is a number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wirefleet_steer.config import Damping
from wirefleet_steer.damping import Damper
from wirefleet_steer.decide import NodeState, Standing, State, decide
from wirefleet_steer.haproxy import Report

UP, DRAINING, DOWN = Standing.UP, Standing.DRAINING, Standing.DOWN
POLICY = Damping(downs=3, window=600, hold=60, max_hold=200)

PASSING = Report("UP", 1, "L7OK")
FAILING = Report("DOWN", 1, "L4TOUT")
REFUSED = Report("DOWN", 1, "L4CON", "Layer4 connection problem: Connection refused")
NOLB = Report("NOLB", 1, "L7OKC")
MAINT = Report("MAINT", 1)


class Scene:
    """Three nodes, all up; ``n1`` is the one that flaps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.damper = Damper(POLICY)
        self.state = State(dict.fromkeys(("n1", "n2", "n3"), NodeState(UP)))
        self.reports = dict.fromkeys(("n1", "n2", "n3"), PASSING)

    def pass_time(self, seconds: float, **reports: Report) -> Standing:
        """Let HAProxy say something, after ``seconds``; return what n1 may do then."""
        self.now += seconds
        self.reports.update(reports)
        self.state = self.damper.damp(decide(self.state, self.reports, self.now, 10, 3), self.now)
        return self.state.standing("n1")

    def flap(self, name: str = "n1", seconds: float = 1.0, then: Report = PASSING) -> Standing:
        self.pass_time(seconds, **{name: FAILING})
        return self.pass_time(1, **{name: then})


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def damped(scene: Scene) -> Scene:
    assert [scene.flap() for _ in range(3)] == [UP, UP, DRAINING]
    return scene


def test_after_too_many_downs_a_node_waits(damped: Scene) -> None:
    assert damped.damper.remaining(damped.now) == {"n1": 60}
    assert damped.pass_time(59.9) is DRAINING
    assert damped.damper.remaining(damped.now) == {"n1": pytest.approx(0.1)}
    assert damped.pass_time(0.1) is UP
    assert damped.damper.remaining(damped.now) == {}


def test_downs_that_are_far_apart_do_not_count(scene: Scene) -> None:
    assert [scene.flap(seconds=400) for _ in range(5)] == [UP] * 5


@pytest.mark.parametrize("pause", [1, 300])
def test_the_wait_doubles_up_to_a_bound(damped: Scene, pause: float) -> None:
    waits = []
    for _ in range(3):
        assert damped.flap(seconds=pause) is DRAINING, "in the middle of a wait, or after it"
        waits.append(damped.damper.remaining(damped.now)["n1"])
    assert waits == [120, 200, 200]


def test_a_node_that_stays_alive_for_long_is_as_good_as_new(damped: Scene) -> None:
    damped.pass_time(60)
    assert [damped.flap(seconds=601), damped.flap(), damped.flap()] == [UP, UP, DRAINING]
    assert damped.damper.remaining(damped.now) == {"n1": 60}


@pytest.mark.parametrize("report", [REFUSED, NOLB, MAINT, Report("UP", 0, "L7OK")])
def test_only_a_death_counts(scene: Scene, report: Report) -> None:
    for _ in range(5):
        scene.pass_time(1, n1=report)
        assert scene.pass_time(1, n1=PASSING) is UP


def test_the_end_of_a_drained_node_costs_nobody_anything(scene: Scene) -> None:
    for _ in range(5):
        scene.pass_time(1, n1=NOLB)
        scene.flap(then=NOLB)
        assert scene.pass_time(1, n1=PASSING) is UP


def test_a_node_that_returns_as_draining_waits_all_the_same(scene: Scene) -> None:
    for _ in range(3):
        scene.flap(then=NOLB)
        scene.pass_time(1, n1=PASSING)
    assert scene.state.standing("n1") is DRAINING
    assert scene.state.weight("n1") == 0


def test_an_operator_ends_it(damped: Scene) -> None:
    assert damped.pass_time(1, n1=MAINT) is DOWN
    assert damped.pass_time(1, n1=PASSING) is UP
    assert damped.flap() is UP, "and what was is forgotten"


def test_a_node_that_is_needed_does_not_wait(damped: Scene) -> None:
    damped.pass_time(1, n2=FAILING)
    assert damped.pass_time(1, n3=FAILING) is UP
    assert damped.state.held == frozenset()
    assert damped.pass_time(1, n2=PASSING, n3=PASSING) is UP, "nor does it lose again whom it got meanwhile"
    damped.flap()
    assert damped.damper.remaining(damped.now) == {"n1": 120}


def test_a_common_fault_is_not_held_against_anybody(scene: Scene) -> None:
    for _ in range(4):
        for name in ("n1", "n2", "n3"):
            scene.pass_time(1, **{name: FAILING})
        assert scene.state.held == {"n1", "n2", "n3"}
        for name in ("n3", "n2", "n1"):
            scene.pass_time(1, **{name: PASSING})
        assert scene.state.damped == frozenset()


def test_while_all_checks_fail_a_node_that_waits_stays_what_it_was(damped: Scene) -> None:
    damped.pass_time(1, n1=FAILING, n2=FAILING, n3=FAILING)
    assert [damped.state.standing(name) for name in ("n1", "n2", "n3")] == [DRAINING, UP, UP]


REPORTS = st.sampled_from([PASSING, FAILING, REFUSED, NOLB, MAINT])
ROUNDS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("n1", "n2", "n3"), REPORTS)), max_size=60)


@given(ROUNDS)
def test_what_always_holds(rounds: list[dict[str, Report]]) -> None:
    scene = Scene()
    for reports in rounds:
        scene.pass_time(1, **reports)
        plain = replace(scene.state, damped=frozenset())
        for name in scene.state.nodes:
            if name not in scene.state.damped:
                assert scene.state.standing(name) is plain.standing(name)
        if any(plain.standing(name) is UP for name in plain.nodes):
            assert any(scene.state.standing(name) is UP for name in plain.nodes), "somebody accepts clients"
        assert all(0 < seconds <= POLICY.max_hold for seconds in scene.damper.remaining(scene.now).values())
        assert scene.damper.damp(scene.state, scene.now) == scene.state, "the same state twice changes nothing"
