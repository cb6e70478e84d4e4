# SPDX-License-Identifier: GPL-3.0-or-later
"""A client's life: it connects, is restricted, suspended, taken back, expires and is revoked. In this order.

Each step is a run of the playbook with other variables of c2, while c1 pings on and must not lose a packet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host
from traffic.cluster import Client, Cluster, inner_address, peers
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.ping import Ping
from traffic.site import Run, site_of_checkout

BACK_SECONDS = 40  # a client whose peer was removed tries again every 5 s
EXPIRY_SECONDS = 60
RUN_SECONDS = 45
PEERS = ("--tags", "peers")


class Operator:
    """Somebody who changes what is agreed with c2, a step at a time."""

    def __init__(self, lab: Lab, inventory: Path) -> None:
        self._lab, self._inventory = lab, inventory
        self._terms: dict[str, Any] = {}

    def agree(self, *options: str, **terms: Any) -> Run:
        """Run the playbook with these variables of c2 and those of before."""
        self._terms.update(terms)
        groups = {"wg_clients": {"hosts": {"c2": self._terms}}}
        self._inventory.write_text(json.dumps({"all": {"children": groups}}))
        run = site_of_checkout(self._lab.inventory, self._inventory, options=options)
        assert run.code == 0, run.output
        return run


@pytest.fixture(scope="module")
def operator(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(lab, tmp_path_factory.mktemp("operator") / "terms.json")


@pytest.fixture
def undisturbed(c1: Client, web: dict[int, str]) -> Iterator[None]:
    """c1 loses nothing meanwhile."""
    with Ping(c1.host, web[4], 0.05) as ping:
        yield
    assert ping.lost == 0, str(ping)


@contextmanager
def stolen(client: Client, address: str) -> Iterator[None]:
    """A client gives itself an address that is not its own."""
    client.host.check_output("ip address add %s/32 dev wg0", address)
    try:
        yield
    finally:
        client.host.check_output("ip address delete %s/32 dev wg0", address)


def gets(client: Client, address: str) -> bool:
    """A page, over TCP."""
    return client.host.run("curl --silent --max-time 2 --output /dev/null http://%s/", address).succeeded


def pings(host: Host, target: str, source: str = "0.0.0.0") -> bool:
    return host.run("ping -c 1 -W 1 -I %s %s", source, target).succeeded


def has_peer(cluster: Cluster, client: Client) -> bool:
    """Whether any node has it."""
    key = client.key
    return any(key in peers(node, "endpoints") for node in cluster.nodes.values())


@pytest.mark.parametrize("version", [4, 6])
def test_sites_reach_each_other_and_the_private_network(
    lab: Lab, cluster: Cluster, c1: Client, c2: Client, web: dict[int, str], version: int
) -> None:
    """Their gateways are at two nodes: what one site sends to the other goes through the balancer."""
    cluster.place(c1, "n1")
    cluster.place(c2, "n2")
    here, there = lab.address("desk", "site1", version), lab.address("c2", "site2", version)
    until("the other site answers", 5, lambda: pings(lab.host("desk"), there, here))
    assert pings(c2.host, here, there)
    assert pings(lab.host("desk"), web[version], here)
    for site in (here, there):
        assert pings(lab.host("web"), site, web[version])


def test_an_inner_address_can_not_be_spoofed(c1: Client, c2: Client, web: dict[int, str]) -> None:
    for address in (inner_address(c2.host), "10.80.77.77", "10.32.8.77"):
        with stolen(c1, address):
            assert not pings(c1.host, web[4], address)
            assert pings(c1.host, web[4], inner_address(c1.host))


@pytest.mark.usefixtures("undisturbed")
def test_a_client_in_a_group_does_what_the_group_may(operator: Operator, c2: Client, web: dict[int, str]) -> None:
    assert c2.answered(web[4])
    operator.agree(*PEERS, wg_client_groups=["web"])
    until("c2 is restricted", 5, lambda: not c2.answered(web[4]))
    assert not c2.answered(web[6])
    assert gets(c2, web[4])
    assert gets(c2, f"[{web[6]}]")


@pytest.mark.usefixtures("undisturbed")
def test_the_private_network_reaches_the_restricted_client(lab: Lab, c2: Client) -> None:
    assert pings(lab.host("web"), inner_address(c2.host))


@pytest.mark.usefixtures("undisturbed")
def test_a_suspended_client_is_silent_at_once(
    operator: Operator, cluster: Cluster, c2: Client, web: dict[int, str], figures: Figures
) -> None:
    operator.agree(*PEERS, wg_client_groups=[])
    until("c2 may do what it likes", BACK_SECONDS, lambda: c2.answered(web[4]))
    owner = cluster.nodes[cluster.owner(c2)]
    with Ping(c2.host, web[4]) as ping:
        operator.agree(*PEERS, wg_client_state="suspended")
    assert not has_peer(cluster, c2)
    # The file takes its place when the interface is as it says.
    applied = float(owner.check_output("stat --format %.9Z /etc/wireguard/wg0.conf"))
    figures.add("client suspended: last answer after the node's task, s", f"{ping.last - applied:.1f}")
    assert ping.last < applied + 1
    assert not c2.answered(web[4])


@pytest.mark.usefixtures("undisturbed")
def test_a_client_that_comes_back_has_its_address(operator: Operator, c2: Client, web: dict[int, str]) -> None:
    """It has the interface of before: another address would get no answer."""
    operator.agree(*PEERS, wg_client_state="present")
    until("c2 is back", BACK_SECONDS, lambda: c2.answered(web[4]))


@pytest.mark.usefixtures("undisturbed")
def test_a_client_expires_by_itself(operator: Operator, cluster: Cluster, c2: Client, web: dict[int, str]) -> None:
    """The run plans with a client that is valid: whoever removes it are the nodes."""
    end = datetime.now(timezone.utc) + timedelta(seconds=RUN_SECONDS)
    operator.agree(*PEERS, wg_client_expires=end.isoformat(timespec="seconds"))
    until("nodes have removed c2", RUN_SECONDS + EXPIRY_SECONDS, lambda: not has_peer(cluster, c2))
    for node in cluster.nodes.values():
        assert f'event=expired client="{c2.key}"' in node.check_output("journalctl --no-pager -u wirefleet-node")
    assert not c2.answered(web[4])


@pytest.mark.usefixtures("undisturbed")
def test_that_it_expired_is_no_change(operator: Operator, cluster: Cluster, c2: Client) -> None:
    operator.agree().assert_unchanged()
    assert not has_peer(cluster, c2)


@pytest.mark.usefixtures("undisturbed")
def test_a_later_date_brings_it_back(operator: Operator, c2: Client, web: dict[int, str]) -> None:
    operator.agree(*PEERS, wg_client_expires="2099-12-31")
    until("c2 is back", BACK_SECONDS, lambda: c2.answered(web[4]))


@pytest.mark.usefixtures("undisturbed")
def test_a_revoked_client_is_gone(lab: Lab, operator: Operator, cluster: Cluster, c2: Client) -> None:
    address = inner_address(c2.host)
    operator.agree(*PEERS, wg_client_state="absent")
    assert not has_peer(cluster, c2)
    lines = map(json.loads, (lab.directory / "state/ledger.jsonl").read_text().splitlines())
    entry = next(line for line in lines if (line.get("kind"), line.get("name")) == ("client", "c2"))
    assert address in entry["addresses"], "it is nobody else's"
    assert "released" in entry
