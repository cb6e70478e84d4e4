# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

from collections.abc import Callable

import pytest
from wirefleet.command import CommandError
from wirefleet.iproute import Route, Rule
from wirefleet_node import observe, repair
from wirefleet_node.observe import Fixture
from wirefleet_node.repair import Repairs
from wirefleet_node.settings import Config, Table

Configure = Callable[..., Config]

RULE = Rule(4, 5182, table=51820, mark=51820)
ROUTE = Route(4, 51820, "default", "backend", "10.9.0.10")
TABLE = Table("inet", "wirefleet_node", "/etc/wirefleet/default/node.nft")


class Host:
    """A host that has lost some fixtures and refuses some repairs."""

    def __init__(self) -> None:
        self.lost: list[Fixture] = []
        self.refused: dict[Fixture, str] = {}

    def missing(self, _config: Config) -> tuple[list[Fixture], list[str]]:
        return list(self.lost), []

    def put_back(self, fixture: Fixture) -> None:
        if fixture in self.refused:
            raise CommandError(["ip"], 2, self.refused[fixture])
        self.lost.remove(fixture)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(observe, "missing", host.missing)
    monkeypatch.setattr(repair, "put_back", host.put_back)
    return host


def test_one_refused_repair_does_not_stop_the_others(host: Host, configure: Configure) -> None:
    host.lost, host.refused = [RULE, ROUTE, TABLE], {ROUTE: "device down"}
    repairs = Repairs()
    assert repairs.restore(configure()) == ([ROUTE], [])
    assert repairs.totals == {"rule": 1, "route": 0, "table": 1}


def test_a_lasting_failure_is_reported_once_per_cause(
    host: Host, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    repairs = Repairs()
    events: list[list[str]] = []
    for cause in ("device down", "device down", "no such device", None, "device down"):
        host.lost, host.refused = [ROUTE], {ROUTE: cause} if cause else {}
        repairs.restore(configure())
        events.append([line.split()[0] for line in capsys.readouterr().err.splitlines()])
    failed, repaired = ["event=repair_failed"], ["event=repaired"]
    assert events == [failed, [], failed, repaired, failed]
