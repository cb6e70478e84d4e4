# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wirefleet_steer.adoption import (
    ATTEMPTS,
    MAX_BATCH,
    PATIENCE,
    Adoptions,
    Ended,
    Roster,
    Session,
    Shares,
    wrong_clocks,
)

RATE = 100.0
ALWAYS = 0.0
LEFT = Shares({"ip": {"n2": 1, "n3": 1}, "ip6": {"n3": 1}})  # n1 is gone, and n2 has no IPv6
NOBODY = Shares({"ip": {}, "ip6": {}})


def at(handshake: int, port: int = 1) -> Session:
    return Session(f"198.51.100.1:{port}", handshake)


def roster(**nodes: dict[str, Session]) -> Roster:
    made = Roster()
    for node, sessions in nodes.items():
        made.update(node, sessions, whole=True)
    return made


def begun(clients: Roster, shares: Shares = LEFT, now: float = 0) -> Adoptions:
    adoptions = Adoptions(RATE)
    adoptions.begin("n1")
    adoptions.plan("n1", clients, shares, ALWAYS, now)
    return adoptions


def ask(adoptions: Adoptions, now: float) -> dict[str, list[str]]:
    """Ask as the daemon does, and let every target begin; return target -> clients."""
    asked = {target: [move.key for move in moves] for target, moves in adoptions.batches(now)}
    for target, keys in asked.items():
        adoptions.asked(target, keys, now)
    return asked


def settle(adoptions: Adoptions, clients: Roster, now: float) -> list[Ended]:
    """With nodes that look at their clients all the time."""
    return adoptions.settle(clients, dict.fromkeys(("n1", "n2", "n3"), now), now)


def test_who_comes_over_tcp_is_not_asked_for() -> None:
    clients = roster(n1={"a": at(10), "b": Session("127.0.0.1:40000", 10), "c": Session("[::1]:40000", 10)})
    adoptions = begun(clients)
    assert [key for _, keys in ask(adoptions, 0).items() for key in keys] == ["a"]
    assert clients.at("n1").keys() == {"a", "b", "c"}, "but the node has it"


class TestRoster:
    @pytest.mark.parametrize(
        ("nodes", "owner"),
        [
            ({"n1": {"c": at(100)}, "n2": {"c": at(200)}}, ("n2", at(200))),
            ({"n1": {"c": at(200, 7)}, "n2": {"c": at(100)}}, ("n1", at(200, 7))),
            ({"n1": {"c": at(100)}, "n2": {"c": at(0)}}, ("n1", at(100))),  # being adopted by n2
            ({"n1": {"c": at(0)}}, None),
            ({"n1": {"other": at(1)}}, None),
        ],
    )
    def test_the_latest_handshake_has_the_client(
        self, nodes: dict[str, dict[str, Session]], owner: tuple[str, Session] | None
    ) -> None:
        known = roster(**nodes)
        assert known.owner("c") == owner
        assert [client for client in known.clients() if client[0] == "c"] == ([("c", *owner)] if owner else [])

    def test_of_two_handshakes_in_one_second_either_may_be_the_later(self) -> None:
        known = roster(n1={"a": at(10), "b": at(9), "c": at(0)}, n2={"a": at(10), "b": at(10)})
        assert known.at("n1") == {"a": at(10)}
        assert known.at("n2") == {"a": at(10), "b": at(10)}
        assert known.at("n3") == {}

    def test_changes_add_to_what_is_known_and_a_whole_list_replaces_it(self) -> None:
        known = roster(n1={"a": at(1), "b": at(1)})
        known.update("n1", {"b": at(2)}, whole=False)
        assert (known.owner("a"), known.owner("b")) == (("n1", at(1)), ("n1", at(2)))
        known.update("n1", {"b": at(3)}, whole=True)
        assert (known.owner("a"), known.owner("b")) == (None, ("n1", at(3)))


class TestShares:
    def test_every_balancer_comes_to_the_same_answer(self) -> None:
        again = Shares({"ip": {"n3": 1, "n2": 1}})
        assert all(LEFT.target(key, "ip") == again.target(key, "ip") for key in map(str, range(100)))

    def test_weights_are_respected(self) -> None:
        shares = Shares({"ip": {"n2": 1, "n3": 3, "n4": 0}})
        got = Counter(shares.target(str(number), "ip") for number in range(4000))
        assert got["n4"] == 0
        assert got["n3"] / got["n2"] == pytest.approx(3, rel=0.2)

    def test_families_have_nodes_of_their_own(self) -> None:
        assert {LEFT.target(str(number), "ip6") for number in range(50)} == {"n3"}
        assert NOBODY.target("c", "ip") is None
        assert Shares({"ip": {"n2": 1}}).target("c", "ip6") is None

    def test_without_one_node_its_clients_go_to_the_others(self) -> None:
        assert {LEFT.without("n2").target(str(number), "ip") for number in range(50)} == {"n3"}
        assert LEFT.without("n3").target("c", "ip6") is None


