# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are clients of two clusters, of which neither notices what happens to the other."""

from __future__ import annotations

import pytest
from testinfra.host import Host
from traffic.cluster import Client, Cluster, peers
from traffic.figures import Figures
from traffic.hosts import REPOSITORY, Lab, until
from traffic.ping import Ping
from traffic.site import InfraRepository, Run

SECOND = ("--extra-vars", f"@{REPOSITORY / 'molecule' / 'client' / 'vars' / 'second.yml'}")
SECONDS = 30


@pytest.fixture(scope="module")
def web2(lab: Lab) -> dict[int, str]:
    """The web server's address in the private network of the second cluster, by version."""
    return {version: lab.address("web", "private2", version) for version in (4, 6)}


def second(
    lab: Lab, infra: InfraRepository, cluster: Cluster, web: dict[int, str], *options: str
) -> tuple[Run, list[Ping]]:
    """Run the second cluster's site playbook, and see how the first one's clients fare."""
    with Ping(cluster.clients["c1"].host, web[4]) as of_c1, Ping(cluster.clients["c2"].host, web[6]) as of_c2:
        run = infra.site(lab.inventory, options=(*SECOND, *options))
    assert run.code == 0, run.output
    return run, [of_c1, of_c2]


@pytest.fixture(scope="module")
def joined(lab: Lab, infra: InfraRepository, cluster: Cluster, web: dict[int, str]) -> list[Ping]:
    return second(lab, infra, cluster, web, "--extra-vars", "vpn_bootstrap=true")[1]


@pytest.fixture(params=["c1", "c2"])
def client(request: pytest.FixtureRequest, cluster: Cluster) -> Client:
    return cluster.clients[request.param]


def unnoticed(pings: list[Ping], figures: Figures, what: str) -> None:
    for ping in pings:
        figures.add(f"second cluster {what}: pings lost by the first", f"{ping.lost} of {ping.sent}")
        assert ping.lost == 0, str(ping)


def test_an_interface_that_the_first_has_is_refused(lab: Lab, infra: InfraRepository, cluster: Cluster) -> None:
    name = ("--extra-vars", "wg_client_interface=wg0")
    run = infra.site(lab.inventory, options=(*SECOND, *name, "--extra-vars", "vpn_bootstrap=true"))
    run.assert_refused("wg_client_interface is wg0")


def test_the_first_does_not_notice_that_its_clients_join_another(joined: list[Ping], figures: Figures) -> None:
    unnoticed(joined, figures, "joined")


@pytest.mark.usefixtures("joined")
def test_both_at_once(client: Client, web: dict[int, str], web2: dict[int, str]) -> None:
    for there in (web, web2):
        until(f"{there[4]} answers", SECONDS, lambda there=there: client.answered(there[4]))  # type: ignore[misc]
        assert "private web server" in client.get(f"http://{there[4]}/")
        assert "private web server" in client.get(f"http://[{there[6]}]/")
    assert received(client.host, "wg0") > 0
    assert received(client.host, "wg1") > 0


def received(host: Host, interface: str) -> int:
    return int(host.check_output("cat /sys/class/net/%s/statistics/rx_bytes", interface))


@pytest.mark.usefixtures("joined")
def test_a_second_run_of_either_changes_nothing(lab: Lab, infra: InfraRepository) -> None:
    infra.site(lab.inventory).assert_unchanged()
    infra.site(lab.inventory, options=SECOND).assert_unchanged()


@pytest.mark.usefixtures("joined")
def test_the_second_is_changed(
    lab: Lab, infra: InfraRepository, cluster: Cluster, web: dict[int, str], web2: dict[int, str], figures: Figures
) -> None:
    run, pings = second(lab, infra, cluster, web, "--extra-vars", '{"wg_client_mtu": 1380, "wg_client_keepalive": 20}')
    assert run.total("changed") == 2, run.output
    unnoticed(pings, figures, "changed")
    for client in cluster.clients.values():
        assert client.host.check_output("cat /sys/class/net/wg1/mtu") == "1380"
        until(f"{client.name} reaches it", SECONDS, lambda client=client: client.answered(web2[4]))  # type: ignore[misc]


@pytest.mark.usefixtures("joined")
def test_the_first_is_down(client: Client, web: dict[int, str], web2: dict[int, str]) -> None:
    client.host.check_output("systemctl stop wg-quick@wg0")
    try:
        assert client.answered(web2[4])
        assert not client.answered(web[4])
    finally:
        client.host.check_output("systemctl start wg-quick@wg0")
    until(f"{client.name} is back", SECONDS, lambda: client.answered(web[4]))


@pytest.mark.usefixtures("joined")
def test_the_second_is_left(
    lab: Lab, infra: InfraRepository, cluster: Cluster, web: dict[int, str], web2: dict[int, str], figures: Figures
) -> None:
    _run, pings = second(lab, infra, cluster, web, "--extra-vars", "wg_client_state=absent")
    unnoticed(pings, figures, "left")
    for client in cluster.clients.values():
        assert client.host.run("ip link show wg1").failed
        assert not client.answered(web2[4])
    infra.site(lab.inventory).assert_unchanged()
    # Nor is what has the name of an interface that was its own once.
    absent = ("--extra-vars", "wg_client_state=absent", "--extra-vars", "wg_client_interface=wg0")
    infra.site(lab.inventory, options=(*SECOND, *absent)).assert_unchanged()
    assert cluster.clients["c1"].answered(web[4])
    assert len(peers(cluster.nodes["n1"], "allowed-ips")) == 3, "two clients, and a probe"
    assert len(peers(lab.host("n2"), "allowed-ips")) == 1, "a probe"
