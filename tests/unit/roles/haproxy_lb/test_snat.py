# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Nodes that can not answer clients through the balancer: they get clients' packets from an address of its own.

What does not depend on that is tested as it is for the others, by the same tests, with nodes that have no route to
anybody but their own network.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ..namespaces import alive, eventually
from .conftest import BACKEND, CLIENT_ADDRESSES, NODES, PORT, PUBLIC, PYTHONPATH, Cluster, answered
from .test_steering import (  # noqa: F401
    INITIATION,
    send,
    steered,
    test_a_collapse_of_all_checks_is_held,
    test_a_daemon_that_starts_again_changes_nothing,
    test_a_dead_nodes_client_is_adopted_and_stays,
    test_a_drained_node_keeps_its_session_until_another_adopts_it,
    test_a_flushed_ruleset_is_back_by_itself,
    test_a_node_that_does_not_own_the_client_can_not_steal_it,
    test_a_ruleset_is_applied_again_without_losing_sessions,
    test_a_ruleset_with_other_maps_replaces_the_table,
    test_an_index_of_a_living_nodes_session_can_not_be_taken,
    test_fragments_are_reassembled,
    test_new_clients_are_dealt_out_by_weight,
    test_no_node_accepts,
    test_one_source_is_limited_after_its_burst,
    test_what_is_no_message_of_a_node_is_dropped,
    test_what_is_no_message_or_nobodys_is_dropped,
)

pytestmark = pytest.mark.root

FAMILIES = ("ip", "ip6")
OTHER = {"ip": "10.9.0.110", "ip6": "fd00:9::110"}
SNAT = {family: [BACKEND[family], OTHER[family]] for family in FAMILIES}
MAPS = ("ports", "client_ports", "client_addresses")
FIRST, LAST = 16384, 32767

# What clients send comes from these ports.
COUNTERS = f"""\
table inet count
delete table inet count
table inet count {{
  counter initiations {{ }}
  counter large {{ }}
  chain input {{
    type filter hook input priority -10;
    udp sport {FIRST}-{LAST} udp dport {PORT} @th,64,32 0x01000000 counter name initiations
    udp sport {FIRST}-{LAST} udp dport {PORT} @th,64,32 0x04000000 udp length > 2000 counter name large
  }}
}}
"""

FROM_40000 = """
import socket, sys
family, target, payload = sys.argv[1:]
with socket.socket(socket.AF_INET if family == "ip" else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
    sock.bind(("", 40000))
    sock.sendto(bytes.fromhex(payload), (target, int({port})))
"""

KNOWN = """
import json, sys
from wirefleet_steer.translation import read
print(json.dumps(read(sys.argv[1], "wirefleet", sys.argv[2:])))
"""

# What comes through a tunnel stays unanswered.
MUTE = "table inet mute {{ chain input {{ type filter hook input priority 0; iifname {device} drop; }}; }}"

# As in conftest, but to an address and a port that are named.
AS_NODE = """
import socket, struct, sys
target, port, payload = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
sock = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
if ":" in target:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 6)
sock.sendto(struct.pack(">HHHH", {port}, port, 8 + len(payload), 0) + payload, (target, 0))
"""


