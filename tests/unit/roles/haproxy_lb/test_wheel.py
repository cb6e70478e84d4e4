# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wirefleet_steer.wheel import SLOTS, wheel

WEIGHTS = st.dictionaries(st.from_regex(r"n[0-9]{1,3}", fullmatch=True), st.integers(0, 256), max_size=8)


def test_nobody_gets_a_slot_without_weight() -> None:
    assert wheel({}) == [None] * SLOTS
    assert wheel({"n1": 0}) == [None] * SLOTS


@pytest.mark.parametrize(
    "weights",
    [
        {"n1": 1, "n2": 1},
        {"n1": 1, "n2": 1, "n3": 1},
        {"n1": 1, "n2": 3},
        {"n1": 100, "n2": 50, "n3": 50},
        {"n1": 256, "n2": 1},
    ],
)
def test_slots_are_shared_out_by_weight(weights: dict[str, int]) -> None:
    got = Counter(wheel(weights))
    total = sum(weights.values())
    for name, weight in weights.items():
        assert got[name] == pytest.approx(SLOTS * weight / total, abs=60), "four standard deviations at most"


def test_balancers_agree_whatever_order_they_know_the_nodes_in() -> None:
    assert wheel({"n1": 1, "n2": 2, "n3": 3}) == wheel({"n3": 3, "n1": 1, "n2": 2})


def test_the_wheel_is_the_same_in_every_release() -> None:
    """Balancers of different versions share clients during an upgrade: these numbers must not change."""
    assert Counter(wheel({"n1": 1, "n2": 1, "n3": 1})) == {"n1": 315, "n2": 349, "n3": 360}


@given(WEIGHTS, st.integers(0, 7))
def test_only_the_slots_of_a_node_that_leaves_move(weights: dict[str, int], index: int) -> None:
    if not weights:
        return
    gone = sorted(weights)[index % len(weights)]
    before, after = wheel(weights), wheel({name: weight for name, weight in weights.items() if name != gone})
    assert all(old in (new, gone) for old, new in zip(before, after))


@given(WEIGHTS, st.integers(1, 256))
def test_more_weight_never_takes_a_slot_away(weights: dict[str, int], more: int) -> None:
    heavier = {**weights, "n1": weights.get("n1", 0) + more}
    assert all(new == "n1" or new == old for old, new in zip(wheel(weights), wheel(heavier)))
