# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Who has which client, and the routes that follow from it, in a real table."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Collection
from ipaddress import ip_network

import pytest
from wirefleet.command import CommandError
from wirefleet.iproute import Rule
from wirefleet.routes import Hop, RoutingTable
from wirefleet_steer import owners as module
from wirefleet_steer.adoption import Session
from wirefleet_steer.config import Owners
from wirefleet_steer.owners import MAX_RELEASE, RELEASE_AFTER, RELEASE_INTERVAL, Claims, OwnerRoutes

A = ("10.80.0.5/32", "fd00:80::5/128")
B = ("10.80.0.6/32",)


def at(handshake: int, networks: tuple[str, ...] = A) -> Session:
    return Session("198.51.100.1:1", handshake, networks)


def here(claims: Claims, node: str, handshake: int, now: float = 0.0) -> bool:
    """The node says that it has client "a"."""
    return claims.hear(node, {"a": at(handshake)}, False, now)


def owner(claims: Claims) -> str | None:
    """Who has client "a"."""
    return dict(claims.routes()).get(A[0])


def beaten(claims: Claims, node: str, now: float = 100.0, dead: Collection[str] = ()) -> list[tuple[str, int]]:
    return sorted(claims.beaten(node, dead, now))


class TestClaims:
    def test_the_latest_handshake_wins(self) -> None:
        claims = Claims()
        assert here(claims, "n1", 10)
        assert here(claims, "n2", 20)
        assert not here(claims, "n3", 15)
        assert dict(claims.routes()) == dict.fromkeys(A, "n2")
        assert (beaten(claims, "n1"), beaten(claims, "n2"), beaten(claims, "n3")) == ([("a", 10)], [], [("a", 15)])

    def test_a_node_in_another_time_is_told_in_its_own_words(self) -> None:
        claims = Claims()
        claims.hear("n1", {"a": at(86410).by_clock(86400.0, 20.0)}, False, 0.0)
        here(claims, "n2", 20)
        assert owner(claims) == "n2"
        assert beaten(claims, "n1") == [("a", 86410)]

    def test_of_two_in_one_second_the_later_word_counts(self) -> None:
        claims = Claims()
        here(claims, "n1", 10)
        here(claims, "n2", 10)
        assert owner(claims) == "n2"
        assert not here(claims, "n1", 10), "that is not news"
        assert owner(claims) == "n2"
        here(claims, "n1", 11)
        assert owner(claims) == "n1"

    def test_a_session_that_is_not_routed_there_is_no_claim(self) -> None:
        claims = Claims()
        assert not claims.hear("n1", {"a": Session("198.51.100.1:1", 10)}, True, 0)
        assert list(claims.routes()) == []

    def test_who_lets_go_has_it_no_more(self) -> None:
        claims = Claims()
        here(claims, "n1", 10)
        here(claims, "n2", 20)
        assert not claims.hear("n1", {"a": at(10, ())}, False, 0)
        assert beaten(claims, "n1") == []
        assert claims.hear("n2", {"a": at(20, ())}, False, 0)
        assert owner(claims) is None

    def test_who_is_not_in_a_whole_list_is_not_there(self) -> None:
        claims = Claims()
        claims.hear("n1", {"a": at(10), "b": at(10, B)}, True, 0)
        assert claims.hear("n1", {"b": at(10, B)}, True, 0)
        assert list(claims.routes()) == [(B[0], "n1")]
        assert not claims.hear("n2", {}, True, 0)

    def test_a_client_can_get_other_networks(self) -> None:
        claims = Claims()
        here(claims, "n1", 10)
        assert claims.hear("n1", {"a": at(10, B)}, False, 0)
        assert list(claims.routes()) == [(B[0], "n1")]

    def test_the_former_node_has_time_for_what_is_on_its_way(self) -> None:
        claims = Claims()
        here(claims, "n1", 10, now=50)
        here(claims, "n2", 20, now=60)
        assert beaten(claims, "n1", now=60 + RELEASE_AFTER / 2) == []
        assert beaten(claims, "n1", now=60 + RELEASE_AFTER) == [("a", 10)]

    def test_while_an_adoption_is_under_way_the_living_node_keeps_it(self) -> None:
        claims = Claims()
        here(claims, "n1", 10)
        assert not here(claims, "n2", 0)
        assert owner(claims) == "n1"


