# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Command line: ``python3 -m wirefleet_steer --config FILE COMMAND``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from wirefleet.cli import CommandLine
from wirefleet.config import ConfigError
from wirefleet.endpoint import address_of

from . import status
from .config import Config, Node, load
from .daemon import Steer, prepare
from .translation import Translator


def main(argv: Sequence[str] | None = None) -> int:
    program = CommandLine(
        "wirefleet-steer", "Steering of a wirefleet balancer.", "/etc/wirefleet/default/steer.json", load
    )
    program.add("run", _run, "run the daemon (systemd does this)")
    program.add("prepare", _prepare, "put the table in place")
    table = program.add("status", _status, "show every node; exit 0 when one takes clients, 1 when none does")
    table.add_argument("--json", action="store_true", help="the same for programs, and the balancer's own state")
    program.add("explain", _explain, "say why a node is in its state, and what can be done").add_argument("node")
    wait = program.add("wait", _wait, "wait until a node is where GOAL says; exit 1 when it takes too long")
    wait.add_argument("node")
    wait.add_argument("goal", choices=status.GOALS, metavar="GOAL", help=", ".join(status.GOALS))
    wait.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    wait.add_argument("--json", action="store_true", help="say for programs how far it is")
    client = program.add("client", _client, "say who is behind the ENDPOINT that a node knows a client by")
    client.add_argument("endpoint", metavar="ENDPOINT", help="ADDRESS:PORT, as WireGuard writes it")
    return program.main(argv)


def _run(config: Config, _options: argparse.Namespace) -> int:
    Steer(config).run()


def _prepare(config: Config, _options: argparse.Namespace) -> int:
    prepare(config)
    return 0


def _status(config: Config, options: argparse.Namespace) -> int:
    snapshot = status.take(config)
    sessions = status.count_sessions(config, snapshot)
    rows = [asdict(row) for row in status.rows(config, snapshot, sessions, status.count_clients(config))]
    if options.json:
        print(json.dumps({**status.balancer(config, snapshot), "nodes": rows}, indent=2))
    else:
        print(_table(rows))
        if snapshot.forwarding_error:
            print(f"Packets are not forwarded here: {snapshot.forwarding_error}")
    return 0 if any(status.takes_clients(snapshot, node) for node in config.nodes.values()) else 1


def _explain(config: Config, options: argparse.Namespace) -> int:
    for line in _explained(config, _node(config, options.node)):
        print(line)
    return 0


def _wait(config: Config, options: argparse.Namespace) -> int:
    node = _node(config, options.node)
    progress = status.wait(config, node, options.goal, options.timeout)
    if options.json:
        print(json.dumps(asdict(progress)))
    elif not progress.reached:
        print(f"wirefleet-steer: {node.name} is not {options.goal} after {options.timeout:g} s:", file=sys.stderr)
        for line in _explained(config, node):
            print(line, file=sys.stderr)
    return 0 if progress.reached else 1


def _client(config: Config, options: argparse.Namespace) -> int:
    try:
        family = "ip6" if address_of(options.endpoint).version == 6 else "ip"
    except ValueError as error:
        raise ConfigError(str(error)) from None
    translator = Translator(config)
    translator.follow()
    client = translator.client(family, options.endpoint)
    print(client or f"{options.endpoint}: nobody is known by that")
    return 0 if client else 1


def _explained(config: Config, node: Node) -> Iterator[str]:
    now = time.time()
    clients, agent = status.clients_of(config, node, now), status.ask_agent(node)
    return status.explain(config, status.take(config), node, now, clients, agent)


def _node(config: Config, name: str) -> Node:
    if name not in config.nodes:
        raise ConfigError(f"{name}: no such node; there are {', '.join(config.nodes)}")
    return config.nodes[name]


def _table(rows: Sequence[dict[str, object]]) -> str:
    """Align columns by their longest entry."""
    header = list(rows[0]) if rows else ["node"]
    lines = [[name.upper() for name in header]]
    lines += [["-" if row[name] is None else str(row[name]) for name in header] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
