# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wirefleet.config import ConfigError
from wirefleet_steer.__main__ import main
from wirefleet_steer.config import Adoption, Status, load

from .conftest import required_sysctls, steer_config

Change = Callable[[dict[str, Any]], Any]


def write(tmp_path: Path, change: Change = lambda document: None) -> Path:
    document = steer_config(tmp_path)
    change(document)
    path = tmp_path / "steer.json"
    path.write_text(json.dumps(document))
    return path


def test_marks_have_the_clusters_bit(tmp_path: Path) -> None:
    config = load(write(tmp_path))
    assert [node.mark for node in config.nodes.values()] == [0x10000001, 0x10000002, 0x10000003]


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({}, 3),
        ({"downinter": "10s"}, 21),
        ({"rise": 5}, 7.5),
        ({"fastinter": "2s"}, 5),
    ],
)
def test_nodes_that_return_at_once_have_as_long_as_checks_take(
    tmp_path: Path, check: dict[str, Any], expected: float
) -> None:
    assert load(write(tmp_path, lambda d: d["check"].update(check))).return_window == pytest.approx(expected)


def test_addresses_are_spelled_as_nft_does(tmp_path: Path) -> None:
    config = load(write(tmp_path, lambda d: d["nodes"]["n1"]["addresses"].update(ip6="FD00:9:0::0:11")))
    assert config.nodes["n1"].addresses["ip6"] == "fd00:9::11"


def test_shared_addresses_are_spelled_as_the_kernel_does(tmp_path: Path) -> None:
    assert load(write(tmp_path)).vips == ()
    config = load(write(tmp_path, lambda d: d.update(vips=["198.51.100.1", "2001:DB8::0:1"], in_order="/run/x")))
    assert (config.vips, config.in_order) == (("198.51.100.1", "2001:db8::1"), "/run/x")


def test_without_source_nat_no_address_stands_for_clients(tmp_path: Path) -> None:
    assert load(write(tmp_path)).snat == {}
    config = load(write(tmp_path, lambda d: d.update(snat={"ip6": ["FD00:9::0:1"]})))
    assert config.snat == {"ip6": ("fd00:9::1",)}


@pytest.mark.parametrize(
    ("families", "routed", "expected"),
    [
        (["ip"], False, ["net/ipv4/ip_forward"]),
        (["ip6"], True, ["net/ipv6/conf/all/forwarding"]),
        (
            ["ip", "ip6"],
            True,
            [
                "net/ipv4/conf/all/rp_filter",
                "net/ipv4/conf/backend/rp_filter",
                "net/ipv4/ip_forward",
                "net/ipv6/conf/all/forwarding",
            ],
        ),
    ],
)
def test_the_settings_without_which_nothing_is_forwarded(
    tmp_path: Path, families: list[str], routed: bool, expected: list[str]
) -> None:
    assert load(write(tmp_path)).sysctls == {}
    wanted = required_sysctls(families, routed=routed)
    assert wanted == {path: "0" if path.endswith("rp_filter") else "1" for path in expected}
    assert load(write(tmp_path, lambda d: d.update(sysctls=wanted))).sysctls == wanted


def test_the_certificates_end_may_be_unknown(tmp_path: Path) -> None:
    assert load(write(tmp_path)).certificate_not_after is None
    config = load(write(tmp_path, lambda d: d.update(certificate_not_after=1801418400)))
    assert config.certificate_not_after == 1801418400


def test_there_is_no_status_page_unless_configured(tmp_path: Path) -> None:
    assert load(write(tmp_path)).status is None
    page = {
        "host": "lb1",
        "listen": [["127.0.0.1", 8052]],
        "stats_port": 8404,
        "balancers": {"lb2": ["fd00:1::2", 8052]},
    }
    config = load(write(tmp_path, lambda d: d.update(status=page)))
    assert config.status == Status("lb1", (("127.0.0.1", 8052),), 8404, {"lb2": ("fd00:1::2", 8052)})


def test_adoption_is_off_unless_configured(tmp_path: Path) -> None:
    assert load(write(tmp_path)).adoption is None
    config = load(write(tmp_path, lambda d: d.update(adoption={"rate": 200, "max_idle": 3600.0})))
    assert config.adoption == Adoption(rate=200, max_idle=3600.0)
    config = load(write(tmp_path, lambda d: d["nodes"]["n1"].update(agent=["fd00:1::1", 8051])))
    assert [node.agent for node in config.nodes.values()] == [("fd00:1::1", 8051), None, None]


