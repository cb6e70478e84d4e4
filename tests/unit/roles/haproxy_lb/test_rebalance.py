# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wirefleet_steer.adoption import Roster, Session
from wirefleet_steer.rebalance import CREDIT_TIME, END, PATIENCE, Rebalance

SETTLED = 1000.0
EVEN = {"ip": {"n1": 1, "n2": 1, "n3": 1}, "ip6": {"n1": 1, "n2": 1, "n3": 1}}
AT_ONCE = 60 * 10_000.0  # clients per minute


class Scene:
    """Clients at nodes, and time, which begins with the pace's full credit."""

    def __init__(self, pace: float = AT_ONCE, **counts: int) -> None:
        self.roster = Roster()
        self.now = 0.0
        self.rebalance = Rebalance(pace)
        for node, count in counts.items():
            sessions = {f"{node}/{number}": at(100 + number) for number in range(count)}
            self.roster.update(node, sessions, whole=True)
        self.rebalance.plan([], {}, SETTLED, self.now)
        self.now += 3600

    def plan(self, weights: dict[str, dict[str, int]] = EVEN) -> list[tuple[str, str, str]]:
        """Return client, origin and target of the next moves."""
        moves = self.rebalance.plan(self.roster.clients(), weights, SETTLED, self.now)
        return [(move.key, move.origin, move.target) for move in moves]

    def arrive(self, moves: list[tuple[str, str, str]]) -> None:
        for key, _, target in moves:
            self.roster.update(target, {key: at(2000)}, whole=False)

    def settle(self, seconds: float = 0.0) -> list[str]:
        """Return who did not arrive."""
        self.now += seconds
        seen = dict.fromkeys(("n1", "n2", "n3"), self.now)
        return [move.key for move in self.rebalance.settle(self.roster, seen)]

    def counts(self) -> Counter[str]:
        return Counter(node for _, node, _ in self.roster.clients())


def at(handshake: int, version: int = 4) -> Session:
    return Session("198.51.100.1:1" if version == 4 else "[2001:db8::1]:1", handshake)


def test_a_node_that_came_back_gets_its_share() -> None:
    scene = Scene(n1=45, n2=45, n3=0)
    moves = scene.plan()
    assert {target for _, _, target in moves} == {"n3"}
    scene.arrive(moves)
    assert scene.settle() == []
    assert all(count in range(28, 33) for count in scene.counts().values())
    assert scene.plan() == []
    assert not scene.rebalance.active
    assert scene.rebalance.totals == {"moved": len(moves)}


def test_shares_follow_the_weights() -> None:
    scene = Scene(n1=100, n2=100)
    scene.arrive(scene.plan({"ip": {"n1": 1, "n2": 3}}))
    assert scene.counts()["n1"] == pytest.approx(50, abs=3)


def test_those_move_first_that_had_their_handshake_longest_ago() -> None:
    keys = [key for key, _, _ in Scene(n1=9, n2=0).plan({"ip": {"n1": 1, "n2": 1}})]
    assert keys == ["n1/0", "n1/1", "n1/2", "n1/3"]


def test_who_comes_over_tcp_counts_and_stays() -> None:
    scene = Scene(n1=10, n2=0)
    sessions = {f"tcp/{number}": Session("127.0.0.1:40000", number) for number in range(20)}
    scene.roster.update("n1", sessions, whole=False)
    moves = scene.plan({"ip": {"n1": 1, "n2": 1}})
    assert {key.partition("/")[0] for key, _, _ in moves} == {"n1"}
    assert len(moves) == 10


def test_who_has_just_come_stays() -> None:
    scene = Scene(n1=0)
    scene.roster.update("n1", {str(number): at(int(SETTLED) + number) for number in range(30)}, whole=True)
    assert scene.plan() == []


@pytest.mark.parametrize(
    ("counts", "moves"),
    [
        ({"n1": 2, "n2": 0, "n3": 0}, 0),  # two or fewer are not worth it
        ({"n1": 5, "n2": 3, "n3": 4}, 0),
        ({"n1": 109, "n2": 91, "n3": 100}, 0),  # within a tenth
        ({"n1": 112, "n2": 88, "n3": 100}, 7),  # and then until within a twentieth
        ({"n1": 6, "n2": 0, "n3": 0}, 3),
    ],
)
def test_only_who_is_far_off_is_brought_close(counts: dict[str, int], moves: int) -> None:
    assert len(Scene(**counts).plan()) == moves


