# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps that hold no more: whoever is in them stays, also with a new handshake, and others come when there is room."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from testinfra.host import Host
from traffic.cluster import Client, new_port
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.pair import Pair

FAMILIES = ("ip", "ip6")
NOBODY = "0x1fffffff"  # the mark of no node
HANDSHAKES = 3
NEW_CLIENT_SECONDS = 30


def elements(family: str, name: str, count: int) -> str:
    """Made-up ones for a map, as nft writes them."""
    address = {"ip": "198.19.0.1", "ip6": "0xc8"}[family]
    keys = {"sessions": "{:#010x}", "affinity": address + " . {}"}[name]
    return ", ".join(
        keys.format(number if name == "affinity" else 0xEE000000 + number) for number in range(1, count + 1)
    )


@contextmanager
def filled(host: Host) -> Iterator[None]:
    """No room in a balancer's maps, and none when something leaves them."""
    fillers = {}
    for family in FAMILIES:
        for name in ("sessions", "affinity"):
            listed = json.loads(host.check_output("nft --json list map %s wirefleet %s", family, name))
            found = next(item["map"] for item in listed["nftables"] if "map" in item)
            count = found["size"] - len(found.get("elem", []))
            fillers[family, name] = elements(family, name, count)
            values = ", ".join(f"{key} : {NOBODY}" for key in fillers[family, name].split(", "))
            host.check_output(f"nft add element {family} wirefleet {name} '{{ {values} }}'")
    try:
        yield
    finally:
        for (family, name), keys in fillers.items():
            host.run(f"nft delete element {family} wirefleet {name} '{{ {keys} }}'")


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