OWNERS = {
    "table": 51821,
    "priority": 5179,
    "networks": [
        {"network": "10.80.0.0/16", "interface": "a"},
        {"network": "fd00:80::/48", "interface": "b"},
    ],
}
ADOPTION = {"rate": 200, "max_idle": 3600}


def test_in_routed_mode_clients_are_looked_up_by_owner(tmp_path: Path) -> None:
    assert load(write(tmp_path)).owners is None
    owners = load(write(tmp_path, lambda d: d.update(owners=OWNERS, adoption=ADOPTION))).owners
    assert owners
    assert [str(rule) for rule in owners.rules] == [
        "ip -4 rule priority 5179 to 10.80.0.0/16 iif a table 51821",
        "ip -6 rule priority 5179 to fd00:80::/48 iif b table 51821",
    ]
    assert owners.devices == {"ip": "a", "ip6": "b"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "version: this daemon reads 1, not 2"),
        (lambda d: d.pop("mark"), "mark: missing"),
        (lambda d: d.update(colour="red"), "colour: unknown key"),
        (lambda d: d.update(poll_interval=0), "poll_interval: must be more than 0 seconds"),
        (lambda d: d.update(collapse_window=-1), "collapse_window: must be more than 0 seconds"),
        (lambda d: d.update(families=["inet"]), "families: 'inet' is none of ip, ip6"),
        (lambda d: d.update(adoption={"rate": 0, "max_idle": 1}), "adoption.rate: must be more than 0"),
        (lambda d: d.update(adoption={"rate": 1, "max_idle": -1}), "adoption.max_idle: must be more than 0"),
        (lambda d: d.update(vips=["vpn.example.com"]), "vips: 'vpn.example.com' does not appear to be"),
        (lambda d: d.update(snat={"ip6": ["10.9.0.1"]}), "snat.ip6: 10.9.0.1 is an address of the other family"),
        (lambda d: d.update(owners=OWNERS), "owners: needs adoption"),
        (
            lambda d: d.update(
                owners={**OWNERS, "networks": [{"network": "10.1", "interface": "a"}]}, adoption=ADOPTION
            ),
            "owners.networks[0].network: '10.1' does not appear",
        ),
        (
            lambda d: d.update(adoption={"rate": 1, "max_idle": 1, "rebalance": -1}),
            "adoption.rebalance: must be more than 0",
        ),
        (
            lambda d: d.update(damping={"downs": 3, "window": 0, "hold": 60, "max_hold": 600}),
            "damping.window: must be more than 0",
        ),
        (lambda d: d["nodes"]["n1"].update(agent="fd00:1::1"), "nodes.n1.agent: expected list"),
        (lambda d: d["check"].update(rise=0), "check.rise: must be 1 or more"),
        (lambda d: d["check"].update(downinter="soon"), "check: 'soon' is not a time as HAProxy writes it"),
        (lambda d: d.update(mark="bit"), "mark: 'bit' is not a number"),
        (lambda d: d.update(mark="0"), "mark: 0 is not a single bit"),
        (lambda d: d.update(mark="0x30000000"), "mark: 0x30000000 is not a single bit"),
        (lambda d: d.update(mark="0x100000000"), "mark: 0x100000000 is not a single bit"),
        (lambda d: d["nodes"]["n1"].update(mark=0), "nodes.n1.mark: 0 is not in 1..65535"),
        (lambda d: d.update(mark="1"), "nodes.n1.mark: 1 is not in 1..65535, or has the cluster's bit"),
        (lambda d: d["nodes"]["n2"].update(mark=1), "nodes.n2: 1 belongs to n1 already"),
        (lambda d: d["nodes"]["n2"]["addresses"].update(ip="10.9.0.11"), "nodes.n2: 10.9.0.11 belongs to n1 already"),
        (
            lambda d: d["nodes"]["n2"]["addresses"].update(ip="fd00::1"),
            "nodes.n2.addresses.ip: fd00::1 is an address of",
        ),
        (lambda d: d["nodes"]["n2"]["addresses"].update(ip="n2"), "nodes.n2.addresses.ip: 'n2' is not an address"),
        (lambda d: d["nodes"]["n2"]["addresses"].update(inet="10.9.0.9"), "nodes.n2.addresses.inet: none of ip, ip6"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, message: str) -> None:
    path = write(tmp_path, change)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path}: {message}')}"):
        load(path)
    assert main(["check-config", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_check_config_is_silent_about_a_valid_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(write(tmp_path))]) == 0
    assert capsys.readouterr() == ("", "")