class Snat(Cluster):
    """Nodes have no return routes; the balancer has two addresses in each family to send from."""

    def build(self) -> None:
        super().build()
        self.run("lb", "ip", "address", "add", f"{OTHER['ip']}/24", "dev", "backend")
        self.run("lb", "ip", "address", "add", f"{OTHER['ip6']}/64", "dev", "backend")

    @property
    def counters(self) -> str:
        return COUNTERS

    def write_ruleset(self, **changes: Any) -> None:
        super().write_ruleset(**{"snat": SNAT, **changes})

    def write_config(self, **changes: Any) -> None:
        super().write_config(**{"snat": SNAT, **changes})

    def restore_gateway(self, node: str, hops: int = 1) -> None:
        """There is none. An address is what a link takes with it when it goes down."""
        self.run(node, "ip", "address", "replace", f"fd00:9::{NODES[node]}/64", "dev", self.backend)
        for family in ("-4", "-6"):
            self.run(node, "ip", family, "rule", "del", "priority", "5182", check=False)

    def elements(self, family: str, kind: str, name: str) -> list[Any]:
        answer = json.loads(self.nft("-j", "list", kind, family, "wirefleet", name).partition("\nwarning")[0])
        found: list[Any] = next(item[kind] for item in answer["nftables"] if kind in item).get("elem", [])
        return found

    def translations(self, family: str) -> int:
        """How many clients have a port here, by all maps alike."""
        counts = {name: len(self.elements(family, "map", name)) for name in MAPS}
        assert set(counts.values()) == {len(self.elements(family, "set", "taken"))}, counts
        return counts["ports"]

    def lasts(self, family: str) -> list[int]:
        """For how many seconds each port will go on to be somebody's."""
        return sorted(key["elem"]["expires"] for key, _port in self.elements(family, "map", "ports"))

    def send_as_client(self, family: str, payload: str) -> None:
        """Send one datagram from c1's port 40000."""
        self.run("c1", sys.executable, "-c", FROM_40000.format(port=PORT), family, PUBLIC[family], payload)

    def send_as_node(self, node: str, family: str, payload: str, dscp: int = 0) -> None:
        """Send one datagram to c1's port 40000 from the node's WireGuard port."""
        self.send_as_client(family, INITIATION)
        here = next(here for here, client in self.known(family).items() if client.endswith(":40000"))
        address, _, port = here.rpartition(":")
        self.run(node, sys.executable, "-c", AS_NODE.format(port=PORT), address.strip("[]"), port, payload)

    def known(self, family: str) -> dict[str, str]:
        """As the daemon reads it: where nodes know clients at, and where these are."""
        program = ("env", f"PYTHONPATH={PYTHONPATH}", sys.executable, "-c", KNOWN)
        found: dict[str, str] = json.loads(self.run("lb", *program, family, *SNAT[family]))
        return found

    def forget(self) -> None:
        """Let the table be as if nobody had ever come."""
        for family in FAMILIES:
            for name in (*MAPS, "affinity", "sessions"):
                self.nft("flush", "map", family, "wirefleet", name)
            for name in ("taken", "strangers", "movers", "limits"):
                self.nft("flush", "set", family, "wirefleet", name)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snat]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    yield from alive(Snat(tmp_path_factory.mktemp("snat")))


@pytest.fixture(autouse=True)
def settled(cluster: Snat) -> Iterator[None]:
    cluster.forget()
    yield
    for name in NODES:
        cluster.run(name, "ip", "link", "set", "backend", "up")
        cluster.restore_gateway(name)
        cluster.agent(name, 200)
        cluster.haproxy(f"set server vpn_back/{name} state ready")
        cluster.haproxy(f"set weight vpn_back/{name} 1")
    for name in NODES:
        cluster.steerctl("wait", name, "up", "--timeout", "15")


def reconnect(cluster: Cluster, client: str, family: str, listen: int = 0) -> None:
    """Let a client begin anew, whatever it had."""
    cluster.client(client, family, listen=listen)
    device = cluster.device(client)
    cluster.run(client, "wg", "set", device, "peer", cluster.key("service")[1], "remove")
    cluster.client(client, family, listen=listen)


