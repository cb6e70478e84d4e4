# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What the daemons' command lines have in common: ``python3 -m PACKAGE --config FILE COMMAND``."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from .command import CommandError
from .config import ConfigError
from .httpclient import Connection

Config = TypeVar("Config")

HTTP_TIMEOUT = 2.0  # seconds


class CommandLine(Generic[Config]):
    """Commands that get the daemon's configuration. ``check-config`` is one of them by itself."""

    def __init__(self, program: str, description: str, config: str, load: Callable[[str], Config]) -> None:
        """``config`` is where the configuration is unless ``--config`` says otherwise, ``load`` reads it."""
        self._program = program
        self._load = load
        self._parser = argparse.ArgumentParser(prog=program, description=description)
        self._parser.add_argument("--config", metavar="FILE", default=config)
        self._commands = self._parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        check = self._commands.add_parser("check-config", help="exit 0 when FILE is a valid configuration")
        check.add_argument("file", metavar="FILE")

    def add(self, name: str, run: Callable[[Config, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        """Add a command, which returns its exit code; the caller adds its options to the result."""
        command = self._commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Return the exit code: the command's own, or 2 when something it needs is not in order."""
        options = self._parser.parse_args(argv)
        try:
            if options.command == "check-config":
                self._load(options.file)
                return 0
            code: int = options.run(self._load(options.config), options)
            return code
        except (ConfigError, CommandError, OSError) as error:
            print(f"{self._program}: {error}", file=sys.stderr)
            return 2


def printable(text: str) -> str:
    """Return the words of a host that may not be ours any more, fit for somebody's terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def answers(addresses: Iterable[tuple[str, int]], path: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield what the daemon says at each address where it answers with an object, of at most ``limit`` bytes."""
    for address, port in addresses:
        connection = Connection(address, port, timeout=HTTP_TIMEOUT)
        try:
            connection.request("GET", path)
            document = json.loads(connection.getresponse().read(limit))
        except (OSError, ValueError, RecursionError, http.client.HTTPException):
            continue
        finally:
            connection.close()
        if isinstance(document, dict):
            yield document
