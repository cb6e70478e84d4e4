# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wirefleet import nft
from wirefleet.command import CommandError
from wirefleet_steer import kernel
from wirefleet_steer.census import census
from wirefleet_steer.config import Config, load
from wirefleet_steer.decide import NodeState, Standing, State
from wirefleet_steer.elements import EMPTY, script, wanted

from .conftest import render, steer_config, steer_variables

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network")]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "steer.json").write_text(json.dumps(steer_config(tmp_path)))
    config = load(tmp_path / "steer.json")
    write_ruleset(config)
    return config


def write_ruleset(config: Config, **changes: Any) -> None:
    Path(config.ruleset).write_text(render("steer.nft.j2", steer_variables(**changes)))


def everybody_up(config: Config) -> State:
    return State({name: NodeState(Standing.UP) for name in config.nodes})


def test_a_fresh_table_is_empty(config: Config) -> None:
    assert kernel.read("ip", "wirefleet") is None
    assert kernel.load_table(config) is False
    assert kernel.read("ip", "wirefleet") == EMPTY
    gauges = kernel.gauges("ip6", "wirefleet")
    assert set(gauges.packets.values()) == {0}
    assert gauges.sizes == {"sessions": 1048576, "affinity": 1048576, "limits": 65536}


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_what_is_written_is_read_back(config: Config, family: str) -> None:
    kernel.load_table(config)
    up = wanted(config, family, everybody_up(config))
    nft.apply(script(family, "wirefleet", EMPTY, up))
    assert kernel.read(family, "wirefleet") == up
    changed = wanted(config, family, State({**everybody_up(config).nodes, "n2": NodeState(Standing.DRAINING)}))
    nft.apply(script(family, "wirefleet", up, changed))
    assert kernel.read(family, "wirefleet") == changed


def test_loading_again_keeps_every_element_and_counter(config: Config) -> None:
    kernel.load_table(config)
    up = wanted(config, "ip", everybody_up(config))
    nft.apply(script("ip", "wirefleet", EMPTY, up))
    nft.apply("add element ip wirefleet sessions { 0x1 : 0x10000001 }")
    write_ruleset(config, source_limit={"rate": 7, "burst": 8})
    assert kernel.load_table(config) is False
    assert kernel.read("ip", "wirefleet") == up
    assert census("ip", "wirefleet", "sessions") == {0x10000001: 1}


def test_elements_of_a_set_have_no_mark(config: Config) -> None:
    kernel.load_table(config)
    nft.apply("add element ip wirefleet limits { 198.51.100.1, 198.51.100.2 }")
    assert census("ip", "wirefleet", "limits") == {0: 2}


@pytest.mark.parametrize(
    "old", ["set responders      { type ipv4_addr; ", "map accepting       { type mark : ipv6_addr; "]
)
def test_another_definition_of_a_map_replaces_the_table(config: Config, old: str) -> None:
    kernel.load_table(config)
    nft.apply("add element ip wirefleet sessions { 0x1 : 0x10000001 }")
    rules = Path(config.ruleset).read_text()
    assert old in rules
    Path(config.ruleset).write_text(rules.replace(old, f"{old} flags interval; "))
    assert kernel.load_table(config) is True
    assert census("ip", "wirefleet", "sessions") == {}
    assert kernel.load_table(config) is False


def test_a_broken_file_changes_nothing(config: Config) -> None:
    kernel.load_table(config)
    Path(config.ruleset).write_text("table ip wirefleet { chain prerouting { nonsense } }")
    with pytest.raises(CommandError, match="nonsense"):
        kernel.load_table(config)
    assert kernel.read("ip", "wirefleet") == EMPTY


def test_only_families_with_a_public_address_have_a_table(config: Config) -> None:
    families = steer_variables()["__haproxy_lb_steer"]["families"]
    write_ruleset(config, families=families[1:])
    kernel.load_table(config)
    assert kernel.read("ip", "wirefleet") is None
    assert kernel.read("ip6", "wirefleet") == EMPTY


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_a_census(config: Config, count: int) -> None:
    kernel.load_table(config)
    elements = [f"{index} : {0x10000001 + index % 2}" for index in range(count)]
    if elements:
        nft.apply(f"add element ip wirefleet sessions {{ {', '.join(elements)} }}")
    assert census("ip", "wirefleet", "sessions") == {
        mark: number for mark, number in ((0x10000001, (count + 1) // 2), (0x10000002, count // 2)) if number
    }


def test_a_census_of_nothing(config: Config) -> None:
    with pytest.raises(FileNotFoundError, match="ip wirefleet sessions"):
        census("ip", "wirefleet", "sessions")
