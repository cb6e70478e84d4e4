# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wirefleet_steer.decide import NodeState, Standing, State, changes, collapsed_at, decide, read
from wirefleet_steer.haproxy import Report

UP, DRAINING, DOWN = Standing.UP, Standing.DRAINING, Standing.DOWN
WINDOW, RETURN = 10.0, 3.0

PASSING = Report("UP", 1, "L7OK")
FAILING = Report("DOWN", 1, "L4TOUT")
MAINT = Report("MAINT", 1)
DRAIN = Report("DRAIN", 1, "L7OK")
UNCHECKED = Report("UP 1/2", 1, "INI")


def start(**standings: Standing) -> State:
    return State({name: NodeState(standing) for name, standing in standings.items()})


def play(state: State, *rounds: tuple[float, dict[str, Report]]) -> State:
    """Apply (time, reports) one after the other."""
    for now, reports in rounds:
        state = decide(state, reports, now, WINDOW, RETURN)
    return state


def standings(state: State) -> dict[str, Standing]:
    return {name: state.standing(name) for name in state.nodes}


# HAProxy 2.6 shows each of these; "now" is the node's standing before.
@pytest.mark.parametrize(
    ("status", "check", "weight", "now", "expected"),
    [
        ("UP", "L7OK", 1, DOWN, UP),
        ("UP", "L4OK", 1, DOWN, UP),
        ("UP", "L7OK", 0, UP, DRAINING),
        ("UP", "L7OK", 0, DOWN, DRAINING),
        ("UP 1/2", "INI", 1, DOWN, None),  # HAProxy has just started
        ("UP 1/2", "INI", 1, UP, None),
        ("UP", "INI", 1, DOWN, None),  # the same with "fall 1"
        ("UP 1/2", "L7OK", 1, DOWN, None),  # just set ready: the check that passed is one of long ago
        ("UP 1/2", "L7STS", 1, UP, UP),  # a check has failed, one more is needed
        ("UP 1/2", "L7STS", 0, UP, DRAINING),
        ("UP 1/2", "L7STS", 1, DRAINING, None),
        ("no check", "", 1, DOWN, UP),
        ("no check", "", 0, DOWN, DRAINING),
        ("DOWN", "L4CON", 1, UP, DOWN),
        ("DOWN 1/2", "L7OK", 1, DOWN, DOWN),
        ("DOWN (agent)", "L7OK", 1, UP, DOWN),
        ("DOWN", "", 1, UP, DOWN),
        ("DOWN 1/2", "L7OK", 1, DRAINING, DRAINING),  # its agent is coming back
        ("NOLB", "L7OKC", 1, UP, DRAINING),
        ("NOLB 1/2", "L7STS", 1, DRAINING, DRAINING),
        ("DRAIN", "L7OK", 1, UP, DRAINING),
        ("MAINT", "", 1, UP, DOWN),
        ("MAINT (via vpn_back/n1)", "", 1, UP, DOWN),
        ("MAINT (resolution)", "", 1, UP, DOWN),
        ("something new", "L7OK", 1, UP, None),
    ],
)
def test_reading_a_report(status: str, check: str, weight: int, now: Standing, expected: Standing | None) -> None:
    assert read(Report(status, weight, check), now) is expected


REFUSED = Report(
    "DOWN", 1, "L4CON", "Layer4 connection problem: Connection refused at initial connection step of tcp-check"
)


@pytest.mark.parametrize(("now", "expected"), [(UP, DRAINING), (DRAINING, DRAINING), (DOWN, DOWN)])
def test_a_node_whose_agent_alone_is_away_keeps_its_sessions(now: Standing, expected: Standing) -> None:
    assert read(REFUSED, now) is expected
    assert read(Report("DOWN", 1, "L4CON", "Layer4 connection problem: No route to host"), now) is DOWN


def test_an_agent_that_just_came_back_is_no_other_failure() -> None:
    """HAProxy has forgotten why the last check failed while the first one goes on that finds the agent."""
    asking = Report("DOWN", 1, "L4CON", "Layer4 connection problem", under_way=True)
    assert [read(asking, now) for now in (UP, DRAINING, DOWN)] == [None, None, DOWN]
    state = play(start(n1=UP, n2=UP), (1, {"n1": REFUSED, "n2": PASSING}), (2, {"n1": asking, "n2": PASSING}))
    assert state.standing("n1") is DRAINING
    assert play(state, (3, {"n1": FAILING, "n2": PASSING})).standing("n1") is DOWN


