# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps that hold no more: whoever is in them stays, also with a new handshake, and others come when there is room."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from testinfra.host import Host
from traffic.cluster import Client, new_port
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.pair import Pair

FAMILIES, MAPS = ("ip", "ip6"), ("sessions", "affinity")
NOBODY = "0x1fffffff"  # the mark of no node
HANDSHAKES = 3
NEW_CLIENT_SECONDS = 30


def elements(family: str, name: str, first: int, count: int) -> list[str]:
    """Made-up keys of a map, as nft writes them."""
    numbers = range(first, first + count)
    if name == "sessions":
        return [f"{0xEE000000 + number:#010x}" for number in numbers]
    address = {"ip": "198.19.0.1", "ip6": "0xc8"}[family]
    return [f"{address} . {number}" for number in numbers]


def fill(host: Host, family: str, name: str) -> list[str]:
    """Add made-up elements while there is room, which only trying tells: those that are over count for a while."""
    listed = json.loads(host.check_output("nft --json --terse list map %s wirefleet %s", family, name))
    step = next(item["map"]["size"] for item in listed["nftables"] if "map" in item)
    keys: list[str] = []
    while step:
        more = elements(family, name, len(keys) + 1, step)
        values = ", ".join(f"{key} : {NOBODY}" for key in more)
        if host.run(f"nft add element {family} wirefleet {name} '{{ {values} }}'").succeeded:
            keys += more
        else:
            step //= 2
    assert keys, f"{family} {name} was full before"
    return keys


@contextmanager
def filled(host: Host) -> Iterator[None]:
    """No room in a balancer's maps, and none when something leaves them."""
    with ExitStack() as fillers:
        for family, name in itertools.product(FAMILIES, MAPS):
            keys = ", ".join(fill(host, family, name))
            fillers.callback(host.run, f"nft delete element {family} wirefleet {name} '{{ {keys} }}'")
        yield


def test_full_maps(pair: Pair, lab: Lab, figures: Figures) -> None:
    pair.roles()
    newcomer = Client("c3", lab.host("c3"))
    with pair.watched() as seen:
        with ExitStack() as full:
            for name in pair.views:
                full.enter_context(filled(pair.host(name)))
            for _handshake in range(HANDSHAKES):
                time.sleep(1.1)  # handshakes are dated in seconds
                for client in pair.clients.values():
                    client.reconnect()
            newcomer.reconnect(new_port())
            served = newcomer.answered(pair.targets["c1"])
        took = until("a new client is served", NEW_CLIENT_SECONDS, lambda: newcomer.answered(pair.targets["c1"]))
    figures.add(
        f"full maps, {2 * HANDSHAKES} new handshakes of known clients: pings lost", f"{seen.lost} of {seen.sent}"
    )
    figures.add("full maps: longest outage of them", seen.outage, "s")
    figures.add("full maps: a new client is served", "yes" if served else "no")
    figures.add("… and then not full: served after", took, "s")
    assert seen.outage < 2, str(seen)
    pair.roles()