class TestHeirs:
    @pytest.fixture
    def claims(self) -> Claims:
        """n2 adopts the client of n1, which is dead."""
        claims = Claims()
        here(claims, "n1", 10)
        assert claims.inherit("n2", ["a", "unknown"], {"n1"}, 0)
        return claims

    def test_an_adopter_has_it_before_it_has_answered(self, claims: Claims) -> None:
        assert owner(claims) == "n2"
        assert not here(claims, "n2", 0)
        assert owner(claims) == "n2"
        assert not here(claims, "n2", 11)
        assert owner(claims) == "n2"

    def test_from_the_living_nothing_is_inherited(self) -> None:
        claims = Claims()
        here(claims, "n1", 10)
        assert not claims.inherit("n2", ["a"], {"n3"}, 0)
        assert owner(claims) == "n1"

    def test_nor_by_a_node_from_itself(self) -> None:
        claims = Claims()
        assert not claims.inherit("n2", ["a"], {"n1", "n2"}, 0), "nobody had it"
        here(claims, "n2", 10)
        assert not claims.inherit("n2", ["a"], {"n1", "n2"}, 0), "it has it already"
        assert owner(claims) == "n2"

    def test_a_node_that_was_not_dead_has_what_nobody_else_has(self, claims: Claims) -> None:
        here(claims, "n2", 0)
        assert claims.disinherit("n1", 0)
        assert owner(claims) == "n1"

    def test_and_no_more_than_that(self, claims: Claims) -> None:
        here(claims, "n2", 11)
        assert not claims.disinherit("n1", 0)
        assert owner(claims) == "n2"
        assert beaten(claims, "n1") == [("a", 10)]

    def test_an_heir_that_is_beaten_is_asked_by_its_own_handshake(self, claims: Claims) -> None:
        here(claims, "n2", 0)
        here(claims, "n3", 12)
        assert owner(claims) == "n3"
        assert beaten(claims, "n2") == [("a", 0)]

    def test_what_is_a_dead_nodes_nobody_has_to_let_go(self) -> None:
        claims = Claims()
        here(claims, "n1", 10)
        here(claims, "n2", 0)
        assert beaten(claims, "n2", dead={"n1"}) == []
        assert beaten(claims, "n2") == [("a", 0)]

    def test_an_heir_dies_too(self, claims: Claims) -> None:
        assert claims.inherit("n3", ["a"], {"n1", "n2"}, 0)
        assert owner(claims) == "n3"


TABLE = 51821
NODES = {f"n{number}": {"ip": f"10.9.0.1{number}", "ip6": f"fd00:9::1{number}"} for number in (1, 2, 3)}
CONFIG = Owners(
    TABLE,
    (Rule(4, 5179, table=TABLE, to="10.80.0.0/16", iif="backend"),),
    (ip_network("10.80.0.0/16"), ip_network("fd00:80::/48")),
    {"ip": "backend", "ip6": "backend"},
)
NOWHERE = {"10.80.0.0/16": Hop(), "fd00:80::/48": Hop()}


def through(node: str) -> dict[str, Hop]:
    """The routes of client "a"."""
    return {A[0]: Hop("backend", NODES[node]["ip"]), A[1]: Hop("backend", NODES[node]["ip6"])}


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


def kernel() -> dict[str, Hop]:
    return dict(RoutingTable(TABLE).present())