class TestPlan:
    def test_only_the_clients_of_that_node_leave(self) -> None:
        clients = roster(n1={"a": at(10), "b": at(10)}, n2={"b": at(20)}, n3={"c": at(20)})
        assert [key for keys in ask(begun(clients), 0).values() for key in keys] == ["a"]

    def test_busy_ones_come_first_and_those_long_gone_not_at_all(self) -> None:
        clients = roster(n1={str(n): at(n) for n in (50, 300, 100, 200)})
        adoptions = Adoptions(RATE)
        assert adoptions.plan("n1", clients, Shares({"ip": {"n2": 1}}), 60, 0) == 3
        assert ask(adoptions, 0) == {"n2": ["300", "200", "100"]}

    def test_planned_once_is_enough(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients)
        assert adoptions.plan("n1", clients, LEFT, ALWAYS, 5) == 0

    def test_without_anybody_who_can_adopt_nothing_is_planned_until_there_is_somebody(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients, NOBODY)
        assert settle(adoptions, clients, 0) == []
        assert adoptions.plan("n1", clients, LEFT, ALWAYS, 5) == 1

    def test_a_client_on_its_way_to_a_node_that_goes_too_gets_another_one(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients, Shares({"ip": {"n2": 1}}))
        ask(adoptions, 0)
        assert adoptions.plan("n2", clients, Shares({"ip": {"n3": 1}}), ALWAYS, 1) == 1
        assert ask(adoptions, 1) == {"n3": ["a"]}
        clients.update("n3", {"a": at(12)}, whole=False)
        assert [(ended.origin, dict(ended.results)) for ended in settle(adoptions, clients, 2)] == [
            ("n1", {}),
            ("n2", {"adopted": 1}),
        ]


class TestPace:
    def test_each_target_is_asked_at_the_rate(self) -> None:
        clients = roster(n1={str(n): at(100) for n in range(500)})
        adoptions = begun(clients, Shares({"ip": {"n2": 1}}))
        asked = [(now, len(keys)) for now in range(0, 100) for keys in ask(adoptions, now / 10).values()]
        assert sum(count for _, count in asked) == 500
        assert {count for _, count in asked} == {RATE / 2}
        assert asked[-1][0] / 10 == pytest.approx(500 / RATE, abs=1)

    def test_a_batch_is_what_the_agent_takes(self) -> None:
        adoptions = Adoptions(1e6)
        adoptions.plan("n1", roster(n1={str(n): at(100) for n in range(1000)}), LEFT, ALWAYS, 0)
        assert all(len(moves) <= MAX_BATCH for _, moves in adoptions.batches(0))

    def test_targets_do_not_wait_for_each_other(self) -> None:
        clients = roster(n1={str(n): at(100) for n in range(100)})
        assert set(ask(begun(clients), 0)) == {"n2", "n3"}