def test_an_agent_that_comes_and_goes() -> None:
    state = play(start(n1=UP, n2=UP), (1, {"n1": REFUSED, "n2": PASSING}), (2, {"n1": REFUSED, "n2": PASSING}))
    assert (state.standing("n1"), state.nodes["n1"].lost_at) == (DRAINING, 1)
    assert play(state, (3, {"n1": FAILING, "n2": PASSING})).standing("n1") is DOWN
    back = play(state, (3, {"n1": Report("DOWN 1/2", 1, "L7OK")}), (4, {"n1": PASSING}))
    assert (back.standing("n1"), back.nodes["n1"].lost_at) == (UP, None)


def test_the_agents_of_all_nodes_going_away_is_a_collapse_too() -> None:
    state = play(start(n1=UP, n2=UP), (1, {"n1": REFUSED, "n2": PASSING}), (2, {"n1": REFUSED, "n2": REFUSED}))
    assert standings(state) == {"n1": UP, "n2": UP}


def test_a_node_nothing_is_known_about_keeps_what_the_kernel_has() -> None:
    before = start(n1=UP, n2=DRAINING, n3=DOWN)
    assert decide(before, dict.fromkeys(before.nodes, UNCHECKED), 1, WINDOW, RETURN) == before
    assert decide(before, {}, 1, WINDOW, RETURN) == before


def test_a_lost_node_is_down_while_another_is_up() -> None:
    state = play(start(n1=UP, n2=UP), (1, {"n1": FAILING, "n2": PASSING}))
    assert standings(state) == {"n1": DOWN, "n2": UP}
    assert state.held == frozenset()


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        pytest.param([(1, {"n1": FAILING, "n2": FAILING})], {"n1": UP, "n2": UP}, id="both at once"),
        pytest.param(
            [(1, {"n1": FAILING, "n2": PASSING}), (10, {"n1": FAILING, "n2": FAILING})],
            {"n1": UP, "n2": UP},
            id="one by one",
        ),
        pytest.param(
            [(1, {"n1": FAILING, "n2": PASSING}), (12, {"n1": FAILING, "n2": FAILING})],
            {"n1": DOWN, "n2": UP},
            id="the first has been dead for longer",
        ),
        pytest.param(
            [(1, {"n1": FAILING, "n2": PASSING}), (2, {"n1": FAILING, "n2": MAINT})],
            {"n1": DOWN, "n2": DOWN},
            id="an operator takes the last one",
        ),
        pytest.param(
            [(1, {"n1": FAILING, "n2": PASSING}), (2, {"n1": FAILING, "n2": DRAIN})],
            {"n1": DOWN, "n2": DRAINING},
            id="an operator drains the last one",
        ),
        pytest.param(
            [(1, {"n1": PASSING, "n2": DRAIN}), (2, {"n1": FAILING, "n2": DRAIN})],
            {"n1": UP, "n2": DRAINING},
            id="checks take the only one that is not drained",
        ),
        pytest.param(
            [(1, {"n1": PASSING, "n2": DRAIN}), (2, {"n1": FAILING, "n2": FAILING})],
            {"n1": UP, "n2": DRAINING},
            id="a drained one is held as drained",
        ),
        pytest.param(
            [(1, {"n1": FAILING, "n2": FAILING}), (100, {"n1": FAILING, "n2": FAILING})],
            {"n1": UP, "n2": UP},
            id="for as long as it lasts",
        ),
        pytest.param(
            [(1, {"n1": FAILING, "n2": FAILING}), (2, {"n1": UNCHECKED, "n2": UNCHECKED})],
            {"n1": UP, "n2": UP},
            id="HAProxy starts again meanwhile",
        ),
        pytest.param(
            [(1, {"n1": FAILING, "n2": FAILING}), (2, {"n1": FAILING, "n2": PASSING})],
            {"n1": UP, "n2": UP},
            id="the other may follow the first that is up",
        ),
        pytest.param(
            [
                (1, {"n1": FAILING, "n2": FAILING}),
                (2, {"n1": FAILING, "n2": PASSING}),
                (2 + RETURN, {"n1": FAILING, "n2": PASSING}),
            ],
            {"n1": DOWN, "n2": UP},
            id="but not for long",
        ),
        pytest.param(
            [
                (1, {"n1": FAILING, "n2": FAILING}),
                (2, {"n1": FAILING, "n2": PASSING}),
                (4, {"n1": FAILING, "n2": FAILING}),
                (2 + RETURN, {"n1": FAILING, "n2": PASSING}),
            ],
            {"n1": UP, "n2": UP},
            id="and anew when that one fails again",
        ),
        pytest.param(
            [(1, {"n1": FAILING, "n2": FAILING}), (2, {"n1": MAINT, "n2": FAILING})],
            {"n1": DOWN, "n2": UP},
            id="an operator's word counts",
        ),
        pytest.param(
            [
                (1, {"n1": FAILING, "n2": FAILING}),
                (2, {"n1": MAINT, "n2": FAILING}),
                (3, {"n1": FAILING, "n2": FAILING}),
            ],
            {"n1": DOWN, "n2": UP},
            id="and is not taken back by a failing check",
        ),
    ],
)
def test_fail_static(rounds: list[tuple[float, dict[str, Report]]], expected: dict[str, Standing]) -> None:
    state = play(start(n1=UP, n2=UP), *rounds)
    assert standings(state) == expected
    assert state.held == {name for name in expected if expected[name] is not state.nodes[name].standing}


