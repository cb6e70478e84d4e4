# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""With source NAT, other balancers learn by whom nodes know clients, too: nobody notices that one has taken over."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from ..namespaces import alive, eventually
from .conftest import BACKEND, CLIENTS
from .test_copies import (  # noqa: F401
    OTHERS,
    Trio,
    test_each_of_them_teaches_the_others,
    test_sessions_go_on_at_the_other_balancers_and_back,
    test_the_other_balancers_learn_every_handshake,
)

pytestmark = pytest.mark.root

MAPS = ("ports", "client_ports", "client_addresses")


class SnatTrio(Trio):
    """Nodes have no return routes, and know clients by the address that the active balancer has."""

    options: ClassVar = {"snat": {family: [address] for family, address in BACKEND.items()}}

    def build(self) -> None:
        super().build()
        self.client("c1", "ip")
        self.client("c2", "ip6")

    def restore_gateway(self, node: str, hops: int = 1) -> None:
        for family in ("-4", "-6"):
            self.run(node, "ip", family, "rule", "del", "priority", "5182", check=False)

    def translations(self, balancer: str, family: str) -> dict[str, set[str]]:
        texts = {name: self.run(balancer, "nft", "list", "map", family, "wirefleet", name) for name in MAPS}
        return {name: {*re.findall(r"([^{},]+?) expires \w+ : ([\w.:]+)", text)} for name, text in texts.items()}


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SnatTrio]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    yield from alive(SnatTrio(tmp_path_factory.mktemp("trio")))


@pytest.mark.parametrize(("client", "family"), [("c1", "ip"), ("c2", "ip6")])
def test_all_balancers_know_a_client_by_the_same_port(trio: SnatTrio, client: str, family: str) -> None:
    trio.client(client, family)
    assert trio.ping(client) == 0
    known = trio.translations("lb", family)
    assert all(known.values())
    for other in OTHERS:
        eventually(lambda: trio.translations(other, family) == known)  # noqa: B023


def test_nodes_see_no_difference(trio: SnatTrio) -> None:
    time.sleep(1.1)  # handshakes are compared by the second
    for client, family in (("c1", "ip"), ("c2", "ip6")):
        trio.client(client, family)
        assert trio.ping(client) == 0
    before = {client: trio.endpoint(client) for client in CLIENTS}
    trio.move("lb", "lb2")
    try:
        for client in CLIENTS:
            eventually(lambda: trio.ping(client, count=20, wait=1) == 0)  # noqa: B023
        assert {client: trio.endpoint(client) for client in CLIENTS} == before
        # What begins at a node finds the client, too.
        for client, inside in (("c1", "10.80.0.51"), ("c2", "10.80.0.52")):
            ping = ("ping", "-c", "1", "-W", "1", "-I", "10.80.0.1", inside)
            eventually(lambda: "1 received" in trio.run(trio.owner(client), *ping, check=False))  # noqa: B023
    finally:
        trio.move("lb2", "lb")
