# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from wirefleet import httpd
from wirefleet.httpd import Request, Response, Server


def pages(request: Request) -> Response | None:
    if request.path == "/broken":
        raise RuntimeError("bug")
    if request.path == "/echo":
        addresses = [request.client, request.server]
        return Response.from_json(200, [request.method, request.query, addresses, request.body.decode()])
    return Response.from_json(503, {"path": request.path}) if request.path == "/healthz" else None


@pytest.fixture(params=["127.0.0.1", "::1"])
def address(request: pytest.FixtureRequest) -> tuple[str, int]:
    server = Server([(request.param, 0)], pages, "wirefleet-test/1.0", posts=["/echo"])
    server.start()
    return server.addresses[0]


def exchange(address: tuple[str, int], request: bytes) -> bytes:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request)
        return connection.makefile("rb").read()


def trickle(connection: socket.socket, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answers_with_the_pages_status_and_the_version(address: tuple[str, int], method: str) -> None:
    connection = http.client.HTTPConnection(*address, timeout=5)
    connection.request(method, "/healthz?verbose")
    response = connection.getresponse()
    assert (response.status, response.headers["Server"]) == (503, "wirefleet-test/1.0")
    assert response.headers["Content-Type"] == "application/json"
    assert int(response.headers["Content-Length"]) > 0
    body = response.read()
    connection.close()
    assert body == b"" if method == "HEAD" else json.loads(body) == {"path": "/healthz"}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.0\r\n\r\n", 503),  # how HAProxy asks
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"POST /healthz HTTP/1.1\r\n\r\n", 405),
        (b"PUT /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", 405),
        (b"POST /echo HTTP/1.1\r\n\r\n", 411),
        (b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411),
        (b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (httpd.MAX_BODY + 1), 413),
        (b"POST /echo HTTP/1.1\r\nContent-Length: %s\r\n\r\n" % (b"9" * 5000), 411),  # more than int() reads
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
        (b"GET /healthz\r\n\r\n", 400),
        (b"\x16\x03\x01 \x00\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nX: ".ljust(httpd.MAX_REQUEST + 1, b"x"), 431),
    ],
)
def test_status(address: tuple[str, int], request_: bytes, status: int) -> None:
    assert exchange(address, request_).split(b" ", 2)[1] == str(status).encode()


@pytest.mark.parametrize("size", [0, 2, httpd.MAX_BODY])
def test_a_post_arrives_whole_and_with_both_its_ends(address: tuple[str, int], size: int) -> None:
    connection = http.client.HTTPConnection(*address, timeout=5)
    connection.request("POST", "/echo?since=5&x=%20", body="y" * size)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer == ["POST", {"since": "5", "x": " "}, [address[0]] * 2, "y" * size]


def test_a_body_that_is_cut_off_reaches_no_page(address: tuple[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""


def test_a_failing_page_is_reported(address: tuple[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    exchange(address, b"GET /broken HTTP/1.1\r\n\r\n")
    assert 'event=http_failed path=/broken error="RuntimeError: bug"' in capsys.readouterr().err


def test_a_trickling_client_is_cut_off(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpd, "DEADLINE", 0.5)
    with socket.create_connection(address, timeout=5) as connection, pytest.raises(ConnectionError):
        trickle(connection, seconds=5)


def answered(address: tuple[str, int]) -> bool:
    with suppress(ConnectionError):
        return exchange(address, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 503")
    return False


def idle(address: tuple[str, int], count: int, stack: ExitStack, source: str = "127.0.0.1") -> None:
    for _ in range(count):
        stack.enter_context(socket.create_connection(address, timeout=5, source_address=(source, 0)))


@pytest.fixture
def ipv4() -> tuple[str, int]:
    server = Server([("127.0.0.1", 0)], pages, "wirefleet-test/1.0")
    server.start()
    return server.addresses[0]


def test_one_slow_client_keeps_nobody_else_waiting(ipv4: tuple[str, int]) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        idle(ipv4, 4 * httpd.MAX_CONNECTIONS, stack, "127.0.0.9")
        assert all(answered(ipv4) for _ in range(20))
        assert threading.active_count() - before <= httpd.MAX_FROM_ONE + 1


def test_a_slow_client_gets_its_share_back(ipv4: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpd, "DEADLINE", 1.0)
    with ExitStack() as stack:
        idle(ipv4, httpd.MAX_FROM_ONE, stack)
        assert not answered(ipv4), "it has all that one may have"
        end = time.monotonic() + 10
        while not answered(ipv4):
            assert time.monotonic() < end
            time.sleep(0.1)


def test_many_slow_clients_use_bounded_threads_and_end(ipv4: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpd, "DEADLINE", 0.5)
    before = threading.active_count()
    with ExitStack() as stack:
        for number in range(2 * httpd.MAX_CONNECTIONS // httpd.MAX_FROM_ONE):
            idle(ipv4, httpd.MAX_FROM_ONE, stack, f"127.0.1.{number}")
        time.sleep(0.2)
        assert threading.active_count() - before <= httpd.MAX_CONNECTIONS
        assert answered(ipv4)


@pytest.mark.root
@pytest.mark.parametrize("address_", ["192.0.2.7", "2001:db8::7"])
def test_listens_before_the_address_exists(network: None, address_: str) -> None:
    server = Server([(address_, 8051)], pages, "wirefleet-test/1.0", posts=["/echo"])
    server.start()
    subprocess.run(["ip", "address", "add", address_, "dev", "lo"], check=True)
    assert exchange((address_, 8051), b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 503")