@pytest.fixture
def backend(network: None) -> None:
    ip("link add backend type veth peer name far")
    ip("link set far up")
    ip("link set backend up")


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass."""
    later = 0.0
    real = module.time.monotonic

    def pass_time(seconds: float) -> None:
        nonlocal later
        later += seconds

    monkeypatch.setattr(module.time, "monotonic", lambda: real() + later)
    return pass_time


@pytest.fixture
def routes(backend: None) -> OwnerRoutes:
    """All agents were heard, and n1 has the client."""
    routes = OwnerRoutes(CONFIG, NODES)
    for node in NODES:
        routes.hear(node, {"a": at(10)} if node == "n1" else {}, True)
    routes.follow()
    return routes


@pytest.mark.root
class TestRoutes:
    def test_a_client_is_routed_to_its_node_and_nobody_elsewhere(self, routes: OwnerRoutes) -> None:
        assert kernel() == {**NOWHERE, **through("n1")}
        assert "from all to 10.80.0.0/16 iif backend lookup 51821" in ip("rule")

    def test_a_move_is_followed_and_then_the_former_node_is_told(
        self, routes: OwnerRoutes, wait: Callable[[float], None]
    ) -> None:
        routes.hear("n2", {"a": at(20)}, False)
        wait(RELEASE_AFTER)
        assert routes.releases("n1") == [], "not before the route"
        routes.follow()
        assert kernel() == {**NOWHERE, **through("n2")}
        assert routes.releases("n1") == [("a", 10)]
        assert routes.releases("n1") == [], "it was asked just now"
        wait(RELEASE_INTERVAL)
        assert routes.releases("n1") == [("a", 10)], "and claims it still"
        assert routes.releases("n2") == []

    def test_a_balancer_that_did_not_ask_lets_the_adopter_keep_it(
        self, routes: OwnerRoutes, wait: Callable[[float], None]
    ) -> None:
        """It hears that the adopter has it, without a handshake, and knows of no heir."""
        other = OwnerRoutes(CONFIG, NODES)
        for node in NODES:
            other.hear(node, {"a": at(10)} if node == "n1" else {}, True)
        for balancer in (routes, other):
            balancer.dead(frozenset({"n1"}))
        routes.adopting("n2", ["a"])
        for balancer in (other, routes):
            balancer.hear("n2", {"a": at(0)}, False)
            wait(RELEASE_AFTER)
            balancer.follow()
            assert balancer.releases("n2") == []
        assert kernel() == {**NOWHERE, **through("n2")}
        for balancer in (other, routes):
            balancer.hear("n2", {"a": at(20)}, False)
            balancer.dead(frozenset())
            wait(RELEASE_AFTER)
            balancer.follow()
            assert balancer.releases("n1") == [("a", 10)]

    def test_a_death_is_followed_when_the_adopter_has_begun(self, routes: OwnerRoutes) -> None:
        routes.adopting("n2", ["a"])
        routes.follow()
        assert kernel() == {**NOWHERE, **through("n1")}, "n1 is only drained"
        routes.dead(frozenset({"n1"}))
        routes.adopting("n2", ["a"])
        routes.follow()
        assert kernel() == {**NOWHERE, **through("n2")}
        routes.dead(frozenset())
        routes.follow()
        assert kernel() == {**NOWHERE, **through("n1")}

    def test_what_nobody_claims_any_more_is_forgotten(self, routes: OwnerRoutes) -> None:
        routes.hear("n1", {"a": at(10, B)}, True)
        routes.follow()
        assert kernel().keys() == {*NOWHERE, *B}
        assert routes._versions.keys() == {*B}

    def test_a_restart_leaves_the_routes_until_all_agents_have_spoken(self, routes: OwnerRoutes) -> None:
        before = kernel()
        again = OwnerRoutes(CONFIG, NODES)
        again.hear("n2", {"a": at(5)}, True)  # it was told to let go, but has started anew
        again.hear("n3", {}, True)
        again.follow()
        assert kernel() == before
        again.hear("n1", {"a": at(10)}, True)
        again.follow()
        assert kernel() == before

    def test_others_do_not_get_a_client_back_while_its_node_is_not_heard(self, routes: OwnerRoutes) -> None:
        """The agent of its node starts as well, just now."""
        before = kernel()
        again = OwnerRoutes(CONFIG, NODES)
        again.hear("n2", {"a": at(5)}, True)  # not told yet to let go
        again.hear("n3", {}, True)
        again.miss("n1")
        again.follow()
        assert kernel() == before
        again.dead(frozenset({"n1"}))
        again.follow()
        assert kernel() == {**NOWHERE, **through("n2")}
        again.dead(frozenset())
        again.hear("n3", {"a": at(int(time.time()) + 1)}, False)
        again.follow()
        assert kernel() == {**NOWHERE, **through("n3")}, "it has moved meanwhile"

    def test_and_those_to_a_node_that_is_not_heard_after_that(self, routes: OwnerRoutes) -> None:
        before = kernel()
        again = OwnerRoutes(CONFIG, NODES)
        for node in ("n2", "n3"):
            again.hear(node, {}, True)
        again.miss("n1")
        again.follow()
        assert kernel() == before
        again.hear("n1", {}, True)
        again.follow()
        assert kernel() == NOWHERE

    def test_what_others_delete_comes_back(
        self, routes: OwnerRoutes, wait: Callable[[float], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        ip(f"route flush table {TABLE}")
        ip("rule delete priority 5179")
        wait(60)
        routes.follow()
        assert kernel() == {**NOWHERE, **through("n1")}
        assert "lookup 51821" in ip("rule")
        assert "event=routes_restored table=51821 routes=2" in capsys.readouterr().err

    def test_a_node_has_no_say_in_other_networks(self, routes: OwnerRoutes) -> None:
        routes.hear("n2", {"b": at(10, ("0.0.0.0/0", "10.0.0.0/8", "10.81.0.1/32", "::/0", *B))}, False)
        routes.follow()
        assert kernel() == {**NOWHERE, **through("n1"), B[0]: Hop("backend", NODES["n2"]["ip"])}

    def test_what_can_not_be_written_is_tried_again_but_not_at_once(
        self, routes: OwnerRoutes, wait: Callable[[float], None]
    ) -> None:
        ip("link set backend down")
        routes.hear("n2", {"a": at(20)}, False)
        with pytest.raises(CommandError):
            routes.follow()
        assert routes.releases("n1") == []
        routes.follow()
        ip("link set backend up")
        wait(60)
        routes.follow()
        assert kernel() == {**NOWHERE, **through("n2")}

    def test_many_are_told_bit_by_bit(self, routes: OwnerRoutes, wait: Callable[[float], None]) -> None:
        many = {str(number): at(10, (f"10.80.1.{number % 250}/32",)) for number in range(MAX_RELEASE + 10)}
        routes.hear("n1", many, False)
        routes.hear("n2", {key: at(20, session.networks) for key, session in many.items()}, False)
        routes.follow()
        wait(RELEASE_AFTER)
        assert len(routes.releases("n1")) == MAX_RELEASE
