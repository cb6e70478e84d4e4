# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What balancers ask: a list of peers, checked before anything is done. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

VERSION = 1
MAX_PEERS = 256
PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")


class Peer(Protocol):
    @property
    def public_key(self) -> str: ...


AnyPeer = TypeVar("AnyPeer", bound=Peer)


class RequestError(ValueError):
    """What is wrong with a request, for whoever sent it."""


def requested(body: bytes, read: Callable[[object, str], AnyPeer]) -> list[AnyPeer]:
    """Read a request about peers. One that is not as it should be, in any part of it, raises a RequestError.

    ``read`` makes something with a ``public_key`` of each peer, or raises a RequestError that says where it stands.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"not JSON: {error}") from None
    if not isinstance(document, dict) or document.keys() != {"version", "peers"}:
        raise RequestError('expected {"version": …, "peers": […]}')
    if (
        not isinstance(document["version"], int)
        or isinstance(document["version"], bool)
        or document["version"] != VERSION
    ):
        raise RequestError(f"version: this agent reads {VERSION}")
    peers = document["peers"]
    if not isinstance(peers, list) or not 0 < len(peers) <= MAX_PEERS:
        raise RequestError(f"peers: expected 1 to {MAX_PEERS}")
    found = [read(peer, f"peers[{i}]") for i, peer in enumerate(peers)]
    if len({peer.public_key for peer in found}) < len(found):
        raise RequestError("peers: one is there twice")
    return found


def public_key(peer: Mapping[str, object], where: str) -> str:
    key = peer["public_key"]
    if not isinstance(key, str) or not PUBLIC_KEY.fullmatch(key):
        raise RequestError(f"{where}.public_key: not a WireGuard key")
    return key
