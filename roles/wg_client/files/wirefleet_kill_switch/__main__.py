# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Command line: ``python3 -m wirefleet_kill_switch --config FILE COMMAND``."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from wirefleet import config, nft
from wirefleet.cli import CommandLine
from wirefleet.command import CommandError
from wirefleet.config import ConfigError
from wirefleet.log import event
from wirefleet.sdnotify import notify

SHAPE: dict[str, config.Shape] = {"version": int, "cluster": str, "table": str, "rules": str}
INTERVAL = 5.0  # seconds between two looks, if nobody changes the ruleset


@dataclass(frozen=True)
class Config:
    """``rules`` is the file that makes the ``table``, of the family inet."""

    table: str
    rules: str


def load(path: str | os.PathLike[str]) -> Config:
    """Read and check the file. Raises a ConfigError that names the key."""
    document = config.load(path, SHAPE)
    if document["version"] != 1:
        raise ConfigError(f"{os.fspath(path)}: version: expected 1, got {document['version']}")
    return Config(table=document["table"], rules=document["rules"])


def main(argv: Sequence[str] | None = None) -> int:
    program = CommandLine(
        "wirefleet-kill-switch",
        "Kill switch of a wirefleet client.",
        "/etc/wirefleet/default/kill-switch.json",
        load,
    )
    program.add("run", _run, "keep the rules in place (systemd does this)")
    program.add("status", _status, "exit 0 when the rules are there, 1 when not")
    return program.main(argv)


def _run(settings: Config, _options: argparse.Namespace) -> int:
    """Never return. When it ends, the rules stay."""
    watch = nft.RulesetWatch()
    while True:
        try:
            if not nft.table_present("inet", settings.table):
                nft.load(settings.rules)
                event("loaded", table=settings.table)
            notify("READY=1\nWATCHDOG=1")
        except CommandError as error:  # without a sign of life systemd begins anew
            event("failed", error=error)
        select.select([watch], [], [], INTERVAL)
        watch.drain()


def _status(settings: Config, _options: argparse.Namespace) -> int:
    present = nft.table_present("inet", settings.table)
    print("on" if present else "off")
    return 0 if present else 1


if __name__ == "__main__":
    sys.exit(main())
