# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What a table knows of clients behind the balancer's addresses survives it. ``test_snat`` sends packets by it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from wirefleet.command import run
from wirefleet_steer import kernel, translation
from wirefleet_steer.adoption import Session
from wirefleet_steer.config import Config, load
from wirefleet_steer.translation import Translator

from .conftest import render, steer_config, steer_variables

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network")]

SNAT = {"ip": ["10.9.0.10", "10.9.0.110"], "ip6": ["fd00:9::10"]}
KNOWN = {
    "ip": {"10.9.0.10:16384": "198.51.100.51:51820", "10.9.0.110:16384": "198.51.100.52:51820"},
    "ip6": {"[fd00:9::10]:32767": "[2001:db8::1]:1", "[fd00:9::10]:16385": "[2001:db8::1]:65535"},
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "steer.nft").write_text(render("steer.nft.j2", steer_variables(snat=SNAT)))
    (tmp_path / "steer.json").write_text(json.dumps(steer_config(tmp_path, snat=SNAT)))
    return load(tmp_path / "steer.json")


def test_a_table_is_loaded_with_what_was_known(config: Config) -> None:
    kernel.load_table(config, KNOWN)
    translator = Translator(config)
    translator.follow()
    assert translator.known == KNOWN
    assert translator.client("ip", "10.9.0.110:16384") == "198.51.100.52:51820"
    assert translator.client("ip", "10.9.0.110:16385") is None


def test_the_table_knows_clients_by_their_own_addresses(config: Config) -> None:
    translator = Translator(config)
    translator.known = KNOWN
    sessions = [Session(endpoint, 1) for endpoint in ("10.9.0.110:16384", "10.9.0.110:16385", "[fd00:9::10]:32767")]
    assert list(translator.affinities(("n2", session) for session in sessions)) == [
        ("ip", [("198.51.100.52 . 51820", "0x10000002")]),
        ("ip6", [("0x1 . 1", "0x10000002")]),
    ]


def test_it_stays_when_the_table_is_loaded_again(config: Config) -> None:
    kernel.load_table(config, KNOWN)
    kernel.load_table(config)
    assert translation.read("ip6", "wirefleet", SNAT["ip6"]) == KNOWN["ip6"]


def test_other_addresses_begin_anew(config: Config, tmp_path: Path) -> None:
    kernel.load_table(config, KNOWN)
    snat = {**SNAT, "ip": ["10.9.0.10"]}
    (tmp_path / "steer.nft").write_text(render("steer.nft.j2", steer_variables(snat=snat)))
    (tmp_path / "steer.json").write_text(json.dumps(steer_config(tmp_path, snat=snat)))
    kernel.load_table(load(tmp_path / "steer.json"))
    assert translation.read("ip", "wirefleet", snat["ip"]) == {}
    assert translation.read("ip6", "wirefleet", snat["ip6"]) == KNOWN["ip6"]


def test_what_was_known_stays_known_while_the_table_is_away(config: Config) -> None:
    kernel.load_table(config, KNOWN)
    translator = Translator(config)
    translator.follow()
    run(["nft", "flush", "ruleset"])
    translator.hurry()
    with pytest.raises(OSError, match="No such file"):
        translator.follow()
    assert translator.known == KNOWN


def test_without_source_nat_nodes_know_clients_by_their_own_addresses(tmp_path: Path) -> None:
    (tmp_path / "steer.json").write_text(json.dumps(steer_config(tmp_path)))
    translator = Translator(load(tmp_path / "steer.json"))
    translator.follow()
    assert translator.client("ip6", "[2001:db8::1]:1") == "[2001:db8::1]:1"
