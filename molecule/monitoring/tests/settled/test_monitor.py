# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything is watched, every panel has something to show, and nothing is wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from traffic.cluster import Cluster, fetch, mesh_address
from traffic.hosts import REPOSITORY, until
from traffic.monitor import PROMETHEUS, Monitor, photograph

DASHBOARDS = sorted((REPOSITORY / "roles/vpn_monitor/files/dashboards").glob("*.json"))
VARIABLES = {"$cluster": "default", "$node": ".+", "$balancer": ".+", "$__rate_interval": "30s", "$__range": "1h"}
QUIET_SECONDS = 15  # longer than warnings wait


def test_all_targets_are_up(monitor: Monitor) -> None:
    expected = {(f"wirefleet-{job}", host) for job in ("steer", "haproxy", "host") for host in ("lb1", "lb2")}
    expected |= {(f"wirefleet-{job}", host) for job in ("node", "host") for host in ("n1", "n2")}
    expected |= {("wirefleet-host", "mon")}
    seen = {
        (target["metric"]["job"], target["metric"]["instance"]): target["value"][1]
        for target in monitor.query('up{cluster="default"}')
    }
    assert seen == dict.fromkeys(expected, "1")


def queries() -> Iterator[tuple[str, str]]:
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                expression = target["expr"]
                for name, value in VARIABLES.items():
                    expression = expression.replace(name, value)
                yield f"{dashboard['title']}: {panel['title']}: {expression}", expression


def test_every_panel_has_data(cluster: Cluster, monitor: Monitor) -> None:
    cluster.clients["c1"].reconnect()
    cluster.clients["c1"].host.check_output("ping -c 5 -i 0.2 -W 5 %s", cluster.lab.address("web", "private", 4))
    panels = dict(queries())
    assert len(panels) > 50

    def empty() -> list[str]:
        return [what for what, expression in panels.items() if not monitor.query(expression)]

    until("every panel has data", 60, lambda: not empty(), pause=2)


def test_grafana_would_find_the_dashboards(monitor: Monitor) -> None:
    for kind in ("dashboards", "datasources"):
        assert monitor.host.file(f"/etc/grafana/provisioning/{kind}/wirefleet.yml").exists
    assert PROMETHEUS in monitor.host.file("/etc/grafana/provisioning/datasources/wirefleet.yml").content_string
    for file in DASHBOARDS:
        assert monitor.host.file(f"/etc/prometheus/wirefleet/dashboards/{file.name}").content_string == file.read_text()


def test_nothing_fires_in_order_nor_in_a_drain(cluster: Cluster, monitor: Monitor) -> None:
    monitor.wait_quiet()
    begin = time.time()
    photograph(fetch(cluster.balancer, "http://127.0.0.1:8052/"), "lab-healthy")
    with cluster.drained_at_node(cluster.owner(cluster.clients["c1"])):
        time.sleep(QUIET_SECONDS)
        page = fetch(cluster.balancer, "http://127.0.0.1:8052/")
        photograph(page, "lab-draining")
    time.sleep(QUIET_SECONDS)
    assert monitor.fired(begin) == set()
    assert "1 of 2 nodes take clients" in page
    assert "the node drains itself" in page


@pytest.mark.parametrize("port", [8052, 8404])
def test_status_page_and_statistics_are_on_the_loopback_and_in_the_mesh(cluster: Cluster, port: int) -> None:
    for address in ("127.0.0.1", f"[{mesh_address(cluster.balancer)}]"):
        page = fetch(cluster.balancer, f"http://{address}:{port}/")
        assert "n1" in page
        if port == 8052:
            assert f'href="http://{address}:8404/"' in page, "its link to the statistics"
