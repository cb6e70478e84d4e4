# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Each alert fires when it should, and not before; its page says what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import REPOSITORY, promtool, rules

NODES, BALANCERS, STATES = ("n1", "n2"), ("lb1", "lb2"), ("up", "draining", "down")
MINUTES = 30
WRONG_AT = 5  # minutes into each test, which begins with Unix time 0
DAY = 86400
SOON, SOON_TEXT = 3 * DAY, "1970-01-04 00:00:00 +0000 UTC"


def steer(metric: str, balancer: str, **labels: str) -> str:
    return series(f"wirefleet_steer_{metric}", job="wirefleet-steer", instance=balancer, cluster="default", **labels)


def node(metric: str, name: str, **labels: str) -> str:
    return series(
        f"wirefleet_node_{metric}", job="wirefleet-node", instance=name, node=name, cluster="default", **labels
    )


def series(metric: str, **labels: str) -> str:
    listed = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{metric}{{{listed}}}"


def state(balancer: str, name: str, now: str) -> dict[str, int]:
    return {steer("node_state", balancer, node=name, state=each): int(each == now) for each in STATES}


def states(**now: str) -> dict[str, int]:
    """What all balancers think of nodes."""
    return {key: value for lb in BALANCERS for name in now for key, value in state(lb, name, now[name]).items()}


def healthy() -> dict[str, int]:
    values = states(n1="up", n2="up")
    for lb in BALANCERS:
        values[series("up", job="wirefleet-steer", instance=lb, cluster="default")] = 1
        values[steer("active", lb)] = int(lb == "lb1")
        values[steer("shared_addresses", lb)] = 4
        values[steer("haproxy_up", lb)] = 1
        for part in ("haproxy", "table", "forwarding", "owners"):
            values[steer("failing", lb, part=part)] = 0
        values[steer("holding", lb)] = 0
        values[steer("table_restores_total", lb)] = 3
        values[steer("certificate_not_after_seconds", lb)] = 15 * DAY
        values[steer("map_elements", lb, family="ip", map="sessions")] = 80
        values[steer("map_size", lb, family="ip", map="sessions")] = 100
        for name in NODES:
            values[steer("node_agent_heard", lb, node=name)] = 1
            values[steer("node_damped", lb, node=name)] = 0
    for name in NODES:
        values[node("next_client_expiry_seconds", name)] = 8 * DAY
        values[node("conntrack_entries", name)] = 80
        values[node("conntrack_limit", name)] = 100
        values[node("ledger_generation", name)] = 7
        values[node("network_size", name, network="10.80.0.0/24")] = 100
        values[node("network_addresses", name, network="10.80.0.0/24", state="used")] = 70
        values[node("network_addresses", name, network="10.80.0.0/24", state="quarantined")] = 10
        values[node("repairs_total", name, what="table")] = 2
    return values


CRITICAL, WARNING, AT_ONCE = 0.5, 5.0, 0.0  # minutes until it fires
# alert -> what is wrong then, and the labels that say where.
CASES: dict[str, tuple[float, dict[str, int], dict[str, str]]] = {
    "WirefleetNoNode": (CRITICAL, states(n1="draining", n2="draining"), {}),
    "WirefleetAllChecksFail": (CRITICAL, {steer("holding", "lb1"): 1}, {"instance": "lb1", "job": "wirefleet-steer"}),
    "WirefleetNoBalancer": (
        CRITICAL,
        {series("up", job="wirefleet-steer", instance=lb, cluster="default"): 0 for lb in BALANCERS},
        {},
    ),
    "WirefleetNoActiveBalancer": (CRITICAL, {steer("active", "lb1"): 0}, {}),
    "WirefleetNotSteering": (
        CRITICAL,
        {steer("failing", "lb1", part="forwarding"): 1},
        {"instance": "lb1", "job": "wirefleet-steer", "part": "forwarding"},
    ),
    "WirefleetTwoActiveBalancers": (CRITICAL, {steer("active", "lb2"): 1}, {}),
    "WirefleetNodeDown": (WARNING, states(n1="down"), {"node": "n1"}),
    "WirefleetBalancerDown": (
        WARNING,
        {series("up", job="wirefleet-steer", instance="lb2", cluster="default"): 0},
        {"instance": "lb2", "job": "wirefleet-steer"},
    ),
    "WirefleetHAProxyDown": (WARNING, {steer("haproxy_up", "lb2"): 0}, {"instance": "lb2", "job": "wirefleet-steer"}),
    "WirefleetBalancerFails": (
        WARNING,
        {steer("failing", "lb2", part="owners"): 1},
        {"instance": "lb2", "job": "wirefleet-steer", "part": "owners"},
    ),
    "WirefleetBalancersDisagree": (WARNING, state("lb2", "n1", "draining"), {"node": "n1"}),
    "WirefleetAgentSilent": (
        WARNING,
        {steer("node_agent_heard", "lb1", node="n1"): 0},
        {"instance": "lb1", "node": "n1", "job": "wirefleet-steer"},
    ),
    "WirefleetNodeFlapping": (AT_ONCE, {steer("node_damped", "lb1", node="n1"): 1}, {"node": "n1"}),
    "WirefleetMapNearlyFull": (
        WARNING,
        {steer("map_elements", "lb1", family="ip", map="sessions"): 81},
        {"instance": "lb1", "job": "wirefleet-steer", "family": "ip", "map": "sessions"},
    ),
    "WirefleetConntrackNearlyFull": (
        WARNING,
        {node("conntrack_entries", "n1"): 81},
        {"instance": "n1", "job": "wirefleet-node", "node": "n1"},
    ),
    "WirefleetNetworkNearlyFull": (
        WARNING,
        {node("network_addresses", "n1", network="10.80.0.0/24", state="quarantined"): 11},
        {"network": "10.80.0.0/24"},
    ),
    "WirefleetConfigurationDrift": (WARNING, {node("ledger_generation", "n2"): 8}, {}),
    "WirefleetRulesRemoved": (AT_ONCE, {node("repairs_total", "n1", what="table"): 3}, {"instance": "n1"}),
    "WirefleetClientsExpire": (WARNING, {node("next_client_expiry_seconds", "n1"): SOON}, {}),
    "WirefleetCertificateExpires": (
        WARNING,
        {steer("certificate_not_after_seconds", "lb1"): SOON},
        {"instance": "lb1", "job": "wirefleet-steer"},
    ),
}
# What follows from the same fault.
ALSO = {
    "WirefleetNoBalancer": {"WirefleetBalancerDown"},
    "WirefleetNotSteering": {"WirefleetBalancerFails"},
}


