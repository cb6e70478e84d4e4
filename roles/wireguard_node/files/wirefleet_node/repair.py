# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Put back what a flapping link or somebody's ``nft flush ruleset`` took away."""

from __future__ import annotations

from wirefleet import nft
from wirefleet.command import CommandError
from wirefleet.iproute import Route, Rule, ensure_routes, ensure_rules
from wirefleet.log import event

from . import observe
from .observe import Fixture
from .settings import Config

KINDS = ("rule", "route", "table")


def kind(fixture: Fixture) -> str:
    return "rule" if isinstance(fixture, Rule) else "route" if isinstance(fixture, Route) else "table"


def put_back(fixture: Fixture) -> None:
    if isinstance(fixture, Rule):
        ensure_rules([fixture])
    elif isinstance(fixture, Route):
        ensure_routes([fixture])
    else:
        nft.load(fixture.file)


class Repairs:
    """Counts repairs and reports each once; a fixture that can not be put back is reported once per cause."""

    def __init__(self) -> None:
        self.totals = dict.fromkeys(KINDS, 0)
        self._failing: dict[Fixture, str] = {}

    def restore(self, config: Config) -> tuple[list[Fixture], list[str]]:
        """Put back what is missing; return what is missing still, and what could not be looked at."""
        lost, errors = observe.missing(config)
        if lost:
            self._put_back(lost)
            lost, errors = observe.missing(config)
        return lost, errors

    def _put_back(self, fixtures: list[Fixture]) -> None:
        """Try every one: a route whose device is gone must not keep the table from coming back."""
        failing: dict[Fixture, str] = {}
        for fixture in fixtures:
            try:
                put_back(fixture)
            except CommandError as error:
                failing[fixture] = str(error)
                if self._failing.get(fixture) != str(error):
                    event("repair_failed", what=kind(fixture), item=fixture, error=error)
            else:
                self.totals[kind(fixture)] += 1
                event("repaired", what=kind(fixture), item=fixture)
        self._failing = failing
