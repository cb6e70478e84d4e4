# SPDX-License-Identifier: GPL-3.0-or-later
"""Every alert is fired by what it is there for, and resolves by itself when that is over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from testinfra.host import Host
from traffic import conntrack
from traffic.cluster import Cluster, fetch
from traffic.hosts import Lab, until
from traffic.monitor import ALERT_SECONDS, Monitor, photograph

USAGE, EXPIRY = "/etc/wirefleet/default/usage.json", "/etc/wirefleet/default/expiry.json"
STEER = "/etc/wirefleet/default/steer.json"
VIP = "2001:db8:12::1"


@pytest.fixture
def standby(lab: Lab) -> Cluster:
    """The cluster as the balancer sees it that is not active."""
    name = next(n for n in ("lb1", "lb2") if not lab.host(n).check_output("ip -brief address show to %s", VIP))
    return Cluster(lab, nodes=["n1", "n2"], clients=["c1"], balancer=name)


@pytest.fixture
def active(lab: Lab, standby: Cluster) -> Cluster:
    name = next(n for n in ("lb1", "lb2") if lab.host(n) is not standby.balancer)
    return Cluster(lab, nodes=["n1", "n2"], clients=["c1"], balancer=name)


@contextmanager
def fires(monitor: Monitor, *alerts: str) -> Iterator[None]:
    """The alerts fire because of what is done in the block; whoever calls takes it back, and ``wait_quiet`` follows."""
    monitor.wait_quiet()
    begin = time.time()
    yield
    monitor.wait_fired(alerts, begin)


def services(host: Host, verb: str, *units: str) -> None:
    host.check_output("systemctl %s " + " ".join(units), verb)


def test_one_balancer_is_in_trouble(monitor: Monitor, active: Cluster, standby: Cluster) -> None:
    filling = ", ".join(f"198.18.12.200 . {port} : 0x1fffffff" for port in range(2000, 2900))
    before = standby.balancer.check_output("cat %s", STEER)
    ending = {**json.loads(before), "certificate_not_after": time.time() + 3 * 86400}
    alerts = ("WirefleetHAProxyDown", "WirefleetBalancerFails", "WirefleetBalancersDisagree", "WirefleetMapNearlyFull")
    try:
        with fires(monitor, *alerts, "WirefleetCertificateExpires"):
            standby.balancer.check_output("echo %s > %s", json.dumps(ending), STEER)
            services(standby.balancer, "restart", "wirefleet-steer")
            services(standby.balancer, "stop", "haproxy")
            standby.balancer.check_output("sysctl -w net.ipv4.ip_forward=0")
            active.admin("set server vpn_back/n1 state drain")
            active.balancer.check_output("nft add element ip wirefleet affinity { %s }", filling)
        assert "WirefleetBalancersDisagree" in monitor.sent()
    finally:
        services(standby.balancer, "start", "haproxy")
        standby.balancer.check_output("echo %s > %s", before, STEER)
        services(standby.balancer, "restart", "wirefleet-steer")
        active.admin("set server vpn_back/n1 state ready")
        active.balancer.check_output("nft delete element ip wirefleet affinity { %s }", filling)
    monitor.wait_quiet()


def test_nodes_differ_and_lose_their_rules(cluster: Cluster, monitor: Monitor) -> None:
    n2 = cluster.nodes["n2"]
    before = {file: n2.check_output("cat %s", file) for file in (USAGE, EXPIRY)}
    usage = json.loads(before[USAGE])
    usage["generation"] += 1
    usage["networks"][0]["used"] = usage["networks"][0]["size"]
    expiry = {"version": 1, "expires": {"somebody": time.time() + 3 * 86400}}
    differ = ("WirefleetConfigurationDrift", "WirefleetNetworkNearlyFull", "WirefleetClientsExpire")
    try:
        with fires(monitor, *differ, "WirefleetRulesRemoved"):
            n2.check_output("echo %s > %s", json.dumps(usage), USAGE)
            n2.check_output("echo %s > %s", json.dumps(expiry), EXPIRY)
            n2.check_output("nft delete table inet wirefleet_node")
    finally:
        for file, content in before.items():
            n2.check_output("echo %s > %s", content, file)
    monitor.wait_quiet()


def test_a_node_tracks_nearly_as_much_as_it_can(cluster: Cluster, monitor: Monitor) -> None:
    n2 = cluster.nodes["n2"]
    with fires(monitor, "WirefleetConntrackNearlyFull"), conntrack.filled(n2, 0.85):
        until("it is sent", ALERT_SECONDS, lambda: "WirefleetConntrackNearlyFull" in monitor.sent())
        assert cluster.states()["n2"]["kernel"] == "up", "it is no trouble yet"
    monitor.wait_quiet()


def test_no_node_takes_clients(cluster: Cluster, monitor: Monitor, standby: Cluster) -> None:
    """Besides, one agent is not there, and a balancer takes an address that another has."""
    try:
        with fires(monitor, "WirefleetNoNode", "WirefleetAgentSilent", "WirefleetTwoActiveBalancers"):
            for node in cluster.nodes.values():
                node.check_output("wirefleet-node drain --reason 'a test'")
            cluster.wait("n1", "drained")
            services(cluster.nodes["n1"], "stop", "wirefleet-node")
            standby.balancer.check_output("ip address add %s/64 dev public nodad", VIP)
    finally:
        standby.balancer.check_output("ip address del %s/64 dev public", VIP)
        services(cluster.nodes["n1"], "start", "wirefleet-node")
        for node in cluster.nodes.values():
            node.check_output("wirefleet-node undrain")
    monitor.wait_quiet()


def test_no_balancer(cluster: Cluster, monitor: Monitor, active: Cluster, standby: Cluster) -> None:
    hosts = [active.balancer, standby.balancer]
    try:
        with fires(monitor, "WirefleetNoActiveBalancer"):
            for host in hosts:
                services(host, "stop", "wirefleet-keepalived")
        begin = time.time()
        for host in hosts:
            services(host, "stop", "wirefleet-steer")
        monitor.wait_fired(["WirefleetNoBalancer", "WirefleetBalancerDown"], begin)
    finally:
        for host in hosts:
            services(host, "start", "wirefleet-steer", "wirefleet-keepalived")
    monitor.wait_quiet()


def test_nodes_die(lab: Lab, cluster: Cluster, monitor: Monitor, active: Cluster) -> None:
    """One node dies twice, which is flapping; then all do."""
    with fires(monitor, "WirefleetNodeDown"):
        lab.befall("cut", "n2")
    photograph(fetch(active.balancer, "http://127.0.0.1:8052/"), "lab-failed")
    lab.befall("mend", "n2")
    active.wait("n2", "up")
    with fires(monitor, "WirefleetNodeFlapping"):
        services(cluster.nodes["n2"], "stop", "wg-quick@wg0")
        until("n2 is down", 30, lambda: active.states()["n2"]["kernel"] == "down")
        services(cluster.nodes["n2"], "start", "wg-quick@wg0")
    active.wait("n2", "up")
    with fires(monitor, "WirefleetAllChecksFail"):
        for node in cluster.nodes.values():
            services(node, "stop", "wg-quick@wg0")
    for node in cluster.nodes.values():
        services(node, "start", "wg-quick@wg0")
    monitor.wait_quiet()
