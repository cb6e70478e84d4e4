# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wirefleet.httpd import Response, Server
from wirefleet_steer import __main__ as cli
from wirefleet_steer import status
from wirefleet_steer.config import Config, load
from wirefleet_steer.decide import NodeState, Standing, State
from wirefleet_steer.elements import wanted
from wirefleet_steer.haproxy import Report
from wirefleet_steer.status import GOALS, Clients, Snapshot, explain, reached, rows

from .conftest import steer_config

UP, DRAINING, DOWN = Standing.UP, Standing.DRAINING, Standing.DOWN
PASSED = "Layer7 check passed"
DAMPED = f"went down too often, no clients for 42 s: {PASSED}"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "steer.json"
    path.write_text(json.dumps(steer_config(tmp_path)))
    return load(path)


def snapshot(config: Config, report: Report | None, n1: Standing, n2: Standing = UP) -> Snapshot:
    """One with a report about n1, and with what the kernel holds."""
    state = State({"n1": NodeState(n1), "n2": NodeState(n2), "n3": NodeState()})
    elements = {family: wanted(config, family, state) for family in config.families}
    return Snapshot({} if report is None else {"n1": report}, elements, None if report else "admin.sock: gone")


@pytest.mark.parametrize(
    ("report", "kernel", "expected"),
    [
        (Report("UP", 1, "L7OK", PASSED, 9), UP, ("UP", "up", 1, 9, PASSED)),
        (Report("DOWN", 1, "L4TOUT", "timeout", 9), DOWN, ("DOWN", "down", 1, 9, "timeout")),
        (Report("DOWN", 1, "L4TOUT", "timeout", 9), UP, ("DOWN", "up (held)", 1, 9, "held, all nodes failed: timeout")),
        (Report("UP", 1, "L7OK", PASSED, 9), DRAINING, ("UP", "draining (damped)", 1, 9, DAMPED)),
        (None, UP, ("unknown", "up", None, None, "admin.sock: gone")),
    ],
)
def test_a_row(config: Config, report: Report | None, kernel: Standing, expected: tuple[object, ...]) -> None:
    shot = replace(snapshot(config, report, kernel), damped={"n1": 42} if kernel is DRAINING else {})
    row = next(rows(config, shot, {0x10000001: 7}, {"n1": 5}))
    assert (row.haproxy, row.kernel, row.weight, row.since, row.reason) == expected
    assert (row.sessions, row.clients) == (7, 5)


def test_families_that_disagree_are_shown_apart(config: Config) -> None:
    both = snapshot(config, None, UP)
    mixed = Snapshot({}, {"ip": both.elements["ip"], "ip6": snapshot(config, None, DRAINING).elements["ip6"]})
    assert next(rows(config, mixed, {}, None)).kernel == "ip up, ip6 draining"
    assert next(rows(config, Snapshot({}, {}), {}, None)).kernel == "missing"
    half = Snapshot({}, {"ip6": both.elements["ip6"]})
    assert next(rows(config, half, {}, None)).kernel == "ip missing, ip6 up"


@pytest.mark.parametrize(
    ("report", "kernel", "goals"),
    [
        (Report("UP", 1, "L7OK"), UP, {"up", "settled", "back"}),
        (Report("UP 1/2", 1, "L7OK"), UP, set()),  # not checked yet
        (Report("UP", 1, "L7OK"), DOWN, {"drained"}),  # the kernel has yet to follow
        (Report("NOLB", 1, "L7OKC"), UP, set()),
        (Report("NOLB", 1, "L7OKC"), DRAINING, {"drained", "settled"}),
        (Report("NOLB 1/2", 1, "L7OK", code=200), DRAINING, {"drained", "settled"}),  # on its way back
        (Report("UP", 0, "L7OK"), DRAINING, {"drained", "settled", "back"}),
        (Report("MAINT", 1), DOWN, {"drained", "settled", "back"}),
        (Report("MAINT", 1), UP, set()),
        (Report("DOWN", 1, "L4TOUT"), UP, set()),  # held
        (Report("DOWN", 1, "L4TOUT"), DOWN, {"drained"}),
        (Report("DOWN", 1, "L7STS", code=404), DOWN, {"drained", "settled"}),  # restarted while it was drained
        (None, UP, set()),
        (None, DOWN, {"drained"}),
    ],
)
def test_goals(config: Config, report: Report | None, kernel: Standing, goals: set[str]) -> None:
    shot, node = snapshot(config, report, kernel), config.nodes["n1"]
    assert {goal for goal in GOALS[:-1] if reached(config, shot, node, goal)} == goals


@pytest.mark.parametrize(
    ("kernel", "goals"), [(DRAINING, {"drained", "settled", "back"}), (UP, set()), (DOWN, {"drained"})]
)
def test_a_node_that_has_to_wait_is_settled_as_draining(config: Config, kernel: Standing, goals: set[str]) -> None:
    shot = replace(snapshot(config, Report("UP", 1, "L7OK"), kernel), damped={"n1": 42})
    assert {goal for goal in GOALS[:-1] if reached(config, shot, config.nodes["n1"], goal)} == goals