@pytest.mark.parametrize(("client", "family"), [("c1", "ip"), ("c2", "ip6")])
def test_a_stock_client_reaches_a_node_that_has_no_route_to_it(cluster: Snat, client: str, family: str) -> None:
    option = "-4" if family == "ip" else "-6"
    address = CLIENT_ADDRESSES[client][family]
    assert "unreachable" in cluster.run("n1", "ip", option, "route", "get", address, check=False)
    cluster.client(client, family)
    assert cluster.ping(client, count=20) == 0
    endpoint = cluster.endpoint(client)
    host, _, port = endpoint.rpartition(":")
    assert host.strip("[]") in SNAT[family]
    assert FIRST <= int(port) <= LAST
    assert cluster.translations(family) == 1
    assert cluster.lasts(family)[0] > 3500
    listening = cluster.run(client, "wg", "show", cluster.device(client), "listen-port").strip()
    known = f"[{address}]:{listening}" if family == "ip6" else f"{address}:{listening}"
    assert cluster.steerctl("client", endpoint).strip() == known
    assert "nobody is known" in cluster.steerctl("client", f"{host}:{int(port) ^ 1}", check=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_clients_with_one_source_port_have_ports_of_their_own(cluster: Snat, family: str) -> None:
    for client in ("c1", "c2"):
        reconnect(cluster, client, family, listen=PORT)
        assert cluster.ping(client) == 0
    assert cluster.translations(family) == 2
    assert cluster.endpoint("c1") != cluster.endpoint("c2")


@pytest.mark.parametrize("family", FAMILIES)
def test_strangers_get_a_port_each_but_not_for_long(cluster: Snat, family: str) -> None:
    send(cluster, family, 180, INITIATION)
    assert cluster.translations(family) == 180
    ports = {port for _key, port in cluster.elements(family, "map", "ports")}
    assert len(ports) == 180, "one source has one address here"
    assert max(ports) - min(ports) > 12000, "all over the range"
    assert ports <= {*range(FIRST, LAST + 1)}
    assert max(cluster.lasts(family)) <= 6
    eventually(lambda: not cluster.elements(family, "set", "taken"), timeout=10)
    assert cluster.translations(family) == 0


def test_clients_are_spread_over_the_addresses(cluster: Snat) -> None:
    send(cluster, "ip", 1000, INITIATION, "addresses")
    used = [key["elem"]["val"]["concat"][0] for key, _client in cluster.elements("ip", "map", "client_addresses")]
    assert len(used) == 1000
    assert set(used) == {*SNAT["ip"]}
    assert used.count(OTHER["ip"]) in range(400, 601)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_that_moved_goes_on_and_can_be_reached(cluster: Snat, family: str) -> None:
    """Before its node has answered, for as long as many clients pause; afterwards like everybody."""
    reconnect(cluster, "c1", family, listen=40010)
    assert cluster.ping("c1") == 0
    before = cluster.owner("c1"), [cluster.counted(name, "initiations") for name in NODES]
    owner, device = before[0], cluster.device("c1")
    cluster.run("c1", "wg", "set", device, "listen-port", "40011")
    cluster.run("c1", "ping", "-c", "1", "-W", "1", "10.80.0.1")
    assert cluster.ping("c1") == 0
    assert (cluster.owner("c1"), [cluster.counted(name, "initiations") for name in NODES]) == before
    assert cluster.translations(family) == 2
    assert cluster.lasts(family)[0] > 3500
    # Now its node has nothing to say: it drops what the client sends into the tunnel.
    cluster.run("c1", "wg", "set", device, "listen-port", "40012")
    cluster.run(
        owner,
        "nft",
        "-f",
        "-",
        stdin=MUTE.format(device=cluster.device(owner)),
    )
    try:
        cluster.run("c1", "ping", "-c", "1", "-W", "1", "10.80.0.1", check=False)
        assert 20 < cluster.lasts(family)[0] <= 30
    finally:
        cluster.run(owner, "nft", "delete", "table", "inet", "mute")
    # Longer than a stranger's time.
    time.sleep(7)
    assert "1 received" in cluster.run(
        owner, "ping", "-c", "1", "-W", "2", "-I", "10.80.0.1", "10.80.0.51", check=False
    )
    assert cluster.lasts(family)[0] > 3500


@pytest.mark.parametrize("family", FAMILIES)
def test_a_silent_client_is_adopted(cluster: Snat, family: str) -> None:
    """Its address and port here are the same for all nodes."""
    reconnect(cluster, "c1", family)
    assert cluster.ping("c1") == 0
    owner, endpoint = cluster.owner("c1"), cluster.endpoint("c1")
    survivor = next(name for name in NODES if name != owner)
    time.sleep(1.1)  # handshakes are compared by the second
    cluster.run(owner, "ip", "link", "set", "backend", "down")
    eventually(lambda: cluster.state(owner)[:2] == ["DOWN", "down"])
    cluster.initiate(survivor, "c1", endpoint)
    eventually(lambda: cluster.owner("c1") == survivor)
    assert cluster.endpoint("c1") == endpoint
    assert cluster.ping("c1") == 0


def test_a_flood_leaves_those_who_are_known_alone(cluster: Snat) -> None:
    """And whoever comes afterwards gets a port within seconds: strangers only borrow theirs."""
    reconnect(cluster, "c1", "ip")
    assert cluster.ping("c1") == 0
    pings = cluster.start("c1", "ping", "-c", "60", "-w", "20", "-i", "0.05", "10.80.0.1", stdout=subprocess.PIPE)
    before = cluster.dropped("ip", "no_port")
    send(cluster, "ip", 100_000, INITIATION, "addresses")
    assert cluster.dropped("ip", "no_port") > before
    assert len(cluster.elements("ip", "map", "ports")) <= len(SNAT["ip"]) * (LAST + 1 - FIRST) // 2
    output, _ = pings.communicate(timeout=30)
    assert answered(output.decode()) >= {*range(1, 61)}
    eventually(lambda: len(cluster.elements("ip", "set", "strangers")) < 1000)
    reconnect(cluster, "c1", "ip", listen=40001)
    # Nodes may be busy with the flood still, and want a cookie first: the next attempt is 5 s later.
    eventually(lambda: cluster.ping("c1", wait=1) == 0, timeout=15)


def test_what_nobody_is_behind_is_dropped(cluster: Snat) -> None:
    before = cluster.dropped("ip", "no_client")
    cluster.run("n1", sys.executable, "-c", AS_NODE.format(port=PORT), BACKEND["ip"], "20000", "04000000" + "ab" * 60)
    eventually(lambda: cluster.dropped("ip", "no_client") == before + 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_its_table_nothing_is_forwarded(cluster: Snat, family: str) -> None:
    cluster.watch_leaks("c1")
    reconnect(cluster, "c1", family)
    assert cluster.ping("c1") == 0
    endpoint = cluster.endpoint("c1")
    cluster.steer.send_signal(signal.SIGSTOP)
    try:
        cluster.nft("flush", "ruleset")
        before = [cluster.counted(name, "initiations") for name in NODES]
        send(cluster, family, 3, INITIATION)
        cluster.initiate("n1", "c1", endpoint)
        assert [cluster.counted(name, "initiations") for name in NODES] == before
        assert cluster.leaked("c1", family) == 0
    finally:
        cluster.steer.send_signal(signal.SIGCONT)
    eventually(lambda: steered(cluster))


def test_a_table_that_comes_back_knows_who_is_who(cluster: Snat) -> None:
    for client, family in (("c1", "ip"), ("c2", "ip6")):
        reconnect(cluster, client, family)
        assert cluster.ping(client) == 0
    known = {
        client: (cluster.endpoint(client), cluster.steerctl("client", cluster.endpoint(client)))
        for client in ("c1", "c2")
    }
    time.sleep(6)  # until the daemon has read them
    cluster.nft("flush", "ruleset")
    eventually(lambda: steered(cluster))
    for endpoint, client in known.values():
        assert cluster.steerctl("client", endpoint) == client
    assert [cluster.translations(family) for family in FAMILIES] == [1, 1]


def test_other_addresses_take_over_without_losing_a_session(cluster: Snat) -> None:
    reconnect(cluster, "c1", "ip")
    assert cluster.ping("c1") == 0
    owner = cluster.owner("c1")
    counts = [cluster.counted(name, "initiations") for name in NODES]
    before = cluster.endpoint("c1").rpartition(":")[0]
    after = next(address for address in SNAT["ip"] if address != before)
    snat = {**SNAT, "ip": [after]}
    try:
        cluster.write_ruleset(snat=snat)
        cluster.write_config(snat=snat)
        cluster.steerctl("prepare")
        assert cluster.ping("c1") == 0
        assert cluster.endpoint("c1").rpartition(":")[0] == after
        assert cluster.owner("c1") == owner
        assert [cluster.counted(name, "initiations") for name in NODES] == counts
    finally:
        cluster.write_ruleset()
        cluster.write_config()
        cluster.steerctl("prepare")
