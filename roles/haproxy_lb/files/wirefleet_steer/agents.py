# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Talk to the nodes' agents through the mesh: a thread for each, so that a node that hangs keeps nobody waiting."""

from __future__ import annotations

import http.client
import json
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from typing import Any, Union

from wirefleet.endpoint import address_of
from wirefleet.httpclient import Connection

from .adoption import Move, Session

VERSION = 1
INTERVAL, HURRY = 1.0, 0.25  # seconds between two looks, and while somebody is being adopted there
TIMEOUT = 2.0  # seconds
MAX_ANSWER = 1 << 25  # bytes: 10,000 clients are one million
# What one node may claim, or the work and the memory that we spend on it had no end. A second or two goes into a review
# of so many clients, and a sign that all is in order may be three old.
MAX_CLIENTS = 100_000
MAX_NETWORKS = 2 * MAX_CLIENTS  # an address of each family, and the few networks behind clients

EPOCH = re.compile(r"[0-9A-Za-z]{1,64}")  # it comes back in a URL
KEY = re.compile(r"[0-9A-Za-z+/]{1,43}=")  # it is shown to people


class AgentError(Exception):
    """An agent did not answer, or not what we understand."""


@dataclass(frozen=True)
class Heard:
    """What is new at a node, by our clock; ``whole``: that is all.

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
        self._claims: Mapping[str, int] = {}  # public key -> number of networks, of all that it said in this epoch

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
            listing = listed(self._exchange("GET", f"/v1/peers?epoch={self._epoch}&since={self._seq}"))
            now = time.time()
            offset, seen_at = listing.time - (begin + now) / 2, time.monotonic() - listing.age
            sessions = {key: session.by_clock(offset, now) for key, session in listing.sessions.items()}
            heard = Heard(self.node, sessions, listing.epoch != self._epoch, offset, seen_at)
            self._claims = bounded({} if heard.whole else self._claims, sessions)
            self._epoch, self._seq = listing.epoch, listing.seq
            return heard
        except AgentError as error:
            return Failed(self.node, str(error))

    def _ask(self, moves: Sequence[Move]) -> Message:
        peers = [{"public_key": move.key, "endpoint": move.session.endpoint} for move in moves]
        try:
            begun, refused = adopting(
                self._exchange("POST", "/v1/adopt", json.dumps({"version": VERSION, "peers": peers}))
            )
            return Adopting(self.node, begun, refused)
        except AgentError as error:
            return Failed(self.node, str(error), [move.key for move in moves])

    def _release(self, clients: Sequence[tuple[str, int]]) -> Message | None:
        peers = [{"public_key": key, "handshake": handshake} for key, handshake in clients]
        try:
            self._exchange("POST", "/v1/release", json.dumps({"version": VERSION, "peers": peers}))
        except AgentError as error:
            return Failed(self.node, str(error))
        return None

    def _exchange(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection = Connection(*self._address, timeout=TIMEOUT)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return understood(response.status, response.read(MAX_ANSWER))
        except (OSError, http.client.HTTPException) as error:
            raise AgentError(_words(error)) from error
        finally:
            connection.close()


@dataclass(frozen=True)
class Listing:
    """An agent's answer about its clients: its clock, the age of its last look in seconds, and what is new since."""

    time: float
    age: float
    epoch: str
    seq: int
    sessions: Mapping[str, Session]


def understood(status: int, body: bytes) -> dict[str, Any]:
    """Return what an agent answers; raise an AgentError when that is a refusal, or nothing that we understand."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AgentError(_words(error)) from error
    if not isinstance(answer, dict):
        raise AgentError("not an object")
    if status != http.HTTPStatus.OK:
        raise AgentError(f"{status}: {answer.get('error')!s:.200}")
    if answer.get("version") != VERSION:
        raise AgentError(f"speaks version {answer.get('version')!s:.20}, not {VERSION}")
    return answer


def listed(answer: Mapping[str, Any]) -> Listing:
    """Read a list of clients. Raises an AgentError for anything that is not as an agent says it.

    A stolen node may say what it likes: nothing of it may reach our own commands, or stop us from asking again.
    """
    try:
        return Listing(
            time=_number(answer["time"], "time"),
            age=_number(answer["age"], "age"),
            epoch=_matching(EPOCH, answer["epoch"], "epoch"),
            seq=_whole(answer["seq"], "seq"),
            sessions={_matching(KEY, peer["public_key"], "public_key"): _session(peer) for peer in answer["peers"]},
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise AgentError(_words(error)) from error


def bounded(claims: Mapping[str, int], sessions: Mapping[str, Session]) -> Mapping[str, int]:
    """Return a node's ``claims`` (public key -> number of networks) with the new ones.

    Raises an AgentError when no honest node has so many: what it says is not taken in then.
    """
    if not sessions:
        return claims
    claims = {**claims, **{key: len(session.networks) for key, session in sessions.items()}}
    if len(claims) > MAX_CLIENTS:
        raise AgentError(f"claims more than {MAX_CLIENTS} clients")
    if sum(claims.values()) > MAX_NETWORKS:
        raise AgentError(f"claims more than {MAX_NETWORKS} networks")
    return claims


def adopting(answer: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return whom the agent adopts, and whom it refuses. Raises an AgentError."""
    try:
        return [str(key) for key in answer["adopting"]], [str(key) for key in answer["refused"]]
    except (KeyError, TypeError) as error:
        raise AgentError(_words(error)) from error


def _session(peer: Mapping[str, Any]) -> Session:
    """Raise a ValueError unless the endpoint is an address and a port."""
    address_of(peer["endpoint"])
    networks = tuple(map(_network, peer.get("networks", ())))  # new: older agents do not route
    return Session(peer["endpoint"], _whole(peer["handshake"], "handshake"), networks)


def _network(text: Any) -> str:
    network = ip_network(text)
    if "%" in str(network):
        raise ValueError("networks: one has a zone")
    return str(network)


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: not a number of seconds")
    return float(value)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{name}: not a whole number")
    return value


def _matching(pattern: re.Pattern[str], value: Any, name: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{name}: not one")
    return value


def _words(error: Exception) -> str:
    return f"{error if isinstance(error, OSError) else f'{type(error).__name__}: {error}'!s:.200}"
