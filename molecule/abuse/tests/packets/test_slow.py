# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the mesh, as somebody has taken them over, hold connections to the others' HTTP servers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from traffic.cluster import Cluster, mesh_address, status
from traffic.figures import Figures
from traffic.hosts import REPOSITORY, Lab, until

PROGRAM = Path(REPOSITORY, "tests", "traffic", "slow.py").read_text()
CONNECTIONS = 500
SECONDS = 25
ENDED_SECONDS = 15  # in which each has to be ended: 10 s are HAProxy's longest


@pytest.mark.parametrize(
    ("server", "port", "page", "attacker", "asker"),
    [
        ("n1", 8051, "/healthz", "n2", "lb1"),
        ("lb1", 8052, "/healthz", "n2", "lb2"),
        ("lb1", 8404, "/metrics", "n2", "lb2"),
    ],
    ids=["node agent", "steering daemon", "HAProxy's statistics"],
)
def test_slow_clients_keep_nobody_waiting(
    lab: Lab, cluster: Cluster, figures: Figures, server: str, port: int, page: str, attacker: str, asker: str
) -> None:
    address = mesh_address(lab.host(server))
    unit = f"slow-{time.time_ns()}"
    log = f"/run/{unit}"
    before = {name: row["haproxy"] for name, row in cluster.states().items()}
    lab.host(attacker).check_output(
        "systemd-run --quiet --unit=%s --property=StandardOutput=file:%s python3 -c %s %s %s %s %s",
        *(unit, log, PROGRAM, address, str(port), str(CONNECTIONS), str(SECONDS)),
    )
    answers, slowest = [], 0.0
    while lab.host(attacker).run("systemctl is-active --quiet %s", unit).succeeded:
        begin = time.monotonic()
        answers.append(status(lab.host(asker), f"http://[{address}]:{port}{page}"))
        slowest = max(slowest, time.monotonic() - begin)
        assert {name: row["haproxy"] for name, row in cluster.states().items()} == before
        time.sleep(0.5)
    ended = int(lab.host(attacker).check_output("cat %s", log))
    figures.add(
        f"{CONNECTIONS} slow connections to {server}:{port}: slowest of {len(answers)} answers to others", slowest, "s"
    )
    figures.add(f"{CONNECTIONS} slow connections to {server}:{port}: ended in {SECONDS} s", ended)
    assert set(answers) == {200}, answers
    assert ended > 0, "none was held for all the time"
    until("the server is as it was", 10, lambda: status(lab.host(asker), f"http://[{address}]:{port}{page}") == 200)
