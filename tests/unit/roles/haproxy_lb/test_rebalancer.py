# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""When clients are moved, and when not. The table is real, agents are scripted, and the clock is a number."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from wirefleet.command import run
from wirefleet_steer import adopter, kernel, rebalancer
from wirefleet_steer.adopter import Adopter
from wirefleet_steer.adoption import SESSION_LIFE, Move, Session
from wirefleet_steer.agents import Heard
from wirefleet_steer.census import census
from wirefleet_steer.config import Adoption, load
from wirefleet_steer.decide import NodeState, Standing, State
from wirefleet_steer.elements import client_key
from wirefleet_steer.rebalance import PATIENCE
from wirefleet_steer.rebalancer import QUIET, REVIEW, STAY, Rebalancer
from wirefleet_steer.translation import Translator

from .conftest import render, steer_config, steer_variables

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network")]

UP, DRAINING, DOWN = Standing.UP, Standing.DRAINING, Standing.DOWN
UNIX = 1_000_000
N1, N2 = 0x10000001, 0x10000002


class Scene:
    """Eight clients at n1, none at n2; n3 is down for good."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = directory / "steer.json"
        document = steer_config(directory, adoption={"rate": 100, "max_idle": 3600, "rebalance": 600})
        for number, node in enumerate(document["nodes"].values()):
            node["agent"] = ["127.0.0.1", 8000 + number]
        path.write_text(json.dumps(document))
        (directory / "steer.nft").write_text(render("steer.nft.j2", steer_variables()))
        config = load(path)
        kernel.load_table(config)
        self.now = 1000.0
        for module in (adopter, rebalancer):
            monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
            monkeypatch.setattr(module.time, "time", lambda: UNIX)
        self.adopter = Adopter(config, Adoption(100, 3600))
        self.rebalancer = Rebalancer(config, self.adopter, Translator(config), 600)
        self.asked: list[tuple[str, str]] = []
        for name, agent in self.adopter._agents.items():
            monkeypatch.setattr(agent, "adopt", lambda moves, name=name: self._note(name, moves))
        self.nodes = {"n1": NodeState(UP), "n2": NodeState(UP), "n3": NodeState(DOWN)}
        self.held: frozenset[str] = frozenset()
        self.clients = {str(n): Session(f"198.51.100.{n}:{n}", UNIX - 100 + n) for n in range(1, 9)}
        self.offset = 0.0
        self.reporting = ["n1", "n2"]

    def _note(self, name: str, moves: Sequence[Move]) -> None:
        self.asked += [(name, move.key) for move in moves]

    def wait(self, seconds: float) -> list[tuple[str, str]]:
        """Let time pass; return who was asked to adopt whom."""
        self.asked = []
        for _ in range(int(seconds)):
            self.now += 1
            for node in self.reporting:
                clients = self.clients if node == "n1" else {}
                offset = self.offset if node == "n2" else 0.0
                self.adopter._inbox.put(Heard(node, clients, False, offset, self.now))
            state = State(dict(self.nodes), self.held)
            self.adopter.round(state)
            self.rebalancer.round(state)
        return sorted(self.asked)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


LONG = QUIET + 2 * REVIEW
MOVED = [("n2", "1"), ("n2", "2"), ("n2", "3")]


def test_after_a_quiet_time_clients_move(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    assert scene.wait(QUIET) == []
    assert scene.wait(2 * REVIEW) == MOVED
    assert "event=rebalance clients=n1:8,n2:0,n3:0" in capsys.readouterr().err


def test_a_moved_client_is_its_new_nodes_before_that_is_asked(scene: Scene) -> None:
    key = client_key("ip", scene.clients["1"].endpoint)
    run(["nft", f"add element ip wirefleet affinity {{ {key} : {N1:#x} }}"])  # of the others nothing is known
    scene.wait(LONG)
    assert census("ip", "wirefleet", "affinity") == {N2: len(MOVED)}


def test_who_does_not_arrive_is_given_back(scene: Scene) -> None:
    scene.wait(LONG)
    scene.wait(PATIENCE + REVIEW)
    assert not {client for _, client in scene.asked} & {client for _, client in MOVED}
    assert census("ip", "wirefleet", "affinity") == {N1: len(MOVED), N2: len(scene.asked)}


def held(scene: Scene) -> None:
    scene.held = frozenset({"n1"})


def wrong_clock(scene: Scene) -> None:
    scene.offset = 5.0


def silent(scene: Scene) -> None:
    scene.reporting = ["n1"]


def draining(scene: Scene) -> None:
    scene.nodes["n2"] = NodeState(DRAINING)


def old(scene: Scene) -> None:
    scene.clients = {key: Session(s.endpoint, UNIX - SESSION_LIFE - 1) for key, s in scene.clients.items()}


def new(scene: Scene) -> None:
    scene.clients = {key: Session(s.endpoint, UNIX - int(STAY) + 1) for key, s in scene.clients.items()}


@pytest.mark.parametrize("change", [held, wrong_clock, silent, draining, old, new])
def test_nobody_is_moved(scene: Scene, change: Callable[[Scene], None]) -> None:
    change(scene)
    assert scene.wait(LONG) == []
    assert census("ip", "wirefleet", "affinity") == {}


def test_a_change_begins_the_quiet_time_anew(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.wait(LONG)
    scene.nodes["n3"] = NodeState(UP)
    assert scene.wait(QUIET) == []
    assert 'event=rebalance_over moved=0 seconds=10 reason="something changed"' in capsys.readouterr().err


def test_an_adoption_under_way_goes_first(scene: Scene) -> None:
    """This one never ends: the agent says nothing."""
    scene.adopter.roster.update("n3", {"dead": Session("198.51.100.99:99", UNIX - 10)}, whole=True)
    scene.adopter.adoptions.plan("n3", scene.adopter.roster, scene.adopter.shares(State(scene.nodes), scene.now), 0, 0)
    assert scene.wait(LONG) == [("n2", "dead")]
