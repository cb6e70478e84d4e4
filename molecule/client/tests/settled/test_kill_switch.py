# SPDX-License-Identifier: GPL-3.0-or-later
"""A client with a kill switch: nothing leaves it around the tunnel, whatever happens, and its operator stays in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host
from traffic.cluster import Client, Cluster
from traffic.hosts import Lab, until
from traffic.leaks import Leaks
from traffic.site import InfraRepository
from traffic.transport import comes_by, without_udp

UNIT = "wirefleet-kill-switch"
NOWHERE = {4: "192.0.2.1", 6: "2001:db8:ffff::1"}
SECONDS = 60


@pytest.fixture(scope="module")
def host(c1: Client) -> Host:
    return c1.host


@pytest.fixture(scope="module")
def outside(lab: Lab) -> dict[int, str]:
    """Somebody on the network that the client is connected to: to reach them takes no router."""
    return {version: lab.address("c2", "public", version) for version in (4, 6)}


def leaks(lab: Lab, host: str) -> Leaks:
    balancer = lab.address("lb1", "public", 4)
    return Leaks(
        lab,
        host,
        ("public", "uplink"),
        [f"ip daddr {balancer} udp dport 51820", f"ip daddr {balancer} tcp dport 443", "ip daddr 10.87.134.128/25"],
    )


@pytest.fixture
def watched(lab: Lab) -> Iterator[Leaks]:
    with leaks(lab, "c1") as watch:
        yield watch


def speaks(host: Host, outside: dict[int, str]) -> list[str]:
    """Try to send something to everywhere; return what somebody outside answered."""
    for target in NOWHERE.values():  # only the watch can say whether that left
        host.run("ping -c 1 -W 1 %s; echo question | nc -u -w 1 %s 53", target, target)
    tries = {f"ping {target}": f"ping -c 1 -W 1 {target}" for target in outside.values()}
    tries |= {f"TCP to {target}": f"nc -z -w 1 {target} 22" for target in outside.values()}
    return [what for what, command in tries.items() if host.run(command).succeeded]


def table(host: Host) -> bool:
    return "table inet wirefleet_kill_switch" in host.check_output("nft list tables").splitlines()


def test_the_watch_sees_what_leaves(lab: Lab, cluster: Cluster, outside: dict[int, str]) -> None:
    """Else nothing below would prove anything: c2 has no kill switch."""
    with leaks(lab, "c2") as watch:
        cluster.clients["c2"].host.run("ping -c 1 -W 1 %s", lab.address("c1", "public", 4))
        cluster.clients["c2"].host.run("ping -c 1 -W 1 %s", NOWHERE[4])
        # Its resolver may have sent something, too.
        assert {f"{NOWHERE[4]} icmp", f"{lab.address('c1', 'public', 4)} icmp"} <= set(watch.seen())


def test_through_the_tunnel_all_is_reached(host: Host, c1: Client, web: dict[int, str], watched: Leaks) -> None:
    assert "private web server" in c1.get(f"http://{web[4]}/")
    assert "private web server" in c1.get(f"http://[{web[6]}]/")
    # From the node on, the way to the package mirror.
    host.check_output("apt-get update")
    assert watched.seen() == []


def test_around_it_nobody_is_reached(host: Host, outside: dict[int, str], watched: Leaks) -> None:
    assert speaks(host, outside) == []
    assert watched.seen() == []


TROUBLE = {
    "the tunnel is taken down": "systemctl stop wg-quick@wg0",
    "the interface is deleted": "ip link delete wg0",
    "the rules' keeper is stopped, and the tunnel": f"systemctl stop {UNIT} wg-quick@wg0",
    "the rules' keeper is killed, and the tunnel": f"systemctl kill --signal KILL {UNIT}; systemctl stop wg-quick@wg0",
    "the rules are flushed, with the tunnel down": "systemctl stop wg-quick@wg0; nft flush ruleset; sleep 1",
    "all that is ours is stopped": f"systemctl stop wg-quick@wg0 wirefleet-client wirefleet-shim {UNIT}",
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_nor_when(
    host: Host, c1: Client, outside: dict[int, str], web: dict[int, str], watched: Leaks, trouble: str
) -> None:
    host.check_output(TROUBLE[trouble])
    assert table(host)
    assert speaks(host, outside) == []
    assert not c1.answered(web[4])
    host.check_output(f"systemctl restart {UNIT} wg-quick@wg0; systemctl start wirefleet-client wirefleet-shim")
    until("the tunnel is back", SECONDS, lambda: c1.answered(web[4]))
    assert watched.seen() == []


def test_nor_after_a_reboot(
    lab: Lab, host: Host, c1: Client, outside: dict[int, str], web: dict[int, str], watched: Leaks
) -> None:
    lab.befall("kill", "c1")
    lab.befall("start", "c1")
    assert table(host)
    assert speaks(host, outside) == []
    until("the tunnel is back", SECONDS, lambda: c1.answered(web[4]))
    assert watched.seen() == []


def test_it_lets_tcp_out_too(
    host: Host, c1: Client, outside: dict[int, str], web: dict[int, str], watched: Leaks
) -> None:
    with without_udp(host):
        host.run("ping -c 20 -i 0.5 -W 1 %s", web[4])  # it has to be used to be doubted
        comes_by(host, "tcp", SECONDS)
        until("the tunnel goes by TCP", SECONDS, lambda: c1.answered(web[4]))
        assert "private web server" in c1.get(f"http://{web[4]}/")
        assert speaks(host, outside) == []
    comes_by(host, "udp", 2 * SECONDS)
    assert watched.seen() == []


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        (
            '{"wg_client_kill_switch_allow": ["192.0.2.0/24"]}',
            "would cut off this very connection, which comes from 10.87.134.129",
        ),
        ('{"wg_client_allowed_networks": ["10.20.35.0/24"]}', "has neither 0.0.0.0/0 nor ::/0"),
        ('{"vpn_endpoint": "nobody.invalid"}', "vpn_endpoint is nobody.invalid, which the controller can not look up"),
    ],
)
def test_what_would_do_harm_is_refused(lab: Lab, infra: InfraRepository, variables: str, complaint: str) -> None:
    run = infra.site(lab.inventory, options=("--extra-vars", variables))
    assert run.code, run.output
    assert complaint in " ".join(run.output.split()), run.output
    assert run.total("changed") == 0, run.output


def test_it_can_be_turned_off(
    lab: Lab, infra: InfraRepository, host: Host, c1: Client, outside: dict[int, str], web: dict[int, str]
) -> None:
    off = ("--limit", "c1", "--extra-vars", "wg_client_kill_switch=false")
    run = infra.site(lab.inventory, options=off)
    assert run.code == 0, run.output
    assert not table(host)
    assert len(speaks(host, outside)) == len(outside) * 2
    infra.site(lab.inventory, options=off).assert_unchanged()
    until("the tunnel is up", SECONDS, lambda: c1.answered(web[4]))
    run = infra.site(lab.inventory)
    assert run.code == 0, run.output
    assert speaks(host, outside) == []
    until("the tunnel is up", SECONDS, lambda: c1.answered(web[4]))
