# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Talk to the nodes' agents through the mesh: a thread for each, so that a node that hangs keeps nobody waiting."""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any, Union

from .adoption import Move, Session

VERSION = 1
INTERVAL, HURRY = 1.0, 0.25  # seconds between two looks, and while somebody is being adopted there
TIMEOUT = 2.0  # seconds
MAX_ANSWER = 1 << 25  # bytes: 10,000 clients are one million


class AgentError(Exception):
    """An agent did not answer, or not what we understand."""


@dataclass(frozen=True)
class Heard:
    """What is new at a node; ``whole``: that is all.

    ``offset`` is its clock less ours in seconds, ``seen_at`` when it looked, on our monotonic clock.
    """

    node: str
    sessions: Mapping[str, Session]
    whole: bool
    offset: float
    seen_at: float


@dataclass(frozen=True)
class Adopting:
    """A node's answer to a request: public keys that it begins with, and those that it does not know."""

    node: str
    begun: Sequence[str]
    refused: Sequence[str]


@dataclass(frozen=True)
class Failed:
    """A node was not heard; ``keys``: whom it was asked to adopt, if that was it."""

    node: str
    error: str
    keys: Sequence[str] = ()


Message = Union[Heard, Adopting, Failed]


class Agent:
    """Follows one agent, from ``start()`` on; what it says goes to the ``inbox``."""

    def __init__(self, node: str, address: tuple[str, int], inbox: queue.SimpleQueue[Message]) -> None:
        self.node = node
        self.hurry = False
        self._address = address
        self._inbox = inbox
        self._orders: queue.SimpleQueue[Callable[[], Message | None]] = queue.SimpleQueue()
        self._epoch, self._seq = "", 0

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"agent {self.node}", daemon=True).start()

    def adopt(self, moves: Sequence[Move]) -> None:
        """Ask it to; the answer, or a failure, comes through the inbox."""
        self._orders.put(partial(self._ask, moves))

    def release(self, clients: Sequence[tuple[str, int]]) -> None:
        """Ask it to let clients go (public key, handshake); what it claims from then on shows whether it did."""
        self._orders.put(partial(self._release, clients))

    def _run(self) -> None:
        while True:
            try:
                message = self._orders.get(timeout=HURRY if self.hurry else INTERVAL)()
            except queue.Empty:
                message = None
            if message:
                self._inbox.put(message)
            self._inbox.put(self._look())

    def _look(self) -> Message:
        try:
            begin = time.time()
            answer = self._exchange("GET", f"/v1/peers?epoch={self._epoch}&since={self._seq}")
            middle = (begin + time.time()) / 2
            sessions = {peer["public_key"]: _session(peer) for peer in answer["peers"]}
            offset, seen_at = float(answer["time"]) - middle, time.monotonic() - float(answer["age"])
            heard = Heard(self.node, sessions, answer["epoch"] != self._epoch, offset, seen_at)
            self._epoch, self._seq = str(answer["epoch"]), int(answer["seq"])
            return heard
        except (AgentError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            return Failed(self.node, _words(error))

    def _ask(self, moves: Sequence[Move]) -> Message:
        peers = [{"public_key": move.key, "endpoint": move.session.endpoint} for move in moves]
        try:
            answer = self._exchange("POST", "/v1/adopt", json.dumps({"version": VERSION, "peers": peers}))
            return Adopting(self.node, list(answer["adopting"]), list(answer["refused"]))
        except (AgentError, KeyError, TypeError) as error:
            return Failed(self.node, _words(error), [move.key for move in moves])

    def _release(self, clients: Sequence[tuple[str, int]]) -> Message | None:
        peers = [{"public_key": key, "handshake": handshake} for key, handshake in clients]
        try:
            self._exchange("POST", "/v1/release", json.dumps({"version": VERSION, "peers": peers}))
        except AgentError as error:
            return Failed(self.node, _words(error))
        return None

    def _exchange(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = json.loads(response.read(MAX_ANSWER))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise AgentError(_words(error)) from error
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise AgentError("not an object")
        if response.status != http.HTTPStatus.OK:
            raise AgentError(f"{response.status}: {answer.get('error')}")
        if answer.get("version") != VERSION:
            raise AgentError(f"speaks version {answer.get('version')}, not {VERSION}")
        return answer


def _session(peer: Mapping[str, Any]) -> Session:
    """Raise a ValueError unless the endpoint is an address and a port."""
    address, _colon, port = peer["endpoint"].rpartition(":")
    ip_address(address.strip("[]"))
    int(port)
    networks = tuple(str(ip_network(network)) for network in peer.get("networks", ()))  # new: older agents do not route
    return Session(peer["endpoint"], int(peer["handshake"]), networks)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, (AgentError, OSError)) else f"{type(error).__name__}: {error}"
