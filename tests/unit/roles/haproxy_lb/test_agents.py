# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The balancer's side of the talk with an agent, against a real server with scripted answers."""

from __future__ import annotations

import json
import math
import queue
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from wirefleet import httpclient
from wirefleet.httpd import Request, Response, Server
from wirefleet_steer import agents
from wirefleet_steer.adoption import Move, Session
from wirefleet_steer.agents import Adopting, Agent, AgentError, Failed, Heard, Message

MOVE = Move("K=", Session("198.51.100.1:5", 10), "n1", "n2")
PEER = {"public_key": "K=", "endpoint": "[2001:db8::1]:5", "handshake": 10}


class Script:
    """An agent that answers what it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status, self.answer = 200, peers()
        self.asked: list[Request] = []
        self._server = Server([("127.0.0.1", 0)], self._serve, "wirefleet-test/1", posts=["/v1/adopt", "/v1/release"])
        self._server.start()
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.agent = Agent("n2", self._server.addresses[0], self.inbox)

    def _serve(self, request: Request) -> Response:
        self.asked.append(request)
        return Response.from_json(self.status, self.answer)


def peers(*found: object, epoch: str = "e", seq: int = 1, **changes: Any) -> dict[str, Any]:
    return {"version": 1, "time": time.time(), "age": 0.5, "epoch": epoch, "seq": seq, "peers": list(found), **changes}


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def deaf() -> Server:
    """It listens and never answers: only ``start()`` would make it."""
    return Server([("127.0.0.1", 0)], lambda request: None, "wirefleet-test/1")


def test_it_asks_for_what_is_new_since_the_last_time(script: Script) -> None:
    script.answer = peers(PEER, epoch="one", seq=3)
    first = script.agent._look()
    assert isinstance(first, Heard)
    assert (first.node, first.sessions, first.whole) == ("n2", {"K=": Session("[2001:db8::1]:5", 10)}, True)
    script.answer = peers(epoch="one", seq=3)
    second = script.agent._look()
    assert isinstance(second, Heard)
    assert (second.sessions, second.whole) == ({}, False)
    assert script.asked[1].query == {"epoch": "one", "since": "3"}
    script.answer = peers(epoch="two", seq=1)
    third = script.agent._look()
    assert isinstance(third, Heard)
    assert third.whole, "a new epoch: who is not in it is not there"


def test_a_node_in_routed_mode_says_what_it_routes(script: Script) -> None:
    script.answer = peers({**PEER, "networks": ["10.80.0.5/32", "fd00:80::5/128"]})
    heard = script.agent._look()
    assert isinstance(heard, Heard)
    assert heard.sessions["K="].networks == ("10.80.0.5/32", "fd00:80::5/128")


def test_it_is_asked_to_let_go(script: Script) -> None:
    script.answer = {"version": 1, "time": 0, "released": ["K="]}
    assert script.agent._release([("K=", 10)]) is None
    (asked,) = script.asked
    assert (asked.method, asked.path) == ("POST", "/v1/release")
    assert json.loads(asked.body) == {"version": 1, "peers": [{"public_key": "K=", "handshake": 10}]}
    script.status, script.answer = 404, {"error": "Not Found"}
    assert script.agent._release([("K=", 10)]) == Failed("n2", "404: Not Found")


def test_a_node_in_another_time_says_when_it_was_by_our_clock(script: Script) -> None:
    now = int(time.time())
    script.answer = peers({**PEER, "handshake": now + 86400}, time=time.time() + 86400)
    heard = script.agent._look()
    assert isinstance(heard, Heard)
    assert abs(heard.sessions["K="].handshake - now) <= 1
    assert heard.sessions["K="].stamp == now + 86400


def test_clocks_are_compared(script: Script) -> None:
    script.answer = peers(time=time.time() - 60)
    heard = script.agent._look()
    assert isinstance(heard, Heard)
    assert heard.offset == pytest.approx(-60, abs=1)
    assert heard.seen_at == pytest.approx(time.monotonic() - 0.5, abs=0.3)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (403, {"error": "for balancers"}, "403: for balancers"),
        (404, {"error": "Not Found"}, "404: Not Found"),  # an agent of an older version
        (200, {"version": 2}, "speaks version 2, not 1"),
        (200, [], "not an object"),
        (200, {"version": 1}, "KeyError: 'time'"),
        (200, peers("K="), "string indices"),
        (200, peers({**PEER, "public_key": "\x1b[2J"}), "public_key: not one"),
        (200, peers({**PEER, "endpoint": "nowhere"}), "not ADDRESS:PORT"),
        (200, peers({**PEER, "endpoint": None}), "not ADDRESS:PORT"),
        (200, peers({**PEER, "endpoint": "fe80::1%x }\nflush ruleset\n:5"}), "not ADDRESS:PORT"),  # for nft
        (200, peers({**PEER, "handshake": "soon"}), "handshake: not a whole number"),
        (200, peers({**PEER, "handshake": 10**400}), "handshake: not a whole number"),  # more than a float holds
        (200, peers({**PEER, "networks": ["10.80.0.5/8"]}), "host bits"),
        (200, peers({**PEER, "networks": ["fd00:80::5%x\nroute flush all\n/128"]}), "zone"),  # for `ip -batch`
        (200, peers(time=None), "time: not a number"),
        (200, peers(time=math.nan), "time: not a number"),  # equal to nothing, and near to every clock
        (200, peers(age=-math.inf), "age: not a number"),
        (200, peers(epoch="e HTTP/1.1\r\n"), "epoch: not one"),  # we could never ask again
        (500, {"error": "x" * 10_000}, "500: xxx"),
    ],
)
def test_an_answer_that_is_not_understood_is_none(script: Script, status: int, answer: Any, error: str) -> None:
    script.status, script.answer = status, answer
    message = script.agent._look()
    assert isinstance(message, Failed)
    assert error in message.error
    assert len(message.error) < 300
    assert message.keys == ()
    script.status, script.answer = 200, peers(PEER)
    assert isinstance(script.agent._look(), Heard), "and nothing is left of it"
    assert script.asked[-1].query["since"] == "0"


def test_an_answer_that_can_not_be_read_ends_no_thread() -> None:
    with pytest.raises(AgentError, match="RecursionError"):
        agents.understood(200, b"[" * 1_000_000)


def test_it_is_asked_to_adopt(script: Script) -> None:
    script.answer = {"version": 1, "time": 0, "adopting": ["K="], "refused": {"L=": "unknown"}}
    assert script.agent._ask([MOVE]) == Adopting("n2", ["K="], ["L="])
    (asked,) = script.asked
    assert (asked.method, asked.path) == ("POST", "/v1/adopt")
    assert json.loads(asked.body) == {
        "version": 1,
        "peers": [{"public_key": "K=", "endpoint": "198.51.100.1:5"}],
    }


def test_who_could_not_be_asked_for_is_named(script: Script) -> None:
    script.status, script.answer = 409, {"error": "this node takes no clients"}
    assert script.agent._ask([MOVE]) == Failed("n2", "409: this node takes no clients", ["K="])


@pytest.mark.parametrize(
    ("first", "then", "pause"),
    [
        (b"", b"x", 0.02),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.02),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" ", 0.02),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.0),
    ],
    ids=["status", "headers", "body", "continue"],
)
def test_an_agent_that_goes_on_and_on_is_cut_off(
    first: bytes, then: bytes, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpclient, "DEADLINE", 0.3)
    begin = time.monotonic()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(first)
            while time.monotonic() < begin + 2:
                connection.sendall(then)
                time.sleep(pause)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        message = Agent("n2", listener.getsockname(), queue.SimpleQueue())._look()
        took = time.monotonic() - begin
        thread.join()
    assert message == Failed("n2", "timed out")
    assert took < 1.5


@pytest.mark.parametrize(
    ("limit", "networks", "error"),
    [
        ("MAX_CLIENTS", [], "claims more than 2 clients"),
        ("MAX_NETWORKS", ["10.80.0.5/32"], "claims more than 2 networks"),
    ],
)
def test_a_node_claims_so_many_and_no_more(
    script: Script, limit: str, networks: list[str], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, limit, 2)

    def look(epoch: str, *keys: str) -> Message:
        script.answer = peers(*({**PEER, "public_key": key, "networks": networks} for key in keys), epoch=epoch)
        return script.agent._look()

    assert isinstance(look("one", "A=", "B="), Heard)
    assert isinstance(look("one", "B="), Heard), "that is nobody new"
    assert look("one", "C=") == Failed("n2", error)
    assert isinstance(look("two", "C=", "D="), Heard), "the others are gone"
    assert look("three", "A=", "B=", "C=") == Failed("n2", error)


def test_an_agent_that_hangs_holds_nobody_but_its_own_thread(
    script: Script, deaf: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "TIMEOUT", 0.1)
    hanging = Agent("n3", deaf.addresses[0], script.inbox)
    begin = time.monotonic()
    for agent in (hanging, script.agent):
        agent.start()
        agent.adopt([MOVE])
    assert time.monotonic() - begin < 0.1
    script.answer = {"version": 1, "time": 0, "adopting": ["K="], "refused": {}}
    seen = [script.inbox.get(timeout=5) for _ in range(4)]
    assert Failed("n3", "timed out", ["K="]) in seen
    assert any(isinstance(message, Adopting) for message in seen)
