# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.newest_ledger import FilterModule

newest_ledger = FilterModule().filters()["newest_ledger"]
NOTHING = {"present": False, "generation": 0, "text": ""}


def read(node: str, generation: int, text: str) -> dict[str, Any]:
    """A result of vpn_ledger in a loop over the nodes."""
    return {
        "ansible_loop_var": "__node",
        "__node": node,
        "present": True,
        "generation": generation,
        "text": text,
    }


def test_nodes_that_were_not_reached_are_passed_over() -> None:
    away = {"ansible_loop_var": "__node", "__node": "n3", "unreachable": True, "failed": True}
    assert newest_ledger([read("n1", 2, "old"), read("n2", 3, "new"), away], NOTHING) == {
        "generation": 3,
        "text": "new",
        "nodes": {"n1": 2, "n2": 3},
        "stored": 0,
    }


def test_a_conflict_names_the_filter_and_the_nodes() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^newest_ledger: node n1 and node n2 both have generation 3 "):
        newest_ledger([read("n1", 3, "a"), read("n2", 3, "b")], NOTHING)


def test_a_ledger_that_can_not_be_read_is_not_taken_for_none() -> None:
    garbage = {"ansible_loop_var": "__node", "__node": "n2", "failed": True, "msg": "line 1: no JSON"}
    with pytest.raises(AnsibleFilterError, match=r"^newest_ledger: node n2: line 1: no JSON$"):
        newest_ledger([read("n1", 2, "old"), garbage], NOTHING)
