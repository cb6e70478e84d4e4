# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A very small HTTP server: GET, HEAD and POST, one request per connection, everything bounded.

It speaks to health checks, metric scrapers and the cluster's own daemons. http.server would do, but it has no deadline
for a whole request, lets headers grow to megabytes and starts threads without end.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl

from .log import event

IP_FREEBIND = 15  # linux/in.h
IPV6_FREEBIND = 78  # linux/in6.h

MAX_REQUEST = 8192  # bytes, request line and headers together
MAX_BODY = 65536  # bytes
MAX_CONNECTIONS = 32  # more wait in the kernel's queue
MAX_FROM_ONE = 8  # of these; in the mesh nobody has another address than his own
DEADLINE = 5.0  # seconds for the whole exchange, so that trickling bytes hold no thread


@dataclass(frozen=True)
class Request:
    """``method`` is "GET" (for HEAD, too) or "POST"; ``client`` asked, and ``server`` was asked: addresses."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    client: str = ""
    method: str = "GET"
    body: bytes = b""
    server: str = ""


@dataclass(frozen=True)
class Response:
    status: int
    body: str
    content_type: str = "application/json"

    @classmethod
    def from_json(cls, status: int, document: object) -> Response:
        return cls(status, json.dumps(document) + "\n")


Handler = Callable[[Request], "Response | None"]  # None: not found


def bind(address: str, port: int) -> socket.socket:
    """Listen on an address that need not exist yet: its interface may come, go and come back under us."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        sock.bind((address, port))
        sock.listen(128)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


class Server:
    """Answers on every address of ``listen`` from a thread of its own, so that a stuck main loop can still be reported.

    It listens from its creation, answers from ``start()`` on (connections wait until then), and ends with the process.
    ``name`` is the product token of the Server header, such as ``wirefleet-node/0.1.0``; ``posts`` are the paths that
    may be posted to. Nothing else is read beyond its head.
    """

    def __init__(
        self, listen: Sequence[tuple[str, int]], handler: Handler, name: str, posts: Collection[str] = ()
    ) -> None:
        self._handler = handler
        self._posts = frozenset(posts)
        self._name = name
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._clients: Counter[str] = Counter()  # address -> its connections
        self._lock = threading.Lock()  # for these
        self._sockets = [bind(address, port) for address, port in listen]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [sock.getsockname()[:2] for sock in self._sockets]

    def start(self) -> None:
        threading.Thread(target=self._accept, name="http", daemon=True).start()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in self._sockets:
                selector.register(sock, selectors.EVENT_READ)
            while True:
                for key, _events in selector.select():
                    self._slots.acquire()
                    try:
                        connection, peer = key.fileobj.accept()  # type: ignore[union-attr]
                    except OSError as error:  # the client left, or no descriptor is free
                        self._slots.release()
                        _note(error)
                        continue
                    try:
                        self._enter(peer[0])
                        threading.Thread(target=self._serve, args=(connection, peer[0]), daemon=True).start()
                    except (ConnectionError, RuntimeError) as error:  # it has enough of them, or no thread is free
                        connection.close()
                        self._leave(peer[0])
                        _note(error)

    def _enter(self, client: str) -> None:
        """Raise a ConnectionError to a client that holds many connections: the others shall have some, too."""
        with self._lock:
            self._clients[client] += 1
            if self._clients[client] > MAX_FROM_ONE:
                raise ConnectionRefusedError(client)

    def _leave(self, client: str) -> None:
        with self._lock:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
        self._slots.release()

    def _serve(self, connection: socket.socket, client: str) -> None:
        try:
            with connection, suppress(OSError):
                deadline = time.monotonic() + DEADLINE
                answer = self._answer(connection, client, connection.getsockname()[0], deadline)
                connection.settimeout(max(deadline - time.monotonic(), 0.1))
                connection.sendall(answer)
        finally:
            self._leave(client)

    def _answer(self, connection: socket.socket, client: str, server: str, deadline: float) -> bytes:
        head, complete, rest = _read_head(connection, deadline).partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        words = line.decode("latin-1").split(" ")
        if len(head) > MAX_REQUEST:
            return self._encode(_problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        if not complete or len(words) != 3 or not words[2].startswith("HTTP/1."):
            return self._encode(_problem(HTTPStatus.BAD_REQUEST))
        method, target, _version = words
        path, _mark, query = target.partition("?")
        if method not in ("GET", "HEAD") and not (method == "POST" and path in self._posts):
            return self._encode(_problem(HTTPStatus.METHOD_NOT_ALLOWED))
        body = b""
        if method == "POST":
            length = _content_length(headers)
            if length is None:
                return self._encode(_problem(HTTPStatus.LENGTH_REQUIRED))
            if length > MAX_BODY:
                return self._encode(_problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
            body = _read_body(connection, deadline, rest, length)
        request = Request(path, dict(parse_qsl(query)), client, "POST" if method == "POST" else "GET", body, server)
        return self._encode(self._respond(request), with_body=method != "HEAD")

    def _respond(self, request: Request) -> Response:
        try:
            return self._handler(request) or _problem(HTTPStatus.NOT_FOUND)
        except Exception as error:  # a bug in one page must neither kill the thread in silence nor look like health
            event("http_failed", path=request.path, error=f"{type(error).__name__}: {error}")
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _encode(self, response: Response, *, with_body: bool = True) -> bytes:
        body = response.body.encode()
        head = (
            f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
            f"Server: {self._name}\r\n"
            f"Content-Type: {response.content_type}\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode("latin-1") + (body if with_body else b"")


def _note(error: Exception) -> None:
    """Say what kept us from accepting a connection, unless that is an everyday thing."""
    if not isinstance(error, (BlockingIOError, ConnectionError)):
        event("http_accept_failed", error=error)
        time.sleep(0.1)


def _read_head(connection: socket.socket, deadline: float) -> bytes:
    """Read to the empty line and whatever came with it; give up beyond MAX_REQUEST. What is late raises OSError."""
    received = b""
    while b"\r\n\r\n" not in received and len(received) <= MAX_REQUEST:
        chunk = _receive(connection, deadline)
        if not chunk:
            break
        received += chunk
    return received


def _read_body(connection: socket.socket, deadline: float, body: bytes, length: int) -> bytes:
    """Read on until there are ``length`` bytes; a client that ends before that is gone (ConnectionError)."""
    while len(body) < length:
        chunk = _receive(connection, deadline)
        if not chunk:
            raise ConnectionError("the request's body is cut off")
        body += chunk
    return body[:length]


def _receive(connection: socket.socket, deadline: float) -> bytes:
    connection.settimeout(max(deadline - time.monotonic(), 0.001))
    return connection.recv(4096)


def _content_length(headers: Sequence[bytes]) -> int | None:
    for header in headers:
        name, _colon, value = header.partition(b":")
        if name.strip().lower() == b"content-length" and re.fullmatch(rb"[0-9]{1,18}", value.strip()):
            return int(value)
    return None


def _problem(status: HTTPStatus) -> Response:
    return Response.from_json(status, {"error": status.phrase})
