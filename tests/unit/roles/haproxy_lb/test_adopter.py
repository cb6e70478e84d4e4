# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What the balancer asks of whom, as nodes go and come. Agents are scripted, the clock stands still."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from wirefleet_steer import adopter as module
from wirefleet_steer.adopter import AGENT_GRACE, FRESH, LATE, REVIEW, Adopter, Tenants
from wirefleet_steer.adoption import Move, Session
from wirefleet_steer.agents import Adopting, Failed, Heard
from wirefleet_steer.config import Adoption, Owners, load
from wirefleet_steer.decide import NodeState, Standing, State
from wirefleet_steer.owners import RELEASE_AFTER, RELEASE_INTERVAL, OwnerRoutes

from .conftest import steer_config

UP, DRAINING, DOWN = Standing.UP, Standing.DRAINING, Standing.DOWN
NOW = 1_000_000
CLIENTS = {"a": Session("198.51.100.1:1", NOW - 10), "b": Session("[2001:db8::1]:1", NOW - 20)}


class Scene:
    """An adopter whose agents only remember what they are asked."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch, self._memory = monkeypatch, directory / "clients.json"
        path = directory / "steer.json"
        document = steer_config(directory, adoption={"rate": 100, "max_idle": 3600})
        for number, node in enumerate(document["nodes"].values()):
            node["agent"] = ["127.0.0.1", 8000 + number]
        path.write_text(json.dumps(document))
        self._config = config = load(path)
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module.time, "time", lambda: NOW)
        self.asked: list[tuple[str, str]] = []
        self.active = True
        self.restart()
        self.state = State(dict.fromkeys(config.nodes, NodeState(UP)))
        self.hear("n1", CLIENTS)
        for name in ("n2", "n3"):
            self.hear(name, {})
        self.round()

    def restart(self) -> None:
        """Begin again with what is on disk."""
        self.adopter = Adopter(self._config, Adoption(100, 3600), self._memory)
        for name, agent in self.adopter._agents.items():
            self._monkeypatch.setattr(agent, "adopt", lambda moves, name=name: self._note(name, moves))

    def _note(self, name: str, moves: Sequence[Move]) -> None:
        self.asked += [(name, move.key) for move in moves]

    def hear(self, node: str, sessions: dict[str, Session], offset: float = 0.0) -> None:
        self.adopter._inbox.put(Heard(node, sessions, True, offset, self.now))

    def round(self, seconds: float = 0.1, **nodes: NodeState) -> list[tuple[str, str]]:
        """Let time pass and nodes change; return who was asked to adopt whom."""
        self.now += seconds
        self.state = State({**self.state.nodes, **nodes}, self.state.held)
        self.asked = []
        self.adopter.round(self.state, self.active)
        return sorted(self.asked)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def keys(asked: list[tuple[str, str]]) -> list[str]:
    return sorted(key for _, key in asked)


@pytest.mark.parametrize("gone", [NodeState(DOWN, lost_at=1000.0), NodeState(DRAINING), NodeState(DOWN)])
def test_the_others_adopt_the_clients_of_a_node_that_goes(
    scene: Scene, gone: NodeState, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = scene.round(n1=gone)
    assert keys(asked) == ["a", "b"]
    assert "n1" not in dict(asked)
    assert capsys.readouterr().err == "event=adoption node=n1 clients=2\n"
    for node, key in asked:
        scene.adopter._inbox.put(Adopting(node, [key], []))
        scene.hear(node, {key: replace(CLIENTS[key], handshake=NOW + 1)})
    assert scene.round(0.25) == []
    assert capsys.readouterr().err == "event=adopted node=n1 seconds=0.25 adopted=2\n"
    took = {cause: times.sum for cause, times in scene.adopter.durations.items() if any(times.counts)}
    assert took == {"failure" if gone.standing is DOWN else "drain": pytest.approx(0.25)}
    scene.round()
    assert sum(scene.adopter.counts.values()) == 2
    assert scene.adopter.counts["n1"] == 0


def test_a_node_that_was_not_looked_at_since_its_drain_may_have_more_clients(scene: Scene) -> None:
    assert scene.adopter.tenants("n1") == Tenants({"a": NOW - 10, "b": NOW - 20}, complete=True)
    scene.round(n1=NodeState(DRAINING))
    scene.hear("n1", CLIENTS)
    scene.round()
    assert not scene.adopter.tenants("n1").complete, "a handshake may be under way"
    scene.round(LATE)
    scene.hear("n1", CLIENTS)
    scene.hear("n2", {"a": replace(CLIENTS["a"], handshake=NOW)})
    scene.round()
    assert scene.adopter.tenants("n1") == Tenants({"b": NOW - 20}, complete=True)
    assert scene.adopter.tenants("n2") == Tenants({"a": NOW}, complete=True)


def test_nobody_knows_who_is_at_a_node_that_was_never_heard(scene: Scene) -> None:
    scene.adopter.seen_at.clear()
    assert scene.adopter.tenants("n1").complete is False


def test_while_all_checks_fail_nobody_is_moved(scene: Scene) -> None:
    scene.state = State(scene.state.nodes, held=frozenset({"n1", "n2", "n3"}))
    lost = NodeState(DOWN, lost_at=1000.0, before_loss=UP)
    assert scene.round(n1=lost, n2=lost, n3=lost) == []
    assert scene.round(REVIEW) == []


def test_an_agent_alone_that_is_away_for_a_moment_moves_nobody(scene: Scene) -> None:
    away = NodeState(DRAINING, lost_at=scene.now, before_loss=UP)
    assert scene.round(n1=away) == []
    assert scene.round(REVIEW) == []
    for name in ("n2", "n3"):
        scene.hear(name, {})
    assert keys(scene.round(AGENT_GRACE)) == ["a", "b"]


def test_who_comes_to_light_later_is_adopted_then(scene: Scene) -> None:
    assert keys(scene.round(n1=NodeState(DRAINING))) == ["a", "b"]
    scene.hear("n1", {**CLIENTS, "c": Session("198.51.100.2:2", NOW)})
    assert scene.round() == []
    for name in ("n2", "n3"):
        scene.hear(name, {})
    assert "c" in keys(scene.round(REVIEW))


@pytest.mark.parametrize(
    ("offset", "seconds", "word"), [(-5.0, 0.1, "clock_wrong node=n2"), (0.0, FRESH + 1, "")], ids=["clock", "silent"]
)
def test_only_a_node_that_is_heard_and_right_about_the_time_adopts(
    scene: Scene, offset: float, seconds: float, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.hear("n2", {}, offset)
    scene.round()
    scene.now += seconds
    scene.hear("n3", {})
    scene.round()
    assert {node for node, _ in scene.round(n1=NodeState(DOWN))} == {"n3"}
    assert word in capsys.readouterr().err


def test_a_node_that_can_not_be_asked_is_replaced(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    (first, _), *_ = scene.round(n1=NodeState(DOWN))
    scene.adopter._inbox.put(Failed(first, "timed out", ["a", "b"]))
    scene.adopter._inbox.put(Failed(first, "timed out"))
    again = scene.round()
    assert {node for node, _ in again} == {"n2", "n3"} - {first}
    text = capsys.readouterr().err
    assert text.count(f'event=agent_silent node={first} error="timed out"') == 1
    assert scene.adopter.silent == {first: "timed out"}
    scene.hear(first, {})
    scene.round()
    assert f"event=agent_heard node={first}\n" in capsys.readouterr().err
    assert scene.adopter.silent == {}


def test_those_who_wait_for_somebody_look_more_often(scene: Scene) -> None:
    asked = scene.round(n1=NodeState(DOWN))
    assert {name for name, agent in scene.adopter._agents.items() if agent.hurry} == {node for node, _ in asked}


def test_clients_that_were_not_there_for_long_are_forgotten(scene: Scene) -> None:
    scene.hear("n1", {"old": Session("198.51.100.9:9", NOW - 3601), "never": Session("198.51.100.8:8", 0), **CLIENTS})
    scene.round()
    assert sorted(key for key, _, _ in scene.adopter.clients()) == ["a", "b"]


def test_a_standby_asks_nobody_until_it_is_active(scene: Scene) -> None:
    scene.active = False
    assert scene.round(n1=NodeState(DOWN)) == []
    assert scene.round(REVIEW) == []
    for name in ("n2", "n3"):
        scene.hear(name, {})
    scene.active = True
    assert keys(scene.round()) == ["a", "b"], "at once, not at the next review"


def test_who_is_active_no_more_leaves_the_rest_to_the_other(scene: Scene) -> None:
    scene.adopter.adoptions._rate = 0.001  # one at a time, and then nobody for long
    clients = {str(number): Session(f"198.51.100.1:{number}", NOW - 10) for number in range(1, 9)}
    scene.hear("n1", clients)
    asked = scene.round(n1=NodeState(DOWN))
    scene.active = False
    assert scene.round() == []
    assert scene.adopter.adoptions.totals["kept"] > 0
    scene.active = True
    scene.hear("n1", clients)
    for name in ("n2", "n3"):
        scene.hear(name, {})
    scene.round()
    moves = scene.adopter.adoptions._moves
    assert sorted(moves) == sorted(clients), "those that were asked for, and those that are planned anew"
    assert len(asked) == 2


def test_a_node_that_dies_with_the_daemon_is_not_forgotten(scene: Scene) -> None:
    scene.round(REVIEW)
    scene.restart()
    scene.round(n1=NodeState(DOWN))
    for name in ("n2", "n3"):
        scene.hear(name, {})
    assert {key for _, key in scene.round()} == set(CLIENTS)


def test_the_first_agent_that_is_heard_after_a_restart_does_not_get_everybody(scene: Scene) -> None:
    many = {f"client {number}": Session(f"198.51.100.2:{number}", NOW - 5) for number in range(1, 21)}
    scene.hear("n1", many)
    scene.round(6)
    scene.restart()
    scene.hear("n2", {})
    assert scene.round(n1=NodeState(DOWN, lost_at=1.0)) == []
    scene.hear("n3", {})
    assert {name for name, _ in scene.round()} == {"n2", "n3"}


def test_an_agent_that_says_nothing_is_not_waited_for_longer_than_for_its_word_to_be_fresh(scene: Scene) -> None:
    scene.round(REVIEW)
    scene.restart()
    dead = NodeState(DOWN, lost_at=1.0)
    for seconds, expected in ((0.1, []), (FRESH - 0.2, []), (0.2, ["a", "b"])):
        scene.hear("n2", {})  # and n3 neither answers nor fails
        assert keys(scene.round(seconds, n1=dead)) == expected


def test_a_live_node_knows_better_than_the_memory(scene: Scene) -> None:
    scene.round(REVIEW)
    scene.restart()
    scene.hear("n1", {"a": CLIENTS["a"]})
    scene.round()
    assert {key for key, _, _ in scene.adopter.clients()} == {"a"}


def test_a_memory_that_can_not_be_read_is_none(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.round(REVIEW)
    scene._memory.write_text('{"version": 2}')
    scene.restart()
    assert not list(scene.adopter.clients())
    assert "memory_unreadable" in capsys.readouterr().err


@pytest.mark.root
def test_in_routed_mode_routes_go_before_orders_to_let_go(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, network: None
) -> None:
    for command in ("link add backend type veth peer name far", "link set far up", "link set backend up"):
        subprocess.run(["ip", *command.split()], check=True)
    owners = OwnerRoutes(
        Owners(51821, (), (ip_network("10.80.0.0/16"),), {"ip": "backend"}),
        {name: node.addresses for name, node in scene.adopter._config.nodes.items()},
    )
    monkeypatch.setattr(scene.adopter, "owners", owners)
    released: list[tuple[str, list[tuple[str, int]]]] = []
    for name, agent in scene.adopter._agents.items():
        monkeypatch.setattr(agent, "release", lambda clients, name=name: released.append((name, clients)))
    routed = replace(CLIENTS["a"], networks=("10.80.0.5/32",))

    def follow() -> str:
        scene.adopter.follow_owners(owners)
        routes = subprocess.run(["ip", "route", "show", "table", "51821"], check=True, capture_output=True, text=True)
        return routes.stdout.partition("10.80.0.5 via ")[2].partition(" ")[0]

    for name, sessions in (("n1", {"a": routed}), ("n2", {}), ("n3", {})):
        scene.hear(name, sessions)
    scene.round()
    assert follow() == "10.9.0.11"
    assert all(agent.hurry for agent in scene.adopter._agents.values())

    ((target, _),) = scene.round(n1=NodeState(DOWN))
    scene.adopter._inbox.put(Failed("n1", "timed out"))
    scene.adopter._inbox.put(Adopting(target, ["a"], []))
    scene.round()
    address = scene.adopter._config.nodes[target].addresses["ip"]
    assert follow() == address, "as soon as the adopter has begun"
    scene.hear(target, {"a": replace(routed, handshake=NOW + 1)})
    scene.round(RELEASE_AFTER)
    assert follow() == address
    assert released == [], "a node that is silent is not asked"
    scene.hear("n1", {"a": routed})
    scene.round(n1=NodeState(UP))
    assert follow() == address
    assert released == [("n1", [("a", NOW - 10)])]

    scene.active = False
    scene.round(RELEASE_INTERVAL)
    assert follow() == address
    assert len(released) == 1, "a standby does not know who is being adopted"
    scene.active = True
    scene.round()
    follow()
    assert len(released) == 2
