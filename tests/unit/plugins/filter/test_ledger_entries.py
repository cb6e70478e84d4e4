# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.ledger_entries import FilterModule
from ansible_collections.wirefleet.vpn.plugins.module_utils._ledger import Ledger, render

ledger_entries = FilterModule().filters()["ledger_entries"]

MESH, N1, N2 = {"kind": "mesh", "name": "n1"}, {"kind": "node", "name": "n1"}, {"kind": "node", "name": "n2"}
TEXT = render(Ledger("default", 3, (N2, N1, MESH)))


@pytest.mark.parametrize(
    ("text", "name", "entries"),
    [("", None, []), ("", "n1", []), (TEXT, None, [MESH, N1, N2]), (TEXT, "n1", [MESH, N1]), (TEXT, "n3", [])],
)
def test_entries_of_all_or_of_one(text: str, name: str | None, entries: list[dict[str, str]]) -> None:
    assert ledger_entries(text, name) == entries


def test_damage_names_the_filter_and_the_line() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^ledger_entries: line 2: not JSON"):
        ledger_entries(TEXT[:-3].splitlines()[0] + "\n{")