def judge(rule_file: Path, directory: Path, wrong: dict[str, int], expected: list[dict[str, Any]]) -> str:
    """Ask promtool; ``wrong`` replaces the healthy values from then on. Empty when all is as expected."""
    before, after = healthy(), {**healthy(), **wrong}
    assert before.keys() == after.keys(), "a metric that nobody exports"
    test = {
        "rule_files": [str(rule_file)],
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [
                    {"series": name, "values": f"{value}x{WRONG_AT * 6 - 1} {after[name]}x{MINUTES * 6}"}
                    for name, value in before.items()
                ],
                "alert_rule_test": expected,
            }
        ],
    }
    file = directory / "test.yml"
    file.write_text(yaml.safe_dump(test))
    result = promtool("test", "rules", file)
    return "" if result.returncode == 0 else result.stdout + result.stderr


def at(minutes: float) -> str:
    return f"{round(minutes * 60)}s"


def test_every_rule_has_a_case(alerts: dict[str, Any]) -> None:
    assert alerts.keys() == CASES.keys()


def test_promtool_finds_nothing(rule_file: Path) -> None:
    result = promtool("check", "rules", "--lint-fatal", rule_file)
    assert result.returncode == 0, result.stderr


def test_healthy_is_quiet(rule_file: Path, tmp_path: Path, alerts: dict[str, Any]) -> None:
    silent = [{"eval_time": at(MINUTES), "alertname": name, "exp_alerts": []} for name in alerts]
    assert judge(rule_file, tmp_path, {}, silent) == ""


def test_a_drain_is_quiet(rule_file: Path, tmp_path: Path, alerts: dict[str, Any]) -> None:
    silent = [{"eval_time": at(MINUTES), "alertname": name, "exp_alerts": []} for name in alerts]
    assert judge(rule_file, tmp_path, states(n1="draining"), silent) == ""


@pytest.mark.parametrize("name", CASES)
def test_fires(rule_file: Path, tmp_path: Path, alerts: dict[str, Any], name: str) -> None:
    patience, wrong, labels = CASES[name]
    alert = alerts[name]
    fired = {
        "exp_labels": {"cluster": "default", **labels, **alert["labels"]},
        "exp_annotations": {key: expand(text, labels) for key, text in alert["annotations"].items()},
    }
    begin = WRONG_AT + patience
    expected = [{"eval_time": at(begin + 0.5), "alertname": name, "exp_alerts": [fired]}]
    if patience:
        expected.append({"eval_time": at(begin - 0.35), "alertname": name, "exp_alerts": []})
    others = alerts.keys() - {name} - ALSO.get(name, set())
    expected += [{"eval_time": at(begin + 0.5), "alertname": other, "exp_alerts": []} for other in others]
    assert judge(rule_file, tmp_path, wrong, expected) == ""


def expand(text: str, labels: dict[str, str]) -> str:
    """An annotation's templates, as Prometheus expands them."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: {"cluster": "default", **labels}[found[1]], text)
    text = text.replace("{{ $value | humanizeTimestamp }}", SOON_TEXT)
    return text.replace('{{ $value | printf "%.0f" }}', "81").replace("{{ $value }}", "2")


@pytest.mark.parametrize(
    ("variable", "metric", "name"),
    [
        ("vpn_monitor_client_expiry_days", node("next_client_expiry_seconds", "n1"), "WirefleetClientsExpire"),
        (
            "vpn_monitor_certificate_expiry_days",
            steer("certificate_not_after_seconds", "lb1"),
            "WirefleetCertificateExpires",
        ),
    ],
)
def test_how_early_an_end_is_announced_is_the_operators(tmp_path: Path, variable: str, metric: str, name: str) -> None:
    """With 0 days, what has not ended yet is no reason for an alert."""
    file = tmp_path / "rules.yml"
    file.write_text(rules(**{variable: "0"}))
    silent = [{"eval_time": at(MINUTES), "alertname": name, "exp_alerts": []}]
    assert judge(file, tmp_path, {metric: SOON}, silent) == ""


def test_durations_and_limits_are_the_operators(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(rules(vpn_monitor_for_critical="7s", vpn_monitor_for_warning="9s", vpn_monitor_full_percent="42"))
    text = file.read_text()
    assert promtool("check", "rules", file).returncode == 0
    assert text.count("for: 7s") == 6
    assert "[9s]" in text
    assert "> 42\n" in text


def test_every_alert_has_a_page(alerts: dict[str, Any]) -> None:
    headings = re.findall(r"^## (\w+)$", (REPOSITORY / "docs/runbooks.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(alerts)
    for name, alert in alerts.items():
        assert alert["annotations"]["runbook_url"].endswith(f"/docs/runbooks.md#{name.lower()}")
