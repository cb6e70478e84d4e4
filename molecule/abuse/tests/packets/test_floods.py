# SPDX-License-Identifier: GPL-3.0-or-later
"""Strangers send what looks like handshakes, what is none, and what was one: clients keep their sessions.

All of it goes to the shared address, from sources that are made up. The lab's hosts share a few cores with the sender:
the rates are what such a machine has left, and a few answers may come late.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from testinfra.host import Host
from traffic.cluster import FAILOVER_SECONDS, Client, Cluster, new_port, peers
from traffic.figures import Figures
from traffic.flood import Flood
from traffic.forge import OVERSIZE, TRUNCATED, UNKNOWN, UNSIGNED, initiation
from traffic.hosts import Lab, until
from traffic.pair import Pair
from traffic.ping import Ping

SECONDS = 25.0
RATE = 5000
ANYWHERE = "198.19.0.0/16"  # 65,536 addresses: as many as the balancer counts handshakes of
LOST = 0.02  # of all pings: what a busy machine may be late with
NEW_CLIENT_SECONDS = 20  # a cookie, and the next attempt 5 s later, with time for another

Payloads = Callable[[str], list[bytes]]  # the service's public key -> what is sent


def unsigned(_key: str) -> list[bytes]:
    return [UNSIGNED]


def signed(key: str) -> list[bytes]:
    return [initiation(key)]


def nonsense(_key: str) -> list[bytes]:
    return [*UNKNOWN, *TRUNCATED, *OVERSIZE]


@pytest.fixture(scope="module")
def newcomer(lab: Lab) -> Client:
    return Client("c3", lab.host("c3"))


def noticed(pair: Pair) -> dict[str, str]:
    """How often each balancer has found a node, or itself, in another state."""
    events = "grep -cE 'event=(node|active|standby|fail_static|table_restored) '"
    words = f"journalctl --no-pager --output cat --unit wirefleet-steer | {events}"
    return {name: pair.host(name).run(words).stdout for name in pair.views}


def endpoints(pair: Pair) -> str:
    """Where the nodes believe everybody to be."""
    nodes = pair.views["lb1"].nodes.values()
    return " ".join(endpoint for node in nodes for endpoint in peers(node, "endpoints").values())


@pytest.mark.parametrize(
    ("what", "payloads", "origin"),
    [
        ("initiations with a wrong MAC, from anywhere", unsigned, ANYWHERE),
        ("initiations with a right MAC, from anywhere", signed, ANYWHERE),
        ("initiations with a right MAC, from one address", signed, "198.18.31.66"),
        ("truncated, oversize and unknown messages, from anywhere", nonsense, ANYWHERE),
    ],
)
def test_a_flood_costs_nobody_a_session(
    pair: Pair, stranger: Host, newcomer: Client, figures: Figures, what: str, payloads: Payloads, origin: str
) -> None:
    pair.roles()
    before, sent = noticed(pair), payloads(newcomer.service_key)
    flood = Flood(stranger, pair.address(4), origin, sent, rate=RATE, seconds=SECONDS)
    with pair.watched() as seen, flood:
        time.sleep(2)
        took = newcomer.reconnect(new_port(), NEW_CLIENT_SECONDS)
        assert not flood.over
    figures.add(f"{what}: rate", flood.rate, "packets/s")
    figures.add(f"{what}: pings lost, at 50/s each", f"{seen.lost} of {seen.sent}")
    figures.add(f"{what}: a new client connects within", took, "s")
    assert flood.rate > 0.3 * RATE, "it was one"
    assert seen.sessions_kept, seen.handshakes
    assert seen.lost <= LOST * seen.sent, str(seen)
    assert noticed(pair) == before, "no node was taken for dead, and no balancer"
    assert "198.19." not in endpoints(pair), "nothing of it has taught a node"


def placed_and_recorded(view: Cluster, client: Client, node: str) -> bytes:
    """Bring the client to a node; return the first message of the handshake that did, as it went over the wire."""
    capture, unit = "/run/replay.pcap", f"replay-{time.time_ns()}"
    client.host.check_output(
        "systemd-run --quiet --unit=%s tcpdump -Unn -i public -w %s 'udp dst port 51820 and udp[8] = 1'", unit, capture
    )
    time.sleep(1)
    view.place(client, node)
    time.sleep(1)
    client.host.check_output("systemctl stop %s", unit)
    last = client.host.check_output("tcpdump -nnxr %s 2> /dev/null", capture).rpartition(" IP ")[2]
    lines = re.findall(r"^\s+0x[0-9a-f]{4}:\s+(.*)$", last, re.MULTILINE)
    return bytes.fromhex("".join(lines).replace(" ", ""))[28:]


def test_a_replayed_initiation_moves_nobody(
    pair: Pair, stranger: Host, lab: Lab, web: dict[int, str], figures: Figures
) -> None:
    """It is genuine, and new to each node but the one that had it, which will answer to wherever it came from."""
    active, _ = pair.roles()
    view, client = pair.views[active], pair.clients["c1"]
    message = placed_and_recorded(view, client, "n1")
    assert len(message) == 148
    home = f"{lab.address('c1', 'public', 4)}:{client.port}"
    with Ping(client.host, web[4], 0.02) as ping:
        time.sleep(1)
        for origin in (home, f"{lab.address('s1', 'public', 4)}:4000", ANYWHERE):
            with Flood(stranger, pair.address(4), origin, [message], rate=500, seconds=3):
                pass
        time.sleep(2)
        assert view.owner(client, among=["n1"]) == "n1"
        figures.add(
            "replayed initiations: a node that had not seen it believes its source", "198.19." in endpoints(pair)
        )
    figures.add("replayed initiations: pings lost, at 50/s", f"{ping.lost} of {ping.sent}")
    assert ping.lost <= LOST * ping.sent, str(ping)
    # The other node has answered a stranger in the client's name. Told to adopt the client, it finds the client.
    with Ping(client.host, web[4], 0.05) as ping:
        time.sleep(1)
        view.nodes["n1"].check_output("systemctl stop wg-quick@wg0")
        until("c1 is served", FAILOVER_SECONDS, lambda: client.answered(web[4]))
    view.nodes["n1"].check_output("systemctl start wg-quick@wg0")
    figures.add("replayed initiations, and then the client's node stops: outage", ping.outage, "s")
    assert ping.outage < FAILOVER_SECONDS, str(ping)
    assert view.owner(client) == "n2"
    pair.roles()
