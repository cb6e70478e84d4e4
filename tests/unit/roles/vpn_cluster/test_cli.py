# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import argparse
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from wirefleet import httpclient
from wirefleet.cli import CommandLine, answers
from wirefleet.command import CommandError
from wirefleet.config import ConfigError
from wirefleet.httpd import Response, Server


def load(path: str) -> str:
    """A configuration is the file's text, and must not be empty."""
    text = Path(path).read_text()
    if not text:
        raise ConfigError(f"{path}: empty")
    return text


def greet(config: str, options: argparse.Namespace) -> int:
    if options.name == "nobody":
        raise CommandError(["greet"], 1, "nobody is there")
    print(f"{config} {options.name}")
    return 3


@pytest.fixture
def program(tmp_path: Path) -> CommandLine[str]:
    program = CommandLine("greeter", "It greets.", str(tmp_path / "default"), load)
    program.add("greet", greet, "greet somebody").add_argument("name")
    return program


@pytest.mark.parametrize(
    ("argv", "code", "said", "complaint"),
    [
        (["greet", "you"], 3, "hello you\n", ""),
        (["--config", "{}/other", "greet", "you"], 3, "hi you\n", ""),
        (["greet", "nobody"], 2, "", "greeter: greet: exit 1: nobody is there\n"),
        (["--config", "{}/empty", "greet", "you"], 2, "", "greeter: {}/empty: empty\n"),
        (["--config", "{}/absent", "greet", "you"], 2, "", "No such file or directory"),
        (["check-config", "{}/other"], 0, "", ""),
        (["check-config", "{}/empty"], 2, "", "greeter: {}/empty: empty\n"),
    ],
)
def test_commands(
    tmp_path: Path,
    program: CommandLine[str],
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    code: int,
    said: str,
    complaint: str,
) -> None:
    for name, text in {"default": "hello", "other": "hi", "empty": ""}.items():
        (tmp_path / name).write_text(text)
    assert program.main([word.format(tmp_path) for word in argv]) == code
    captured = capsys.readouterr()
    assert captured.out == said
    assert complaint.format(tmp_path) in captured.err


def test_answers_come_from_addresses_that_give_one() -> None:
    """Nobody listens at the first one, the second gives no object, the third one that is too long to be whole."""
    pages = ([1], {"name": "x" * 100}, {"name": "daemon"})
    servers = [
        Server([("127.0.0.1", 0)], lambda _request, page=page: Response.from_json(200, page), "test/1")
        for page in pages
    ]
    for server in servers:
        server.start()
    addresses = [("127.0.0.1", 1), *(server.addresses[0] for server in servers)]
    assert list(answers(addresses, "/", limit=100)) == [{"name": "daemon"}]
    assert len(list(answers(addresses, "/"))) == 2


def test_whoever_never_ends_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpclient, "DEADLINE", 0.3)
    begin = time.monotonic()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n{}")
            while time.monotonic() < begin + 2:
                connection.sendall(b" ")
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        found = list(answers([listener.getsockname()], "/"))
        took = time.monotonic() - begin
        thread.join()
    assert (found, took < 1.5) == ([], True)