class TestEnd:
    def test_adopted(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients, now=5)
        (target,) = ask(adoptions, 5)
        assert adoptions.targets == {target}
        clients.update(target, {"a": at(0)}, whole=False)
        assert settle(adoptions, clients, 5.1) == []
        clients.update(target, {"a": at(11)}, whole=False)
        (ended,) = settle(adoptions, clients, 5.25)
        assert (ended.origin, ended.results, ended.seconds) == ("n1", {"adopted": 1}, 0.25)
        assert adoptions.targets == frozenset()
        assert adoptions.totals == {"adopted": 1}

    def test_an_older_session_of_the_target_is_no_success(self) -> None:
        clients = roster(n1={"a": at(10)}, n2={"a": at(5)}, n3={"a": at(5)})
        adoptions = begun(clients)
        ask(adoptions, 0)
        assert settle(adoptions, clients, 1) == []

    def test_a_client_that_went_elsewhere_by_itself(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients, Shares({"ip": {"n2": 1}}))
        clients.update("n3", {"a": at(11)}, whole=False)
        assert settle(adoptions, clients, 1)[0].results == {"moved": 1}
        assert ask(adoptions, 1) == {}, "nobody disturbs it"

    def test_a_silent_one_is_tried_again_where_it_was_and_then_left_alone(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients)
        targets = []
        for attempt in range(ATTEMPTS):
            now = attempt * PATIENCE
            targets += ask(adoptions, now)
            assert settle(adoptions, clients, now + PATIENCE - 0.1) == []
            ended = settle(adoptions, clients, now + PATIENCE)
        assert len(targets) == ATTEMPTS
        assert len(set(targets)) == 1
        assert [each.results for each in ended] == [{"silent": 1}]
        assert adoptions.plan("n1", clients, LEFT, ALWAYS, 60) == 0
        clients.update("n1", {"a": at(70)}, whole=False)  # it is there, after all
        assert adoptions.plan("n1", clients, LEFT, ALWAYS, 80) == 1

    def test_who_was_not_looked_for_is_not_silent(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients)
        ((target, _),) = ask(adoptions, 0).items()
        stale = {target: PATIENCE - 0.1}
        assert adoptions.settle(clients, stale, 10) == []
        assert ask(adoptions, 10) == {}, "its target may well have it by now"
        assert adoptions.settle(clients, {target: PATIENCE}, 10) == []
        assert ask(adoptions, 10) == {target: ["a"]}

    def test_a_node_that_goes_once_more_is_a_new_chance(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients)
        adoptions.refused(*next((target, keys) for target, keys in ask(adoptions, 0).items()))
        assert settle(adoptions, clients, 0)[0].results == {"refused": 1}
        assert adoptions.plan("n1", clients, LEFT, ALWAYS, 5) == 0
        adoptions.begin("n1")
        assert adoptions.plan("n1", clients, LEFT, ALWAYS, 6) == 1

    def test_a_target_that_can_not_be_asked_is_replaced(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients)
        ((first, _),) = adoptions.batches(0)
        adoptions.failed(first, ["a"], LEFT)
        ((second, _),) = adoptions.batches(0.1)
        assert {first, second} == {"n2", "n3"}
        adoptions.failed(second, ["a"], LEFT)
        assert settle(adoptions, clients, 0.2)[0].results == {"failed": 1}
        assert adoptions.plan("n1", clients, LEFT, ALWAYS, 5) == 1, "and tried again later"

    def test_a_request_that_is_under_way_is_not_made_twice(self) -> None:
        adoptions = begun(roster(n1={"a": at(10)}))
        assert len(list(adoptions.batches(0))) == 1
        assert list(adoptions.batches(100)) == []

    def test_a_late_answer_about_a_client_that_was_planned_anew_counts_for_nothing(self) -> None:
        clients = roster(n1={"a": at(10)})
        adoptions = begun(clients, Shares({"ip": {"n2": 1}}))
        list(adoptions.batches(0))
        adoptions.plan("n2", clients, Shares({"ip": {"n3": 1}}), ALWAYS, 1)
        adoptions.failed("n2", ["a"], NOBODY)
        adoptions.asked("n2", ["a"], 1)
        assert ask(adoptions, 1) == {"n3": ["a"]}

    def test_a_node_that_is_back_keeps_whom_nobody_was_asked_to_adopt(self) -> None:
        clients = roster(n1={str(n): at(100 - n) for n in range(60)})
        adoptions = begun(clients, Shares({"ip": {"n2": 1}}))
        asked = ask(adoptions, 0)["n2"]
        adoptions.cancel("n1")
        clients.update("n2", {key: at(200) for key in asked}, whole=False)
        (ended,) = settle(adoptions, clients, 1)
        assert ended.results == {"adopted": 50, "kept": 10}


@given(st.lists(st.tuples(st.sampled_from(["n1", "n2", "n3"]), st.integers(0, 50), st.integers(0, 9)), max_size=200))
def test_whatever_happens_every_move_ends(reports: list[tuple[str, int, int]]) -> None:
    clients = roster(n1={str(n): at(20 + n) for n in range(10)})
    adoptions = begun(clients)
    planned = len(list(clients.clients()))
    now = 0.0
    for node, handshake, key in reports:
        ask(adoptions, now)
        clients.update(node, {str(key): at(handshake)}, whole=False)
        settle(adoptions, clients, now)
        now += 0.1
    for _ in range(ATTEMPTS + 1):
        ask(adoptions, now)
        now += PATIENCE
        settle(adoptions, clients, now)
    assert adoptions.targets == frozenset()
    assert sum(adoptions.totals.values()) == planned


@pytest.mark.parametrize(
    ("offsets", "wrong"),
    [
        ({}, set()),
        ({"n1": 0.1, "n2": -0.2, "n3": 0.0}, set()),
        ({"n1": 5.0, "n2": 0.0}, {"n1"}),
        ({"n1": -86400.0, "n2": 0.1, "n3": 0.2}, {"n1"}),
        ({"n1": 3.0, "n2": 3.1, "n3": 2.9}, set()),  # this balancer is the one that is wrong
        ({"n1": 0.0, "n2": 1.5}, {"n2"}),
    ],
)
def test_wrong_clocks(offsets: dict[str, float], wrong: set[str]) -> None:
    assert wrong_clocks(offsets) == wrong


NOW = 1_800_000_000.0
DAY = 86400


@pytest.mark.parametrize(
    ("said", "offset", "handshake"),
    [
        (NOW - 5, 0.0, NOW - 5),
        (NOW - 5, 0.9, NOW - 5),  # clocks are never quite the same
        (NOW, -0.5, NOW),
        (NOW + DAY - 5, DAY, NOW - 5),
        (NOW - DAY - 5, -DAY, NOW - 5),
        (NOW + DAY - 5, 0.0, 0),  # its clock was ahead then, and was set right
        (0, DAY, 0),
        (0, -DAY, 0),
        (1, DAY, 1),  # long ago, but not never
    ],
)
def test_handshakes_are_by_our_clock(said: float, offset: float, handshake: float) -> None:
    session = Session("198.51.100.1:5", int(said), ("10.80.0.5/32",)).by_clock(offset, NOW)
    assert (session.handshake, session.stamp) == (handshake, said)
    assert (session.endpoint, session.networks) == ("198.51.100.1:5", ("10.80.0.5/32",))