def test_the_advice_for_a_node_that_has_to_wait(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    shot = replace(snapshot(config, Report("UP", 1, "L7OK"), DRAINING), damped={"n1": 42})
    *_, advice = explain(config, shot, config.nodes["n1"], 0)
    assert "no clients for 42 s" in advice
    assert "'set server vpn_back/n1 state maint'" in advice


def test_a_missing_table_reaches_no_goal(config: Config) -> None:
    shot = snapshot(config, Report("UP", 1, "L7OK"), UP)
    half = Snapshot(shot.reports, {"ip": shot.elements["ip"]})
    assert not any(reached(config, half, config.nodes["n1"], goal) for goal in GOALS[:-1])


@pytest.mark.parametrize(
    ("report", "kernel", "advice"),
    [
        (Report("UP", 1, "L7OK"), UP, "nothing to do"),
        (Report("UP", 1, "L7OK"), DOWN, "is wirefleet-steer running"),
        (Report("UP", 0, "L7OK"), DRAINING, "set weight vpn_back/n1 100%"),
        (Report("UP 1/2", 1, "INI"), DOWN, "wait for the next one"),
        (Report("MAINT", 1), DOWN, "set server vpn_back/n1 state ready"),
        (Report("DRAIN", 1, "L7OK"), DRAINING, "an operator drains it here"),
        (Report("NOLB", 1, "L7OKC"), DRAINING, "wirefleet-node undrain"),
        (Report("DOWN", 1, "L4TOUT"), DOWN, "no answer through the probe tunnel"),
        (Report("DOWN", 1, "L7STS", code=503), DOWN, "wirefleet-node status"),
        (Report("DOWN", 1, "L7STS", code=404), DOWN, "wirefleet-node undrain"),
        (Report("DOWN", 1, "L4CON", "Connection refused"), DRAINING, "wirefleet-node status"),
        (Report("DOWN", 1, "L4TOUT"), UP, "look at this balancer and its network"),
        (None, UP, "until HAProxy answers"),
    ],
)
def test_the_advice(
    config: Config, monkeypatch: pytest.MonkeyPatch, report: Report | None, kernel: Standing, advice: str
) -> None:
    lines = list(explain(config, snapshot(config, report, kernel), config.nodes["n1"], 0))
    assert advice in lines[-1]


def test_a_missing_table_is_explained(config: Config) -> None:
    text = "\n".join(explain(config, Snapshot({"n1": Report("UP", 1, "L7OK")}, {}), config.nodes["n1"], 0))
    assert "kernel    ip 10.9.0.11: table wirefleet is missing" in text
    assert "every packet is dropped" in text


def test_a_setting_that_keeps_packets_from_being_forwarded_is_named(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "steer.json").write_text(json.dumps(steer_config(tmp_path, sysctls={"net/no/such": "1"})))
    elements = snapshot(config, None, UP).elements
    monkeypatch.setattr(status.kernel, "read", lambda family, table: elements[family])
    monkeypatch.setattr(status, "count_sessions", lambda config, shot: {})
    for command, words in (("status", "Packets are not forwarded here: "), ("explain n1", "restart wirefleet-steer")):
        cli.main(["--config", str(tmp_path / "steer.json"), *command.split()])
        last = capsys.readouterr().out.splitlines()[-1]
        assert "sysctl net/no/such: missing, wanted 1" in last
        assert words in last


@pytest.mark.parametrize(("kernel", "code"), [(UP, 0), (DRAINING, 1)])
def test_the_command_prints_a_table_and_says_whether_anybody_takes_clients(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    kernel: Standing,
    code: int,
) -> None:
    monkeypatch.setattr(status, "take", lambda config: snapshot(config, None, kernel, n2=DOWN))
    monkeypatch.setattr(status, "count_sessions", lambda config, shot: {})
    assert cli.main(["--config", str(tmp_path / "steer.json"), "status"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "NODE",
        "HAPROXY",
        "KERNEL",
        "WEIGHT",
        "SLOTS",
        "SESSIONS",
        "CLIENTS",
        "SINCE",
        "REASON",
    ]
    assert [line.split()[0] for line in lines[1:]] == ["n1", "n2", "n3"]
    assert cli.main(["--config", str(tmp_path / "steer.json"), "status", "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert [row["kernel"] for row in document.pop("nodes")] == [kernel.value, "down", "down"]
    assert document == {
        "version": 1,
        "daemon": {"version": None, "problem": "the daemon does not answer", "active": None},
        "haproxy": {"version": None, "problem": "admin.sock: gone"},
        "tables": {"ip": True, "ip6": True},
    }


@pytest.mark.parametrize(
    ("status_code", "body", "expected"),
    [
        (200, {"version": 1, "clients": {"n1": 3}}, {"n1": 3}),
        (404, {"error": "Not Found"}, None),  # adoption is off
        (200, {"version": 2}, None),
    ],
)
def test_the_daemon_knows_the_clients(
    tmp_path: Path, status_code: int, body: object, expected: dict[str, int] | None
) -> None:
    server = Server([("127.0.0.1", 0)], lambda request: Response.from_json(status_code, body), "test/1")
    server.start()
    nobody_is_there = ["127.0.0.1", 1]
    document = steer_config(tmp_path, listen=[nobody_is_there, *server.addresses])
    (tmp_path / "steer.json").write_text(json.dumps(document))
    assert status.count_clients(load(tmp_path / "steer.json")) == expected


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[int, object], Config]:
    """Configure a daemon that answers everything in the same way."""

    def answering(code: int, body: object) -> Config:
        server = Server([("127.0.0.1", 0)], lambda request: Response.from_json(code, body), "test/1")
        server.start()
        (tmp_path / "steer.json").write_text(json.dumps(steer_config(tmp_path, listen=server.addresses)))
        return load(tmp_path / "steer.json")

    return answering


NOW = 1_000_000
TENANTS = {"version": 1, "node": "n1", "handshakes": {"old": NOW - 180, "b": NOW - 179, "a": NOW}, "complete": True}


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (200, TENANTS, Clients(3, ("a", "b"), True)),
        (200, {"version": 1, "clients": {"n1": 3}}, None),  # a daemon of an earlier version
        (404, {"error": "Not Found"}, None),  # adoption is off
        (200, ["what?"], None),
    ],
)
def test_who_has_a_session(
    ask: Callable[[int, object], Config], code: int, body: object, expected: Clients | None
) -> None:
    config = ask(code, body)
    assert status.clients_of(config, config.nodes["n1"], NOW) == expected


DRAINED = Report("NOLB", 1, "L7OKC")


@pytest.mark.parametrize(
    ("report", "kernel", "body", "sessions", "expected"),
    [
        pytest.param(Report("UP", 1, "L7OK"), UP, TENANTS, 0, (False, None, ()), id="not drained yet"),
        pytest.param(DRAINED, DRAINING, TENANTS, 9, (False, 2, ("a", "b")), id="two are left"),
        pytest.param(
            DRAINED, DRAINING, {**TENANTS, "handshakes": {"old": NOW - 180}}, 9, (True, 0, ()), id="nobody is left"
        ),
        pytest.param(
            DRAINED,
            DRAINING,
            {**TENANTS, "handshakes": {}, "complete": False},
            0,
            (False, 0, ()),
            id="nobody is known, but somebody may be there",
        ),
        pytest.param(DRAINED, DRAINING, {"error": "no"}, 3, (False, 3, ()), id="only sessions are known"),
        pytest.param(DRAINED, DRAINING, {"error": "no"}, 0, (True, 0, ()), id="all sessions have ended"),
        pytest.param(Report("DOWN", 1, "L4TOUT"), DOWN, {**TENANTS, "handshakes": {}}, 0, (True, 0, ()), id="dead"),
    ],
)
def test_a_node_becomes_empty(
    ask: Callable[[int, object], Config],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    report: Report,
    kernel: Standing,
    body: object,
    sessions: int,
    expected: tuple[bool, int | None, tuple[str, ...]],
) -> None:
    config = ask(200, body)
    monkeypatch.setattr(status.time, "time", lambda: NOW)
    monkeypatch.setattr(status, "take", lambda config: snapshot(config, report, kernel))
    monkeypatch.setattr(status, "count_sessions", lambda config, shot: {config.nodes["n1"].mark: sessions})
    found = status.progress(config, config.nodes["n1"], "empty")
    assert (found.reached, found.left, found.clients) == expected
    command = ["--config", str(tmp_path / "steer.json"), "wait", "n1", "empty", "--timeout", "0", "--json"]
    assert cli.main(command) == (0 if found.reached else 1)
    assert json.loads(capsys.readouterr().out)["left"] == found.left


def test_the_clients_are_explained(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    shot = snapshot(config, Report("UP", 1, "L7OK"), UP)
    lines = list(explain(config, shot, config.nodes["n1"], 0, Clients(5, ("a", "b"), True)))
    assert "  clients   5, 2 of them with a session" in lines


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (503, {"state": "failed", "reasons": ["interface wg0: missing", "a route: missing"]}, None),
        (404, {"state": "drained", "reasons": ["drained by root since noon: new disk"]}, None),
        (200, {"state": "ok", "reasons": []}, "ok"),
        (200, {"state": "\x1b[2J", "reasons": "?"}, "?[2J"),
        (500, ["what?"], "no answer through the mesh"),
    ],
)
def test_the_agents_words_are_explained(config: Config, code: int, body: Any, words: str | None) -> None:
    server = Server([("127.0.0.1", 0)], lambda request: Response.from_json(code, body), "test/1")
    server.start()
    agent = status.ask_agent(replace(config.nodes["n1"], agent=server.addresses[0]))
    lines = list(explain(config, snapshot(config, None, DOWN), config.nodes["n1"], 0, agent=agent))
    assert f"  agent     {words or '; '.join(body['reasons'])}" in lines


def test_an_unknown_node_is_named(config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["--config", str(tmp_path / "steer.json"), "explain", "n9"]) == 2
    assert "n9: no such node; there are n1, n2, n3" in capsys.readouterr().err
