# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wirefleet_node.adopt import Candidate, candidate
from wirefleet_node.owned import Claim, claim
from wirefleet_node.requests import MAX_PEERS, RequestError, requested

KEY = "wD8mWjHnVd1sIuDJXRvSkhgPsd2ehLPkMR9wGwKkFlc="
OTHER = "8W3DSpjZQrzOc3DtvV7iK0HeJTQ7wZ1KUI/Id6uEsWo="

BAD_KEYS = [None, "", KEY[:-1], f"{KEY}\n", f"-{KEY[1:]}", KEY[1:]]
BAD_ENDPOINTS = [
    None,
    5,
    "",
    "198.51.100.1",
    "198.51.100.1:",
    "198.51.100.1:0",
    "198.51.100.1:65536",
    "198.51.100.1:-1",
    "198.51.100.1:5 ",
    "198.51.100.1:5\n",
    "198.51.100.256:5",
    "198.51.100.1:\u0665",  # a digit, in Arabic
    "vpn.example.com:5",
    "2001:db8::1:5",
    "[198.51.100.1]:5",
    "[fe80::1%eth0]:5",
    "[2001:db8::g]:5",
]
IMPOSSIBLE_ENDPOINTS = ["0.0.0.0:5", "224.0.0.1:5", "[ff02::1]:5", "169.254.1.1:5"]


def request(*peers: object, **changes: Any) -> bytes:
    return json.dumps({"version": 1, "peers": list(peers), **changes}).encode()


def peer(public_key: Any = KEY, endpoint: Any = "198.51.100.1:5") -> dict[str, Any]:
    return {"public_key": public_key, "endpoint": endpoint}


@pytest.mark.parametrize("endpoint", ["198.51.100.1:5", "[2001:db8::1]:65535", "10.1.2.3:1"])
def test_a_request(endpoint: str) -> None:
    assert requested(request(peer(endpoint=endpoint), peer(OTHER)), candidate) == [
        Candidate(KEY, endpoint),
        Candidate(OTHER, "198.51.100.1:5"),
    ]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b"[]", "expected"),
        (request(peer(), version=2), "version: this agent reads 1"),
        (request(peer(), version=True), "version"),
        (request(peer(), colour="red"), "expected"),
        (request(), "peers: expected 1 to 256"),
        (request(*[peer()] * (MAX_PEERS + 1)), "peers: expected 1 to 256"),
        (request(peers="all"), "peers: expected"),
        (request(peer(), peer()), "one is there twice"),
        (request("K="), r"peers\[0\]"),
        (request(peer(), {**peer(OTHER), "allowed_ips": "0.0.0.0/0"}), r"peers\[1\]: expected"),
        (request({"public_key": KEY}), r"peers\[0\]: expected"),
        *((request(peer(public_key=key)), "not a WireGuard key") for key in BAD_KEYS),
        *((request(peer(endpoint=endpoint)), "expected ADDRESS:PORT") for endpoint in BAD_ENDPOINTS),
        *((request(peer(endpoint=endpoint)), "no client has") for endpoint in IMPOSSIBLE_ENDPOINTS),
    ],
)
def test_a_request_that_is_wrong_anywhere_is_none(body: bytes, error: str) -> None:
    with pytest.raises(RequestError, match=error):
        requested(body, candidate)


@given(st.one_of(st.binary(), st.text(string.printable).map(lambda text: request(peer(endpoint=text)))))
def test_nothing_else_comes_of_junk(body: bytes) -> None:
    with pytest.raises(RequestError):
        requested(body, candidate)


def test_a_release() -> None:
    peers = [{"public_key": KEY, "handshake": 1795378856}, {"public_key": OTHER, "handshake": 0}]
    assert requested(request(*peers), claim) == [Claim(KEY, 1795378856), Claim(OTHER, 0)]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (KEY, r"peers\[0\]: expected"),
        ({"public_key": KEY}, r"peers\[0\]: expected"),
        ({"public_key": KEY, "handshake": 1, "networks": []}, r"peers\[0\]: expected"),
        ({"public_key": KEY, "handshake": True}, "seconds since the epoch"),
        ({"public_key": KEY, "handshake": -1}, "seconds since the epoch"),
        ({"public_key": KEY, "handshake": 1.5}, "seconds since the epoch"),
        ({"public_key": KEY, "handshake": "1"}, "seconds since the epoch"),
        *(({"public_key": key, "handshake": 1}, "not a WireGuard key") for key in BAD_KEYS),
    ],
)
def test_a_release_that_is_wrong_is_none(wrong: object, error: str) -> None:
    with pytest.raises(RequestError, match=error):
        requested(request(wrong), claim)
