# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.cluster_secret import FilterModule

cluster_secret = FilterModule().filters()["cluster_secret"]


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


def read(node: str, name: str, value: str | None) -> dict[str, Any]:
    """A result of slurp in a loop over pairs; the file may be missing."""
    result: dict[str, Any] = {"ansible_loop_var": "pair", "pair": [node, name]}
    if value is None:
        return {**result, "failed": False, "msg": "file not found"}
    return {**result, "content": base64.b64encode(f"{value}\n".encode()).decode()}


READS = [
    read("n1", "service", key(1)),
    read("n1", "psk", key(2)),
    read("n2", "service", None),
    {"ansible_loop_var": "pair", "pair": ["n3", "service"], "unreachable": True, "failed": True},
]


@pytest.mark.parametrize(
    ("reads", "name", "options", "chosen"),
    [
        (READS, "service", {}, key(1)),
        (READS, "psk", {"stored": key(3)}, key(2)),
        (READS[2:], "service", {"stored": key(3)}, key(3)),
        (READS[2:], "service", {"given": key(4), "stored": key(3)}, key(4)),
        (READS[2:], "service", {"given": "", "stored": ""}, ""),
    ],
)
def test_which_secret_is_the_clusters(
    reads: list[dict[str, Any]], name: str, options: dict[str, str], chosen: str
) -> None:
    assert cluster_secret(reads, name, **options) == chosen


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (key(5), "cluster_secret: the nodes do not have the same psk secret: n1; n2"),
        ("\xff" + key(5), "cluster_secret: node n2: its psk secret: "),
    ],
)
def test_errors_name_the_filter_and_the_nodes_but_no_secret(second: str, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        cluster_secret([*READS, read("n2", "psk", second)], "psk")
    assert str(caught.value).startswith(message)
    assert key(2) not in str(caught.value)
    assert key(5) not in str(caught.value)


def test_a_file_that_can_not_be_read_is_not_taken_for_none() -> None:
    unreadable = {"ansible_loop_var": "pair", "pair": ["n2", "psk"], "failed": True, "msg": "file is not readable"}
    with pytest.raises(AnsibleFilterError, match=r"^cluster_secret: node n2: file is not readable$"):
        cluster_secret([*READS, unreadable], "service")
