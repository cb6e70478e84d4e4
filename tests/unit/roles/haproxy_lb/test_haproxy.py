# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from wirefleet_steer.haproxy import HAProxyError, Report, ask, parse, seconds, servers, version

# Columns of HAProxy 2.6, shortened; the order is as there.
HEADER = (
    "# pxname,svname,scur,status,weight,lastchg,sid,check_status,check_code,check_duration,last_chk,check_desc,"
    "new_in_3_4,"
)
ANSWER = f"""{HEADER}
vpn_back,n1,0,UP,1,12,1,L7OK,200,3,,Layer7 check passed,x,
vpn_back,n2,0,DOWN,100,3,2,L4CON,,0,"Connection refused, at once",Layer4 connection problem,x,
vpn_back,n3,0,MAINT,1,0,3,,,,,,x,
vpn_back,n4,0,DOWN,1,3,4,* L4CON,,0,,Layer4 connection problem,x,

"""


def test_servers_are_read_by_column_name() -> None:
    assert parse(ANSWER) == {
        "n1": Report("UP", 1, "L7OK", "Layer7 check passed", 12, 200, 0.003, 1),
        "n2": Report("DOWN", 100, "L4CON", "Layer4 connection problem: Connection refused, at once", 3, 0, 0.0, 2),
        "n3": Report("MAINT", 1, "", "", 0, id=3),
        "n4": Report("DOWN", 1, "L4CON", "Layer4 connection problem", 3, 0, 0.0, 4, under_way=True),
    }


def test_a_nodes_words_are_fit_for_a_terminal() -> None:
    """They are the reason that its HTTP server gives, which is whatever runs on it."""
    answer = f"{HEADER}\nvpn_back,n1,0,DOWN,1,3,1,L7STS,500,1,\x1b[2Jall is \x9bwell\x07,Layer7 wrong status,x,\n"
    assert parse(answer)["n1"].check == "Layer7 wrong status: ?[2Jall is ?well?"


def test_a_backend_without_servers() -> None:
    assert parse(f"{HEADER}\n\n") == {}


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Unknown command: 'show stat'\n",
        "Can't find backend.\n",
        "# pxname,svname\nvpn_back,n1\n",
        f"{HEADER}\nvpn_back,n1,0,UP,many,12,1,L7OK,200,3,,,x,\n",
        f"{HEADER}\nvpn_back,n1,0,UP\n",
    ],
)
def test_any_other_answer_is_an_error(answer: str) -> None:
    with pytest.raises(HAProxyError):
        parse(answer)


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HAProxyError, match=r"admin\.sock: .*No such file"):
        ask(str(tmp_path / "admin.sock"), "show stat")


@contextmanager
def answering(path: str, *parts: str) -> Iterator[list[bytes]]:
    """Answer one question in parts; yield what was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(1000))
                for part in parts:
                    connection.sendall(part.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join()


def test_the_whole_answer_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with answering(path, ANSWER[:50], ANSWER[50:]) as asked:
        assert servers(path, "vpn_back").keys() == {"n1", "n2", "n3", "n4"}
    assert asked == [b"show stat vpn_back 4 -1\n"]


@pytest.mark.parametrize(
    ("text", "expected"), [("500ms", 0.5), ("3s", 3), ("2000", 2), ("250us", 0.00025), ("1m", 60), ("1h", 3600)]
)
def test_a_time_is_read_as_haproxy_does(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "s", "1.5s", "-1s", "3 s", "2w"])
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is not a time"):
        seconds(text)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nRelease_date: 2026/01/01\n", "2.6.12-1+deb12u4"), ("", "unknown")],
)
def test_the_version(tmp_path: Path, answer: str, expected: str) -> None:
    path = str(tmp_path / "admin.sock")
    with answering(path, answer):
        assert version(path) == expected
