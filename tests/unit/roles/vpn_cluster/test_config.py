# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wirefleet.config import ConfigError, MapOf, Optional, Shape, check, load

SHAPE: dict[str, Shape] = {
    "name": str,
    "interval": float,
    "listen": [(str, int)],
    "nodes": MapOf({"mark": int}),
    "gateway": Optional({"table": int}),
    "verbose": bool,
}
VALID: dict[str, Any] = {
    "name": "n1",
    "interval": 1,
    "listen": [["::1", 80]],
    "nodes": {"n1": {"mark": 1}},
    "gateway": {"table": 5},
    "verbose": False,
}


def test_valid_document_comes_back() -> None:
    assert check(VALID, SHAPE) == {**VALID, "listen": [("::1", 80)]}


@pytest.mark.parametrize("document", [{**VALID, "gateway": None}, {k: v for k, v in VALID.items() if k != "gateway"}])
def test_optional_reads_as_none(document: dict[str, Any]) -> None:
    assert check(document, SHAPE)["gateway"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "name: expected string, got 5"),
        ({"name": None}, "name: expected string, got null"),
        ({"interval": True}, "interval: expected number, got true"),
        ({"verbose": 0}, "verbose: expected boolean"),
        ({"listen": {}}, "listen: expected list"),
        ({"listen": [["::1"]]}, "listen[0]: expected 2 items, got 1"),
        ({"listen": [["::1", 80], ["::1", "80"]]}, "listen[1][1]: expected integer"),
        ({"nodes": {"n1": {"mark": 1.5}}}, "nodes.n1.mark: expected integer"),
        ({"nodes": {"n1": {}}}, "nodes.n1.mark: missing"),
        ({"gateway": {"table": 5, "mark": 1}}, "gateway.mark: unknown key"),
        ({"nmae": "n1"}, "nmae: unknown key"),
    ],
)
def test_error_names_file_and_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "node.json"
    path.write_text(json.dumps({**VALID, **change}))
    with pytest.raises(ConfigError) as caught:
        load(path, SHAPE)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("text", "message"), [("{", "Expecting"), ("[]", "document: expected object"), (None, "No such")]
)
def test_unreadable_file(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "node.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path, SHAPE)