def test_nodes_that_never_were_up_are_not_held() -> None:
    state = play(start(n1=DOWN, n2=DOWN), (1, {"n1": FAILING, "n2": FAILING}))
    assert standings(state) == {"n1": DOWN, "n2": DOWN}
    assert not state.held


def test_weights_follow_and_only_accepting_nodes_have_one() -> None:
    state = play(start(n1=UP, n2=UP), (1, {"n1": Report("UP", 30, "L7OK"), "n2": Report("DRAIN", 7, "L7OK")}))
    assert (state.weight("n1"), state.weight("n2")) == (30, 0)


def test_a_held_node_keeps_its_weight() -> None:
    state = play(start(n1=UP), (1, {"n1": Report("UP", 30, "L7OK")}), (2, {"n1": Report("DOWN", 30, "L4TOUT")}))
    assert (state.standing("n1"), state.weight("n1")) == (UP, 30)


def test_a_weight_is_known_before_the_first_check() -> None:
    state = play(start(n1=UP), (1, {"n1": Report("UP 1/2", 40, "INI")}))
    assert (state.standing("n1"), state.weight("n1")) == (UP, 40)


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        pytest.param([(1, {"n1": FAILING, "n2": PASSING})], None, id="one is up"),
        pytest.param([(1, {"n1": MAINT, "n2": MAINT})], None, id="taken away by an operator"),
        pytest.param([(1, {"n1": FAILING}), (2, {"n2": FAILING}), (9, {"n2": FAILING})], 2, id="the last one's loss"),
        pytest.param([(1, {"n1": FAILING, "n2": FAILING}), (2, {"n1": PASSING})], None, id="others may still follow"),
        pytest.param(
            [(1, {"n1": FAILING, "n2": FAILING}), (2, {"n1": PASSING}), (3, {"n1": FAILING})], 3, id="and once more"
        ),
    ],
)
def test_the_collapse_is_dated(rounds: list[tuple[float, dict[str, Report]]], expected: float | None) -> None:
    assert collapsed_at(play(start(n1=UP, n2=UP), *rounds)) == expected


def test_changes_are_those_of_the_kernel() -> None:
    """A held node changes in HAProxy's eyes only."""
    before = start(n1=UP, n2=UP)
    one = play(before, (1, {"n1": FAILING, "n2": PASSING}))
    all_down = play(one, (2, {"n1": FAILING, "n2": FAILING}))
    assert list(changes(before, one)) == [("n1", UP, DOWN)]
    assert list(changes(one, all_down)) == [("n1", DOWN, UP)]


REPORTS = st.sampled_from(
    [PASSING, FAILING, MAINT, DRAIN, UNCHECKED, Report("NOLB", 1, "L7OKC"), Report("UP", 0, "L7OK")]
)
ROUNDS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("n1", "n2", "n3"), REPORTS)), max_size=30)


@given(ROUNDS)
def test_what_always_holds(rounds: list[dict[str, Report]]) -> None:
    state = start(n1=UP, n2=DOWN, n3=DRAINING)
    for now, reports in enumerate(rounds, 1):
        previous, state = state, decide(state, reports, now, WINDOW, RETURN)
        assert state.nodes.keys() == previous.nodes.keys()
        for name, report in reports.items():
            if report is MAINT:
                assert state.standing(name) is DOWN, "an operator's maintenance is final"
            if report is PASSING:
                assert state.standing(name) is UP
            if report is FAILING and name not in state.held:
                assert state.standing(name) is DOWN
        if any(node.standing is UP for node in state.nodes.values()):
            assert not state.held or now - state.relieved_at < RETURN, "with a node up, nobody is held for long"
        for name in state.held:
            assert state.nodes[name].standing is DOWN
            assert state.standing(name) is not DOWN
        assert decide(state, reports, now + 0.25, WINDOW, RETURN) == state, "the same report twice changes nothing"
