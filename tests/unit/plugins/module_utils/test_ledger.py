# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._ledger import Ledger, LedgerError, is_name, parse, render
from hypothesis import given
from hypothesis import strategies as st

HEADER = '{"cluster": "default", "generation": 7, "version": 1}'
ALICE = '{"addresses": ["10.80.0.2", "fd00:80::2"], "kind": "client", "name": "alice", "public_key": "A"}'
BOB = '{"addresses": ["10.80.0.3"], "kind": "client", "name": "bob", "public_key": "B"}'
NODE = '{"addresses": ["10.80.0.1"], "id": 1, "kind": "node", "name": "alice", "public_key": "A"}'


def text_of(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def client(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "client", "name": name, **more}


def test_text_is_one_sorted_line_per_entry() -> None:
    ledger = Ledger(
        "default",
        7,
        tuple(json.loads(line) for line in (NODE, BOB, '{"public_key": "A", "name": "älice", "kind": "client"}')),
    )
    assert render(ledger) == text_of(HEADER, BOB, '{"kind": "client", "name": "älice", "public_key": "A"}', NODE)


def test_parse_reads_what_render_wrote() -> None:
    text = text_of(HEADER, ALICE, BOB, NODE)
    ledger = parse(text)
    assert (ledger.cluster, ledger.generation) == ("default", 7)
    assert ledger.entries == tuple(map(json.loads, (ALICE, BOB, NODE)))
    assert render(ledger) == text


@pytest.mark.parametrize("lines", list(permutations([ALICE, BOB, NODE])))
def test_order_of_lines_does_not_matter(lines: tuple[str, ...]) -> None:
    assert parse(text_of(HEADER, *lines)) == parse(text_of(HEADER, ALICE, BOB, NODE))


@pytest.mark.parametrize("text", [HEADER, text_of(HEADER), HEADER + "\r\n"], ids=["no newline", "newline", "crlf"])
def test_ledger_without_entries(text: str) -> None:
    assert parse(text) == Ledger("default", 7)


names = st.text(min_size=1).filter(is_name)


@given(
    st.dictionaries(
        st.tuples(st.from_regex("[a-z]+", fullmatch=True), names),
        st.dictionaries(
            st.sampled_from(["note", "port", "released"]), st.one_of(st.integers(), names, st.lists(names))
        ),
    )
)
def test_any_names_and_any_carried_keys_survive(content: dict[tuple[str, str], dict[str, Any]]) -> None:
    ledger = Ledger("default", 1, tuple({**more, "kind": k, "name": n} for (k, n), more in content.items()))
    assert parse(render(ledger)) == ledger


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: the file is empty"),
        ([HEADER[:-1]], "line 1: not JSON: "),
        (["[]"], "line 1: has to be a JSON object"),
        ([ALICE], "line 1: version is None; this release reads version 1"),
        ([HEADER.replace('"version": 1', '"version": 2')], "line 1: version is 2; this release reads version 1"),
        (['{"generation": 7, "version": 1}'], "line 1: has to have the keys cluster, generation, version and no other"),
        ([HEADER.replace("}", ', "x": 1}')], "line 1: has to have the keys cluster, generation, version and no other"),
        ([HEADER.replace("7", "0")], "line 1: generation has to be a number from 1, not 0"),
        ([HEADER.replace("7", "true")], "line 1: generation has to be a number from 1, not True"),
        ([HEADER.replace("7", '"7"')], "line 1: generation has to be a number from 1, not '7'"),
        ([HEADER.replace("default", "")], "line 1: cluster has to be a name, not ''"),
        ([HEADER, ALICE, "{"], "line 3: not JSON: "),
        ([HEADER, ALICE, ""], "line 3: not JSON: "),
        ([HEADER, "7"], "line 2: has to be a JSON object"),
        ([HEADER, '{"name": "alice"}'], "line 2: kind has to be a word of a to z, not None"),
        ([HEADER, '{"kind": "Client", "name": "alice"}'], "line 2: kind has to be a word of a to z, not 'Client'"),
        ([HEADER, ALICE, '{"kind": "client"}'], "line 3: name has to be a string that is not empty"),
        ([HEADER, '{"kind": "client", "name": ""}'], "line 2: name has to be a string that is not empty"),
        ([HEADER, '{"kind": "client", "name": "a\\nb"}'], "line 2: name has to be a string that is not empty"),
        ([HEADER, ALICE, ALICE], "line 3: client alice is there twice"),
        (
            [HEADER, ALICE, BOB.replace("0.3", "0.2")],
            "line 3: address 10.80.0.2 of client bob already belongs to client alice",
        ),
        (
            [HEADER, ALICE, NODE.replace("10.80.0.1", "fd00:80:0:0::2")],
            "line 3: address fd00:80::2 of node alice already belongs to client alice",
        ),
        (
            [HEADER, BOB.replace('"B"', '"A"'), ALICE],
            "line 3: public_key of client alice already belongs to client bob",
        ),
        ([HEADER, BOB.replace('"B"', "[]")], "line 2: public_key of client bob has to be a string"),
        ([HEADER, BOB.replace("10.80.0.3", "10.80.0.300")], "line 2: '10.80.0.300' does not appear to be an IPv4"),
        ([HEADER, BOB.replace('["10.80.0.3"]', '"10.80.0.3"')], "line 2: addresses has to be a list, not '10.80.0.3'"),
        ([HEADER, BOB.replace('["10.80.0.3"]', "[3]")], "line 2: addresses has to be a list of strings, not [3]"),
        (["<<<<<<< HEAD", HEADER], "line 1: git conflict marker"),
        ([HEADER, ALICE, "=======", BOB], "line 3: git conflict marker"),
        ([HEADER, ALICE, ">>>>>>> theirs"], "line 3: git conflict marker"),
        ([HEADER, ALICE, "||||||| base"], "line 3: git conflict marker"),
    ],
)
def test_damage_is_named_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(LedgerError) as caught:
        parse(text_of(*lines))
    assert str(caught.value).startswith(message)


def test_what_two_branches_gave_out_has_a_winner() -> None:
    """git merges two lines that were added in two places without a conflict."""
    with pytest.raises(LedgerError) as caught:
        parse(text_of(HEADER, ALICE, BOB.replace("0.3", "0.2")))
    assert str(caught.value) == (
        "line 3: address 10.80.0.2 of client bob already belongs to client alice. Where two branches gave it out, the"
        " one in the ledger of the nodes keeps it, else the one of the upper line: delete the other's line, and it gets"
        " another with the next run"
    )


def test_a_key_may_return_under_another_name() -> None:
    old, new = client("alice", public_key="A", released="2026-11-22T00:00:00Z"), client("alice-phone", public_key="A")
    assert Ledger("default", 1, (new, old)).entries == (old, new)


def test_the_key_of_a_node_is_no_conflict_with_that_of_a_client() -> None:
    assert len(parse(text_of(HEADER, ALICE, NODE)).entries) == 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([client("a"), client("a")], "entries[1]: client a is there twice"),
        (["a"], "entries[0]: has to be an object"),
    ],
)
def test_ledger_made_of_bad_entries_names_the_entry(entries: list[Any], message: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger("default", 1, tuple(entries))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        ("alice", True),
        ("Älice's phone", True),
        ("a\u2028b", True),
        ("", False),
        ("a\tb", False),
        ("a\n", False),
        ("a\x7f", False),
        ("a\x85b", False),
        ("\ud800", False),
        (None, False),
        (7, False),
    ],
)
def test_is_name(value: object, usable: bool) -> None:
    assert is_name(value) is usable
