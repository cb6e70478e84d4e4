# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
from pathlib import Path

import pytest
from wirefleet_steer.config import Config, load
from wirefleet_steer.decide import NodeState, Standing, State
from wirefleet_steer.elements import EMPTY, client_key, script, slots, standing, wanted

from .conftest import steer_config

UP, DRAINING, DOWN = Standing.UP, Standing.DRAINING, Standing.DOWN


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """n1 and n2 in both families, n3 in IPv6 only."""
    document = steer_config(tmp_path)
    del document["nodes"]["n3"]["addresses"]["ip"]
    path = tmp_path / "steer.json"
    path.write_text(json.dumps(document))
    return load(path)


def state(n1: Standing, n2: Standing, n3: Standing = DOWN) -> State:
    return State({"n1": NodeState(n1), "n2": NodeState(n2), "n3": NodeState(n3)})


def test_up_draining_and_down(config: Config) -> None:
    elements = dict(wanted(config, "ip6", state(UP, DRAINING, DOWN)))
    wheel = elements.pop("wheel")
    assert elements == {
        "node_marks": {"fd00:9::11": "0x10000001", "fd00:9::12": "0x10000002", "fd00:9::13": "0x10000003"},
        "alive": {"0x10000001": "fd00:9::11", "0x10000002": "fd00:9::12"},
        "accepting": {"0x10000001": "fd00:9::11"},
        "responders": {"fd00:9::11": None, "fd00:9::12": None},
        "initiators": {"fd00:9::11": None},
        "own_marks": dict.fromkeys(["fd00:9::11 . 0x10000001", "fd00:9::12 . 0x10000002", "fd00:9::13 . 0x10000003"]),
        "foreign_indices": dict.fromkeys(
            [
                "fd00:9::11 . 0x10000002",
                "fd00:9::12 . 0x10000001",
                "fd00:9::13 . 0x10000001",
                "fd00:9::13 . 0x10000002",
            ]
        ),
        "foreign_clients": dict.fromkeys(["fd00:9::12 . 0x10000001", "fd00:9::13 . 0x10000001"]),
    }
    assert wheel == {str(slot): "0x10000001" for slot in range(1024)}


def test_a_node_without_an_address_of_the_family_has_no_part_in_it(config: Config) -> None:
    assert "0x10000003" not in json.dumps(wanted(config, "ip", state(UP, UP, UP)))
    assert "0x10000003" in json.dumps(wanted(config, "ip6", state(UP, UP, UP)))


def test_who_is_in_another_time_may_begin_nothing(config: Config) -> None:
    before, muted = wanted(config, "ip6", state(UP, UP, UP)), wanted(config, "ip6", state(UP, UP, UP), {"n2"})
    assert muted["initiators"].keys() == before["initiators"].keys() - {"fd00:9::12"}
    assert {**muted, "initiators": before["initiators"]} == before, "and is accepting all the same"


def test_nobody_accepts(config: Config) -> None:
    elements = wanted(config, "ip", state(DOWN, DRAINING))
    assert elements["wheel"] == elements["accepting"] == elements["initiators"] == {}


@pytest.mark.parametrize("value", list(Standing))
def test_a_standing_is_read_back(config: Config, value: Standing) -> None:
    elements = wanted(config, "ip", state(value, UP))
    assert standing(elements, config.nodes["n1"], "ip") is value
    assert standing(EMPTY, config.nodes["n1"], "ip") is DOWN


def test_slots(config: Config) -> None:
    elements = wanted(config, "ip", state(UP, UP))
    assert slots(elements, config.nodes["n1"]) + slots(elements, config.nodes["n2"]) == 1024
    assert slots(elements, config.nodes["n3"]) == 0


def test_nothing_is_written_without_need(config: Config) -> None:
    elements = wanted(config, "ip", state(UP, UP))
    assert script("ip", "wirefleet", elements, elements) == ""


def test_only_differences_are_written() -> None:
    old = {**EMPTY, "alive": {"0x1": "192.0.2.1", "0x2": "192.0.2.2"}, "initiators": {"192.0.2.1": None}}
    new = {**EMPTY, "alive": {"0x1": "192.0.2.1", "0x2": "192.0.2.3"}, "initiators": {"192.0.2.3": None}}
    assert script("ip", "wirefleet", old, new) == (
        "delete element ip wirefleet alive { 0x2 }\n"
        "add element ip wirefleet alive { 0x2 : 192.0.2.3 }\n"
        "delete element ip wirefleet initiators { 192.0.2.1 }\n"
        "add element ip wirefleet initiators { 192.0.2.3 }\n"
    )


def test_a_node_that_leaves_gives_only_its_own_slots_away(config: Config) -> None:
    before, after = wanted(config, "ip6", state(UP, UP, UP)), wanted(config, "ip6", state(UP, UP, DOWN))
    line = next(
        line for line in script("ip6", "t", before, after).splitlines() if line.startswith("delete element ip6 t wheel")
    )
    assert line.count(",") + 1 == slots(before, config.nodes["n3"])


@pytest.mark.parametrize(
    ("family", "endpoint", "key"),
    [
        ("ip", "198.51.100.1:51820", "198.51.100.1 . 51820"),
        ("ip6", "[2001:db8:100::51]:7", "0x10000000000000000000051 . 7"),
        ("ip6", "[2001:db8::]:7", "0x0 . 7"),
    ],
)
def test_a_clients_key_is_the_one_that_the_table_reads_from_its_packets(family: str, endpoint: str, key: str) -> None:
    assert client_key(family, endpoint) == key
