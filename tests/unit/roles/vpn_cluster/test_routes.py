# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Against a real routing table."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest
from wirefleet import routes as module
from wirefleet.command import CommandError
from wirefleet.routes import Hop, RoutingTable

TABLE = 51821
N1, N2 = Hop("backend", "10.9.0.11"), Hop("backend", "10.9.0.12")
N1_6, TUNNEL = Hop("backend", "fd00:9::11"), Hop("tunnel")
NOWHERE = {"10.80.0.0/16": Hop(), "fd00:80::/48": Hop()}
WANTED = {**NOWHERE, "10.80.0.5/32": N1, "fd00:80::5/128": N1_6, "10.80.0.6/32": TUNNEL, "fd00:80::6/128": TUNNEL}


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def table(network: None, monkeypatch: pytest.MonkeyPatch) -> RoutingTable:
    for number, link in enumerate(("backend", "tunnel")):
        ip(f"link add {link} type veth peer name far{number}")
        ip(f"link set far{number} up")
        ip(f"link set {link} up")
    ip("address add 10.9.0.1/24 dev backend")
    ip("address add fd00:9::1/64 dev backend nodad")
    return RoutingTable(TABLE)


@pytest.fixture
def reread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the time come when a table is read again."""
    later = 0.0
    real = time.monotonic

    def pass_time() -> None:
        nonlocal later
        later += 60

    monkeypatch.setattr(module.time, "monotonic", lambda: real() + later)
    return pass_time


pytestmark = pytest.mark.root


def test_the_kernel_has_what_was_written(table: RoutingTable) -> None:
    assert table.present() == {}
    assert table.write(WANTED) == len(WANTED)
    assert RoutingTable(TABLE).present() == WANTED
    assert table.write(WANTED) == 0


def test_only_differences_are_written(table: RoutingTable) -> None:
    table.write(WANTED)
    moved = {**WANTED, "10.80.0.5/32": N2, "10.80.0.7/32": N2}
    del moved["fd00:80::5/128"]
    assert table.write(moved) == 3
    assert RoutingTable(TABLE).present() == moved


def test_kinds_of_routes_replace_each_other(table: RoutingTable) -> None:
    table.write({"10.80.0.5/32": TUNNEL, "fd00:80::5/128": TUNNEL, "fd00:80::6/128": N1_6})
    turned = {"10.80.0.5/32": N1, "fd00:80::5/128": N1_6, "fd00:80::6/128": TUNNEL, "fd00:80::/48": Hop()}
    table.write(turned)
    assert RoutingTable(TABLE).present() == turned
    table.write({**turned, "fd00:80::/48": N1_6})
    assert RoutingTable(TABLE).present() == {**turned, "fd00:80::/48": N1_6}


def test_what_others_took_away_comes_back(table: RoutingTable, reread: Callable[[], None]) -> None:
    table.write(WANTED)
    ip("link set backend down")  # the routes through it go, too
    ip("link set backend up")
    ip(f"route delete 10.80.0.6 table {TABLE}")
    assert table.write(WANTED) == 0, "not looked at again yet"
    reread()
    assert table.write(WANTED) == 3
    assert RoutingTable(TABLE).present() == WANTED


def test_what_others_put_there_goes(table: RoutingTable, reread: Callable[[], None]) -> None:
    table.write(WANTED)
    ip(f"route add 10.80.0.9 dev tunnel table {TABLE}")
    reread()
    assert table.write(WANTED) == 1
    assert RoutingTable(TABLE).present() == WANTED


def test_one_route_that_can_not_be_does_not_hold_up_the_others(table: RoutingTable) -> None:
    with pytest.raises(CommandError, match="Cannot find device"):
        table.write({"10.80.0.4/32": Hop("gone"), **WANTED})
    assert table.present() == WANTED, "and it is known what was written"


def test_another_table_is_none_of_ours(table: RoutingTable) -> None:
    ip("route add 10.80.0.9 dev tunnel table 7")
    table.write(WANTED)
    table.write({})
    assert RoutingTable(TABLE).present() == {}
    assert "10.80.0.9" in ip("route show table 7")


def test_ten_thousand_clients_in_both_families_cost_little(table: RoutingTable) -> None:
    clients: dict[str, Hop] = {}
    for number in range(10_000):
        clients[f"10.80.{number // 250}.{number % 250}/32"] = N1
        clients[f"fd00:80::1:{number:x}/128"] = N1_6
    begin = time.process_time()
    assert table.write(clients) == 20_000
    for _ in range(10):
        assert table.write(clients) == 0
    assert time.process_time() - begin < 1
