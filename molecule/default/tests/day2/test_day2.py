# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks of day 2 as an operator runs them, by their full names, with the collection as it is shipped."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from traffic.cluster import Client, Cluster
from traffic.figures import Figures
from traffic.hosts import Lab
from traffic.ping import Ping
from traffic.site import InfraRepository, Run

UPDATE = """\
- name: Restart WireGuard, as an update of it does
  ansible.builtin.systemd_service: {name: wg-quick@wg0, state: restarted}
- name: Break a node
  ansible.builtin.command: "test {{ inventory_hostname }} != {{ broken | default('none') }}"
  changed_when: false
"""


class Operator:
    """Somebody with the collection, an inventory and a file of tasks."""

    def __init__(self, lab: Lab, infra: InfraRepository, directory: Path) -> None:
        self._lab, self._infra = lab, infra
        self.report = directory / "status.json"
        self.tasks = directory / "update.yml"
        self.tasks.write_text(UPDATE)

    def play(self, name: str, *options: str, **variables: str) -> Run:
        extra = [f"--extra-vars={name}={value}" for name, value in variables.items()]
        return self._infra.play(f"wirefleet.vpn.{name}", self._lab.inventory, options=(*options, *extra))

    def status(self, *options: str) -> dict:
        """The report, by a run that changes nothing."""
        self.play("status", *options, vpn_status_file=str(self.report)).assert_unchanged()
        report: dict = json.loads(self.report.read_text())
        return report


@pytest.fixture(scope="module")
def operator(lab: Lab, infra: InfraRepository, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(lab, infra, tmp_path_factory.mktemp("operator"))


@pytest.mark.parametrize(
    ("playbook", "options", "complaint"),
    [
        ("drain", (), "No node is meant"),
        ("undrain", (), "No node is meant"),
        ("drain", ("-e", "vpn_target=n9"), "vpn_target names n9, which is no node of this cluster"),
        ("drain", ("-e", "vpn_target=n1,n2,n3"), "Without n1, n2, n3 no node takes clients"),
        ("drain", ("--limit", "wireguard_nodes"), "no node takes clients"),
        ("drain", ("-e", "vpn_target=n1", "-e", "vpn_drain_timeout=soon"), "vpn_drain_timeout"),
        ("rolling_update", ("-e", "vpn_update_tasks=absent.yml"), "there is no file"),
    ],
)
def test_what_is_not_clear_is_refused(
    operator: Operator, playbook: str, options: tuple[str, ...], complaint: str
) -> None:
    operator.play(playbook, *options).assert_refused(complaint)


def test_a_drain_empties_a_node_without_a_lost_packet(
    cluster: Cluster, operator: Operator, c1: Client, web: dict[int, str], figures: Figures
) -> None:
    cluster.place(c1, "n1")
    predicted = operator.play("drain", "--limit", "n1", "--check")
    assert (predicted.code, predicted.total("changed")) == (0, 1), predicted.output
    assert cluster.states()["n1"]["kernel"] == "up"
    with Ping(c1.host, web[4], 0.05) as ping:
        begin = time.monotonic()
        run = operator.play("drain", "--limit", "n1", vpn_drain_reason="test")
        figures.add("playbook drain", time.monotonic() - begin, "s")
        assert (run.code, run.total("changed")) == (0, 1), run.output
        assert "n1 is empty" in run.output
        assert cluster.owner(c1) != "n1"
    assert ping.lost == 0, str(ping)

    operator.play("drain", vpn_target="n1", vpn_drain_reason="another").assert_unchanged()
    report = operator.status("--check")
    seen = report["nodes"]["n1"]
    assert (seen["state"], seen["clients"], seen["drain"]["reason"]) == ("draining", 0, "test")
    assert report["balancers"]["lb1"]["problems"] == report["differences"] == []

    given_back = operator.play("undrain", vpn_target="n1")
    assert (given_back.code, given_back.total("changed")) == (0, 1), given_back.output
    operator.play("undrain", vpn_target="n1").assert_unchanged()
    assert cluster.states()["n1"]["kernel"] == "up"


def test_a_silent_client_is_named_and_the_node_stays_drained(
    lab: Lab, cluster: Cluster, operator: Operator, c1: Client
) -> None:
    cluster.place(c1, "n1")
    lab.befall("cut", "c1")
    try:
        run = operator.play("drain", vpn_target="n1", vpn_drain_timeout="4")
        assert run.code != 0, run.output
        assert "n1 is draining, 1 client left: c1" in run.output
        assert "wirefleet.vpn.undrain" in run.output
        assert cluster.states()["n1"]["kernel"] == "draining"
    finally:
        lab.befall("mend", "c1")
    assert operator.play("undrain", vpn_target="n1").code == 0


def starts_of_wireguard(cluster: Cluster) -> dict[str, str]:
    """When each node's client-facing interface was set up."""
    ask = "systemctl show --property=ActiveEnterTimestampMonotonic wg-quick@wg0"
    return {name: node.check_output(ask) for name, node in cluster.nodes.items()}


def test_an_update_goes_from_node_to_node(cluster: Cluster, operator: Operator) -> None:
    """The first is given back, the second breaks, the third is not touched; then all again, one drained by somebody."""
    tasks = str(operator.tasks)
    before = starts_of_wireguard(cluster)
    stopped = operator.play("rolling_update", vpn_update_tasks=tasks, broken="n2")
    assert stopped.code != 0
    assert "The update stopped at n2" in stopped.output
    assert "Not touched: n3" in stopped.said
    now = starts_of_wireguard(cluster)
    assert {name for name in now if now[name] != before[name]} == {"n1", "n2"}
    assert {name: row["kernel"] != "up" for name, row in cluster.states().items()} == {
        "n1": False,
        "n2": True,
        "n3": False,
    }

    cluster.nodes["n3"].check_output("wirefleet-node drain --reason disk")
    cluster.wait("n3", "drained")
    finished = operator.play("rolling_update", "--limit", "n2,n3", vpn_update_tasks=tasks)
    assert finished.code == 0, finished.output
    cluster.wait("n2", "up", 5)
    assert operator.status()["nodes"]["n3"]["drain"]["reason"] == "disk"
    assert operator.play("undrain", vpn_target="n3").code == 0


def test_a_dead_node_is_a_line_in_the_table_and_stops_an_update(lab: Lab, cluster: Cluster, operator: Operator) -> None:
    lab.befall("kill", "n1")
    try:
        seen = operator.status()["nodes"]["n1"]
        assert seen["agent"] is None
        assert seen["reason"].startswith("can not be reached"), seen
        stopped = operator.play("rolling_update", vpn_update_tasks=str(operator.tasks))
        assert stopped.code != 0
        said = stopped.said
        assert "n1: can not be reached" in said, stopped.output
        assert "Not touched: n1, n2, n3." in said, stopped.output
        assert stopped.total("changed") == 0
    finally:
        lab.befall("start", "n1")
        cluster.wait("n1", "up", 90)
