# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
from pathlib import Path

import pytest
from wirefleet_node.usage import Network, Usage, load

NETWORK = {"network": "10.80.0.0/16", "used": 5, "quarantined": 1, "size": 65534}


def test_what_ansible_writes(tmp_path: Path) -> None:
    file = tmp_path / "usage.json"
    file.write_text(json.dumps({"version": 1, "generation": 7, "networks": [NETWORK]}))
    assert load(file) == Usage(7, (Network("10.80.0.0/16", 5, 1, 65534),))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "generation": 7, "networks": []}',
        '{"version": 1, "networks": []}',
        '{"version": 1, "generation": 7, "networks": [{"network": "10.80.0.0/16"}]}',
        '{"version": 1, "generation": 7, "networks": [7]}',
    ],
)
def test_what_is_not_understood_is_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "usage.json"
    file.write_text(text)
    assert load(file) is None


def test_a_node_that_was_told_nothing_yet(tmp_path: Path) -> None:
    assert load(tmp_path / "usage.json") is None
