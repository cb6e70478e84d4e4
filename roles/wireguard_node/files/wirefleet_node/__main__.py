# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Command line: ``python3 -m wirefleet_node --config FILE COMMAND``."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from wirefleet.cli import CommandLine, answers

from . import drain, observe
from .agent import Agent, health_document
from .health import FAILED, OK, Verdict
from .repair import Repairs
from .settings import Config, load


def main(argv: Sequence[str] | None = None) -> int:
    program = CommandLine(
        "wirefleet-node", "Agent of a wirefleet WireGuard node.", "/etc/wirefleet/default/node.json", load
    )
    program.add("run", _run, "run the agent (systemd does this)")
    program.add("status", _status, "print the verdict; exit 0 when the node takes clients, 1 when not")
    order = program.add("drain", _drain, "take no new clients; the agent notices within a second")
    order.add_argument("--reason", default="", help="for the next one who looks")
    order.add_argument("--by", default="", help="who orders it, when that is not you")
    program.add("undrain", _undrain, "take clients again")
    program.add(
        "prepare", _prepare, "put rules, routes and the nftables table in place, before WireGuard sends anything"
    )
    return program.main(argv)


def _run(config: Config, _options: argparse.Namespace) -> int:
    Agent(config).run()


def _status(config: Config, _options: argparse.Namespace) -> int:
    """Ask the agent; when it does not answer, say so and show what it would have seen.

    But for the operator's checks: they run with the agent's few rights, and we are root.
    """
    document = _ask(config)
    if document is None:
        seen = Agent(config).look()
        document = health_document(config, Verdict(FAILED, ("the agent does not answer", *seen.reasons), seen.drain))
    document["host"] = {"kernel": os.uname().release, "wireguard": observe.implementation(config.interface)}
    print(json.dumps(document, indent=2))
    return 0 if document["state"] == OK else 1


def _drain(config: Config, options: argparse.Namespace) -> int:
    by = options.by or os.environ.get("SUDO_USER") or getpass.getuser()
    order = drain.write(config.state_dir, by, options.reason)
    print(json.dumps(asdict(order)))
    return 0


def _undrain(config: Config, _options: argparse.Namespace) -> int:
    drain.remove(config.state_dir)
    return 0


def _prepare(config: Config, _options: argparse.Namespace) -> int:
    lost, errors = Repairs().restore(config)
    problems = [*errors, *(f"{item}: missing" for item in lost)]
    for problem in problems:
        print(f"wirefleet-node: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _ask(config: Config) -> dict[str, Any] | None:
    """Return the agent's own answer from the first address that gives one.

    The name is compared: an address whose interface is gone is not local any more, and might lead to somebody else.
    """
    documents = answers(config.listen, "/healthz", limit=65536)
    return next((document for document in documents if document.get("node") == config.node), None)


if __name__ == "__main__":
    sys.exit(main())