def test_the_pace_is_kept_and_what_was_not_used_is_lost() -> None:
    scene = Scene(pace=60, n1=300, n2=0, n3=0)
    assert len(scene.plan()) == CREDIT_TIME, "however long nothing had to be done"
    assert scene.plan() == []
    moved = 0
    for _ in range(12):
        scene.now += 5
        moves = scene.plan()
        moved += len(moves)
        scene.arrive(moves)
        scene.settle()
    assert moved == 60


def test_a_slow_pace_is_one_now_and_then() -> None:
    scene = Scene(pace=2, n1=30, n2=0, n3=0)
    moved = []
    for _ in range(24):  # two minutes
        scene.now += 5
        moved.append(len(scene.plan()))
    assert sum(moved) in (4, 5), "with the first at once"
    assert max(moved) == 1


def test_who_is_on_the_way_counts_where_it_goes() -> None:
    scene = Scene(n1=30, n2=0, n3=0)
    assert len(scene.plan()) == 19
    assert scene.plan() == []
    assert scene.rebalance.active, "until they have arrived"


def test_who_does_not_arrive_stays_and_is_left_alone_until_something_changes() -> None:
    scene = Scene(n1=30, n2=0, n3=0)
    keys = [key for key, _, _ in scene.plan()]
    assert scene.settle(PATIENCE - 0.1) == []
    assert scene.settle(0.1) == keys
    assert scene.rebalance.totals == {"stayed": len(keys)}
    later = scene.plan()
    assert not {key for key, _, _ in later} & set(keys)
    scene.roster.update("n1", {key: at(900) for key in keys}, whole=False)
    scene.settle(PATIENCE)
    assert {key for key, _, _ in scene.plan()} & set(keys)


def test_who_was_not_looked_for_may_have_arrived() -> None:
    scene = Scene(n1=30, n2=0, n3=0)
    scene.plan()
    too_early = scene.now + PATIENCE - 1
    assert scene.rebalance.settle(scene.roster, {}) == []
    assert scene.rebalance.settle(scene.roster, {"n2": too_early, "n3": too_early}) == []


def test_who_went_elsewhere_by_itself_has_moved_too() -> None:
    scene = Scene(n1=30, n2=0, n3=0)
    ((key, _, target), *_) = scene.plan()
    other = {"n2": "n3", "n3": "n2"}[target]
    scene.roster.update(other, {key: at(2000)}, whole=False)
    scene.settle()
    assert scene.rebalance.totals == {"moved": 1}


@pytest.mark.parametrize("weights", [{"n1": 1}, {"n1": 1, "n2": 0}, {}], ids=["alone", "the other drains", "nobody"])
def test_with_nobody_else_nobody_moves(weights: dict[str, int]) -> None:
    assert Scene(n1=50, n2=10).plan({"ip": weights}) == []


def test_each_family_has_nodes_of_its_own() -> None:
    scene = Scene(n1=0)
    scene.roster.update("n1", {f"4-{n}": at(n + 1) for n in range(8)}, whole=False)
    scene.roster.update("n1", {f"6-{n}": at(n + 1, 6) for n in range(8)}, whole=False)
    moves = scene.plan({"ip": {"n1": 1, "n2": 1}, "ip6": {"n1": 1, "n3": 1}})
    assert {(key[0], target) for key, _, target in moves} == {("4", "n2"), ("6", "n3")}


@given(
    st.dictionaries(st.sampled_from(["n1", "n2", "n3"]), st.integers(0, 60), min_size=1),
    st.fixed_dictionaries({"n1": st.integers(0, 5), "n2": st.integers(0, 5), "n3": st.integers(1, 5)}),
)
def test_it_always_ends_with_all_close_to_their_shares(counts: dict[str, int], weights: dict[str, int]) -> None:
    scene = Scene(**counts)
    scene.rebalance.active = True  # however small the difference
    moves = scene.plan({"ip": weights})
    assert len({key for key, _, _ in moves}) == len(moves), "nobody moves twice"
    scene.arrive(moves)
    scene.settle()
    accepting = {node: weight for node, weight in weights.items() if weight}
    after = {node: scene.counts()[node] for node in accepting}
    for node, weight in accepting.items():
        share = sum(after.values()) * weight / sum(accepting.values())
        assert not END.exceeded(after[node] - share, share)
