# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What `make test` tries on every target: all of its corpus, and some hundred inputs that resemble it.

`make fuzz` searches longer and by coverage; what it finds is put into the corpus.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .targets import CORPUS, TARGETS

# The same in every run: what a test finds has to be there the next time.
BOUNDED = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
SEEDS = {name: sorted((CORPUS / name).iterdir()) for name in TARGETS}
# What breaks readers: ends of what surrounds it, numbers at the edge of types, digits of other scripts, zones.
TRICKS = [b"\0", b"\n", b"\r\n", b"%", b"\t", b'"', b"}", b"[[[", b"9" * 20, b"-1", b"1e999", b"NaN"]
TRICKS += ["\u0665".encode(), "\u2028".encode(), b"\xff", b"fe80::1%\n", b"::ffff:1.2.3.4", b"null", b'"\\ud800"']
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 2**63])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["fe80::1%\n", "[fe80::1%x]:5", "1.2.3.4:5\n", "10.0.0.0/8", "", "\u0665"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def cut(draw: st.DrawFn, seed: bytes) -> bytes:
    """The seed with some parts of it replaced."""
    data = seed[:4096]
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(begin + 8, len(data))))
        data = data[:begin] + draw(st.sampled_from(TRICKS) | st.binary(max_size=8)) + data[end:]
    return data


@st.composite
def reshaped(draw: st.DrawFn, seed: Any) -> bytes:
    """The seed, a document, with one value in it replaced."""

    def replace(value: Any) -> Any:
        if value and isinstance(value, (dict, list)) and draw(st.integers(0, 4)):
            keys = sorted(value) if isinstance(value, dict) else range(len(value))
            copy = value.copy()
            key = draw(st.sampled_from(keys))
            copy[key] = replace(value[key])
            return copy
        return draw(VALUES)

    return json.dumps(replace(seed)).encode()


def inputs(paths: list[Path]) -> st.SearchStrategy[bytes]:
    found = [st.binary(max_size=200)]
    for data in (path.read_bytes() for path in paths):
        found.append(cut(data))
        try:
            found.append(reshaped(json.loads(data)))
        except (ValueError, RecursionError):
            continue
    return st.one_of(found)


@pytest.mark.parametrize(
    "seed", [path for paths in SEEDS.values() for path in paths], ids=lambda path: str(path.relative_to(CORPUS))
)
def test_corpus(seed: Path) -> None:
    TARGETS[seed.parent.name](seed.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_what_resembles_it(name: str) -> None:
    @BOUNDED
    @given(inputs(SEEDS[name]))
    def attempt(data: bytes) -> None:
        TARGETS[name](data)

    attempt()
