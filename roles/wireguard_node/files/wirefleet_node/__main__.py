# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Command line: ``python3 -m wirefleet_node --config FILE COMMAND``."""

from __future__ import annotations

import argparse
import getpass
import http.client
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from wirefleet.config import ConfigError

from . import drain
from .agent import Agent, health_document
from .health import FAILED, OK, Verdict
from .repair import Repairs
from .settings import Config, load

HTTP_TIMEOUT = 2.0  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        if options.command == "check-config":
            load(options.file)
            return 0
        run: Callable[[Config, argparse.Namespace], int] = options.run
        return run(load(options.config), options)
    except (ConfigError, OSError) as error:
        print(f"wirefleet-node: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wirefleet-node", description="Agent of a wirefleet WireGuard node.")
    parser.add_argument("--config", metavar="FILE", default="/etc/wirefleet/default/node.json")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Config, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("run", _run, "run the agent (systemd does this)")
    add("status", _status, "print the verdict; exit 0 when the node takes clients, 1 when not")
    order = add("drain", _drain, "take no new clients; the agent notices within a second")
    order.add_argument("--reason", default="", help="for the next one who looks")
    add("undrain", _undrain, "take clients again")
    add("prepare", _prepare, "put rules, routes and the nftables table in place, before WireGuard sends anything")
    check = commands.add_parser("check-config", help="exit 0 when FILE is a valid configuration")
    check.add_argument("file", metavar="FILE")
    return parser


def _run(config: Config, _options: argparse.Namespace) -> int:
    Agent(config).run()


def _status(config: Config, _options: argparse.Namespace) -> int:
    """Ask the agent; when it does not answer, say so and show what it would have seen."""
    document = _ask(config)
    if document is None:
        agent = Agent(config)
        agent.checks.run_once()
        seen = agent.look()
        document = health_document(config, Verdict(FAILED, ("the agent does not answer", *seen.reasons), seen.drain))
    print(json.dumps(document, indent=2))
    return 0 if document["state"] == OK else 1


def _drain(config: Config, options: argparse.Namespace) -> int:
    order = drain.write(config.state_dir, os.environ.get("SUDO_USER") or getpass.getuser(), options.reason)
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
    for address, port in config.listen:
        connection = http.client.HTTPConnection(address, port, timeout=HTTP_TIMEOUT)
        try:
            connection.request("GET", "/healthz")
            document = json.loads(connection.getresponse().read(65536))
        except (OSError, ValueError, http.client.HTTPException):
            continue
        finally:
            connection.close()
        if isinstance(document, dict) and document.get("node") == config.node:
            return document
    return None


if __name__ == "__main__":
    sys.exit(main())
