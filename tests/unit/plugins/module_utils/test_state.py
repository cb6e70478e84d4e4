# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import public_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._state import StateError, choose_secret, newest_ledger

ONE, TWO, THREE = (base64.b64encode(bytes([n]) * 32).decode() for n in (8, 16, 24))


def read(generation: int, *names: str) -> dict[str, Any]:
    """What vpn_ledger says of one place."""
    return {"present": generation > 0, "generation": generation, "text": " ".join(names)}


# -- the ledger ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_nodes", "stored", "generation", "names"),
    [
        pytest.param({}, read(0), 0, [], id="no nodes at all, nothing stored"),
        pytest.param({"n1": read(0)}, read(0), 0, [], id="nobody has one"),
        pytest.param({}, read(4, "a"), 4, ["a"], id="no node was reached"),
        pytest.param({"n1": read(0), "n2": read(0)}, read(4, "a"), 4, ["a"], id="new nodes go on from the store"),
        pytest.param({"n1": read(4, "a")}, read(0), 4, ["a"], id="a fresh clone finds everything on the nodes"),
        pytest.param({"n1": read(4, "a")}, read(3, "b"), 4, ["a"], id="a clone lags behind"),
        pytest.param({"n1": read(4, "a")}, read(4, "b"), 4, ["a"], id="nodes come before the store"),
        pytest.param({"n1": read(4, "a"), "n2": read(4, "a")}, read(4, "a"), 4, ["a"], id="all agree"),
        pytest.param({"n1": read(3, "b"), "n2": read(4, "a")}, read(4, "a"), 4, ["a"], id="one node was away"),
        pytest.param({"n1": read(0), "n2": read(4, "a")}, read(4, "a"), 4, ["a"], id="one node is new"),
        pytest.param({"n1": read(3, "b")}, read(4, "a"), 4, ["a"], id="only a node that was away is reached"),
        pytest.param({"n1": read(3, "b"), "n2": read(3, "c")}, read(4, "a"), 4, ["a"], id="an old quarrel is over"),
    ],
)
def test_the_newest_ledger_wins(
    on_nodes: dict[str, Any], stored: dict[str, Any], generation: int, names: list[str]
) -> None:
    newest = newest_ledger(on_nodes, stored)
    assert (newest["generation"], newest["text"].split()) == (generation, names)


def test_the_generation_of_each_place_is_kept_for_the_writing() -> None:
    newest = newest_ledger({"n2": read(4, "a"), "n1": read(0)}, read(3))
    assert newest["nodes"] == {"n1": 0, "n2": 4}
    assert newest["stored"] == 3


def test_two_ledgers_of_one_generation_are_an_error() -> None:
    with pytest.raises(StateError) as caught:
        newest_ledger({"n3": read(4, "b"), "n1": read(3), "n2": read(4, "a")}, read(2))
    assert str(caught.value) == (
        "node n2 and node n3 both have generation 4 of the ledger, but not the same one: two controllers wrote at once."
        " Move the ledger file that is wrong aside on its node and run again"
    )


# -- secrets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "on_nodes", "stored", "chosen"),
    [
        (None, {}, None, None),
        (None, {}, THREE, THREE),
        (None, {"n1": TWO}, THREE, TWO),
        (TWO, {"n1": TWO}, THREE, TWO),
        (ONE, {}, THREE, ONE),
        (f"{ONE}\n", {"n1": f" {ONE}\n", "n2": ONE}, f"{THREE}\n", ONE),
    ],
)
@pytest.mark.parametrize("name", ["service", "psk"])
def test_given_comes_before_nodes_and_nodes_before_the_store(
    name: str, given: str | None, on_nodes: dict[str, str], stored: str | None, chosen: str | None
) -> None:
    assert choose_secret(name, given, on_nodes, stored) == chosen


@pytest.mark.parametrize(
    ("name", "given", "on_nodes", "stored", "message"),
    [
        (
            "service",
            None,
            {"n3": TWO, "n1": ONE, "n2": ONE},
            None,
            "the nodes do not have the same service secret:"
            f" n1, n2 (public key {public_key(ONE)}); n3 (public key {public_key(TWO)})"
            "; if rotate_keys did not come to its end, run it again",
        ),
        ("psk", None, {"n2": TWO, "n1": ONE}, ONE, "the nodes do not have the same psk secret: n1; n2"),
        (
            "service",
            TWO,
            {"n1": ONE, "n2": ONE},
            None,
            f"the service secret given by variable (public key {public_key(TWO)}) is not the one of n1, n2"
            f" (public key {public_key(ONE)}): every client would be cut off",
        ),
        (
            "psk",
            TWO,
            {"n1": ONE},
            TWO,
            "the psk secret given by variable is not the one of n1: every client would be cut off",
        ),
        (
            "service",
            TWO[:-1],
            {},
            None,
            "the service secret given by variable: a WireGuard key has 44 characters, this text has 43",
        ),
        (
            "psk",
            ONE,
            {"n1": ONE},
            TWO[:-2] + "!=",
            "the psk secret in the controller's store: not base64",
        ),
        (
            "service",
            None,
            {"n1": ONE, "n2": ""},
            ONE,
            "node n2: its service secret: a WireGuard key has 44 characters, this text has 0",
        ),
    ],
)
def test_contradictions_name_the_places_and_never_the_secret(
    name: str, given: str | None, on_nodes: dict[str, str], stored: str | None, message: str
) -> None:
    with pytest.raises(StateError) as caught:
        choose_secret(name, given, on_nodes, stored)
    assert str(caught.value) == message
    assert not any(secret.strip("=") in str(caught.value) for secret in (ONE, TWO, TWO[:-1], TWO[:-2]))
    assert caught.value.__cause__ is None
