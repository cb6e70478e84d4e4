# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._status import cluster_report, duration, status_lines

DEAD = {"answer": None, "problem": "can not be reached: no route to host"}


def row(node: str, **changes: Any) -> dict[str, Any]:
    """A line of `wirefleet-steer status --json`."""
    said = {
        "node": node,
        "haproxy": "UP",
        "kernel": "up",
        "weight": 100,
        "slots": 512,
        "sessions": 7,
        "clients": 5,
        "since": 7200,
        "reason": "Layer7 check passed",
    }
    return {**said, **changes}


def balancer(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    answer = {
        "version": 1,
        "daemon": {"version": "0.1.0", "problem": None, "active": True},
        "haproxy": {"version": "2.6.12", "problem": None},
        "tables": {"ip": True, "ip6": True},
        "nodes": list(rows),
    }
    return {"answer": {**answer, **changes}, "problem": None}


def node(**changes: Any) -> dict[str, Any]:
    host = {"kernel": "6.1.0", "wireguard": "kernel"}
    answer = {"version": "0.1.0", "node": "n1", "state": "ok", "reasons": [], "drain": None, "host": host}
    return {"answer": {**answer, **changes}, "problem": None}


def report(nodes: dict[str, Any], balancers: dict[str, Any]) -> dict[str, Any]:
    return cluster_report("default", "0.1.0", nodes, balancers)


def test_a_cluster_in_order() -> None:
    found = report({"n1": node(), "n2": node()}, {"lb1": balancer(row("n1"), row("n2", clients=0))})
    assert found["differences"] == []
    assert found["nodes"]["n1"] == {
        "state": "up",
        "weight": 100,
        "clients": 5,
        "sessions": 7,
        "since": 7200,
        "reason": "",
        "drain": None,
        "agent": node()["answer"],
        "balancers": {"lb1": {key: value for key, value in row("n1").items() if key != "node"}},
    }
    assert found["balancers"]["lb1"] == {
        "problems": [],
        "active": True,
        "daemon": "0.1.0",
        "haproxy": "2.6.12",
        "tables": {"ip": True, "ip6": True},
    }
    assert status_lines(found) == [
        "Cluster default: 2 of 2 nodes take clients, 5 clients.",
        "",
        "NODE  STATE  WEIGHT  CLIENTS  SESSIONS  SINCE  AGENT  KERNEL  WIREGUARD  REASON",
        "n1    up     100     5        7         2 h    0.1.0  6.1.0   kernel",
        "n2    up     100     0        7         2 h    0.1.0  6.1.0   kernel",
        "",
        "BALANCER  ROLE    DAEMON  HAPROXY  TABLES   PROBLEMS",
        "lb1       active  0.1.0   2.6.12   ip, ip6",
    ]


def test_a_dead_node_and_a_drained_one() -> None:
    order = {"by": "alice", "since": "2026-11-22T20:00:00+00:00", "reason": "new kernel"}
    reasons = ["drained by alice since 2026-11-22T20:00:00+00:00: new kernel"]
    found = report(
        {"n1": DEAD, "n2": node(state="drained", reasons=reasons, drain=order)},
        {"lb1": balancer(row("n1", kernel="down", reason="Layer4 timeout"), row("n2", kernel="draining"))},
    )
    assert (found["nodes"]["n1"]["state"], found["nodes"]["n1"]["reason"]) == ("down", DEAD["problem"])
    assert (found["nodes"]["n2"]["reason"], found["nodes"]["n2"]["drain"]) == (reasons[0], order)
    lines = status_lines(found)
    assert lines[0] == "Cluster default: 0 of 2 nodes take clients, 10 clients."
    assert lines[3].endswith(f"-      -       -          {DEAD['problem']}")


def test_a_balancers_reason_where_the_node_has_none() -> None:
    found = report({"n1": node()}, {"lb1": balancer(row("n1", kernel="down", reason="Layer4 timeout"))})
    assert found["nodes"]["n1"]["reason"] == "lb1: Layer4 timeout"


@pytest.mark.parametrize(
    ("nodes", "second", "differences"),
    [
        (
            {"n1": node()},
            balancer(row("n1", kernel="draining", weight=50)),
            ["n1: state is up at lb1, draining at lb2", "n1: weight is 100 at lb1, 50 at lb2"],
        ),
        ({"n1": node()}, balancer(), ["n1: not known to lb2"]),
        ({"n1": node()}, DEAD, []),
        ({"n1": node(version="0.0.9")}, balancer(row("n1")), ["n1: its agent is 0.0.9, the collection here 0.1.0"]),
        (
            {"n1": node()},
            balancer(row("n1"), daemon={"version": "0.0.9", "problem": None}),
            ["lb2: its daemon is 0.0.9, the collection here 0.1.0"],
        ),
        ({"n1": node(), "n2": node()}, balancer(row("n1")), ["n2: not known to lb1, lb2"]),
    ],
)
def test_differences_are_named(nodes: dict[str, Any], second: dict[str, Any], differences: list[str]) -> None:
    found = report(nodes, {"lb1": balancer(row("n1")), "lb2": second})
    assert found["differences"] == differences
    assert status_lines(found)[-len(differences) :] == differences or not differences


def test_two_balancers_see_one_node() -> None:
    second = balancer(row("n1", kernel="down", clients=None, sessions=9, since=30))
    found = report({"n1": node()}, {"lb1": balancer(row("n1")), "lb2": second})["nodes"]["n1"]
    assert found["state"] == "up at lb1, down at lb2"
    assert (found["weight"], found["clients"], found["sessions"], found["since"]) == (100, 5, 9, 30)
    assert found["balancers"]["lb2"]["kernel"] == "down"


@pytest.mark.parametrize(
    ("said", "role"),
    [({"active": True}, "active"), ({"active": False}, "standby"), ({}, "-")],
    ids=["yes", "no", "old"],
)
def test_which_balancer_is_active(said: dict[str, Any], role: str) -> None:
    lines = status_lines(report({}, {"lb2": balancer(daemon={"version": "0.1.0", "problem": None, **said})}))
    assert lines[-2].split()[:2] == ["BALANCER", "ROLE"]
    assert lines[-1].split()[:3] == ["lb2", role, "0.1.0"]


def test_a_balancer_in_trouble() -> None:
    broken = balancer(
        daemon={"version": None, "problem": "the daemon does not answer"},
        haproxy={"version": None, "problem": "admin.sock: gone"},
        tables={"ip": True, "ip6": False},
    )
    found = report({}, {"lb1": broken, "lb2": DEAD})
    assert found["balancers"]["lb1"]["problems"] == [
        "daemon: the daemon does not answer",
        "haproxy: admin.sock: gone",
        "the ip6 table is missing",
    ]
    assert found["balancers"]["lb2"]["problems"] == [DEAD["problem"]]


@pytest.mark.parametrize(
    ("kernel", "takes"),
    [("up", 1), ("up (held)", 1), ("ip up, ip6 draining", 1), ("draining (damped)", 0), ("down", 0)],
)
def test_a_node_counts_while_it_is_given_clients(kernel: str, takes: int) -> None:
    found = report({"n1": DEAD}, {"lb1": balancer(row("n1", kernel=kernel)), "lb2": balancer(row("n1", kernel="down"))})
    assert status_lines(found)[0].startswith(f"Cluster default: {takes} of 1 nodes take clients")


def test_nobody_answers() -> None:
    found = report({"n1": DEAD}, {"lb1": DEAD})
    assert found["nodes"]["n1"]["state"] is None
    assert status_lines(found)[0] == "Cluster default: no balancer was asked, or answered."
    assert status_lines(found)[3].split()[:3] == ["n1", "unknown", "-"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (86400, "1 d"), (200000, "2 d")]
)
def test_durations(seconds: int, text: str) -> None:
    assert duration(seconds) == text
