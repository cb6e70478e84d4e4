# SPDX-License-Identifier: GPL-3.0-or-later
"""A client leaves, a client and a node join, in one run. Whoever stays notices nothing."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
from traffic.cluster import SLOTS, SLOTS_TOLERANCE, Client, Cluster, fetch, peers
from traffic.figures import Figures
from traffic.hosts import REPOSITORY, Lab
from traffic.ping import Ping
from traffic.site import InfraRepository, Run

CHANGE = REPOSITORY / "molecule" / "default" / "change"
REKEY_SECONDS = 120


def ledger(cluster: Cluster) -> dict[tuple[str, str], dict[str, Any]]:
    """The entries of a node's ledger, by kind and name."""
    lines = cluster.nodes["n1"].check_output("cat /etc/wirefleet/default/ledger.jsonl").splitlines()
    entries = [entry for entry in map(json.loads, lines) if "name" in entry]
    return {(entry["kind"], entry["name"]): entry for entry in entries}


@dataclass(frozen=True)
class Change:
    """What was there before the run, and what happened during it."""

    run: Run
    ledger: dict[tuple[str, str], dict[str, Any]]
    key_of_c2: str
    owner: str
    handshakes: tuple[int, int]
    ping: Ping


@pytest.fixture(scope="module")
def change(lab: Lab, cluster: Cluster, infra: InfraRepository, web: dict[int, str], c1: Client, c2: Client) -> Change:
    before, key = ledger(cluster), c2.key
    cluster.place(c1, "n2")
    first = c1.handshake
    with Ping(c1.host, web[4], 0.1) as ping:
        run = infra.site(lab.inventory, CHANGE)
    return Change(run, before, key, cluster.owner(c1), (first, c1.handshake), ping)


@pytest.fixture(scope="module")
def changed(lab: Lab, change: Change) -> Cluster:
    """The cluster with its new members."""
    assert change.run.code == 0, change.run.output
    return Cluster(lab, nodes=["n1", "n2", "n3", "n4"], clients=["c1", "c3"])


def test_who_stays_notices_nothing(change: Change, figures: Figures) -> None:
    assert change.run.code == 0, change.run.output
    figures.add("members changed: pings lost by another client", f"{change.ping.lost} of {change.ping.sent}")
    assert change.ping.lost == 0, str(change.ping)
    assert change.owner == "n2"
    # The same session, or the next one in its time.
    first, last = change.handshakes
    assert last == first or last - first >= REKEY_SECONDS


def test_who_left_is_gone_everywhere(lab: Lab, changed: Cluster, change: Change) -> None:
    assert not [name for name, node in changed.nodes.items() if change.key_of_c2 in peers(node, "allowed-ips")]
    assert lab.host("c2").run("ip link show wg0").failed
    assert "released" in ledger(changed)["client", "c2"]


def test_nobody_was_renumbered(changed: Cluster, change: Change) -> None:
    now = ledger(changed)
    for who, entry in change.ledger.items():
        assert now[who]["addresses"] == entry["addresses"], who
    assert now["client", "c3"]["addresses"] not in [entry["addresses"] for entry in change.ledger.values()]


@pytest.mark.parametrize("version", [4, 6])
def test_who_joined_is_served(changed: Cluster, web: dict[int, str], version: int) -> None:
    host = f"[{web[version]}]" if version == 6 else web[version]
    assert "wirefleet lab" in changed.clients["c3"].get(f"http://{host}/")


def test_the_new_node_has_its_share(changed: Cluster, web: dict[int, str]) -> None:
    slots = {node: row["slots"] for node, row in changed.states().items()}
    assert slots.keys() == changed.nodes.keys()
    assert all(abs(share - SLOTS / 4) < SLOTS_TOLERANCE for share in slots.values()), slots
    changed.place(changed.clients["c3"], "n4")
    assert "wirefleet lab" in changed.clients["c3"].get(f"http://{web[4]}/")


def test_the_monitoring_knows_the_new_node(changed: Cluster) -> None:
    metrics = fetch(changed.balancer, "http://127.0.0.1:8404/metrics")
    assert 'haproxy_server_status{proxy="vpn_back",server="n4",state="UP"} 1' in metrics


def test_a_second_run_changes_nothing(lab: Lab, changed: Cluster, infra: InfraRepository, figures: Figures) -> None:
    begin = time.monotonic()
    infra.site(lab.inventory, CHANGE).assert_unchanged()
    figures.add("a run that has nothing to do, four nodes", time.monotonic() - begin, "s")
