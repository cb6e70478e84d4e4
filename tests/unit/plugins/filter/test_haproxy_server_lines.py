# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.haproxy_server_lines import FilterModule

haproxy_server_lines = FilterModule().filters()["haproxy_server_lines"]

NODE: dict[str, Any] = {"name": "n1", "address": "192.0.2.11"}


HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")

CASES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, "server n1 192.0.2.11:51820 check"),
    ({}, {"enabled": False, "inter": "3s"}, "server n1 192.0.2.11:51820"),
    (
        {},
        {"rise": 2, "fall": 2, "inter": "3s"},
        "server n1 192.0.2.11:51820 check inter 3s fall 2 rise 2",
    ),
    (
        {},
        {"inter": 1000, "fastinter": "250ms", "downinter": "1m", "fall": "3"},
        "server n1 192.0.2.11:51820 check inter 1000 fastinter 250ms downinter 1m fall 3",
    ),
    (
        {},
        {"inter": "1us", "fastinter": "24d", "downinter": "2147483647"},
        "server n1 192.0.2.11:51820 check inter 1us fastinter 24d downinter 2147483647",
    ),
    ({"port": 443}, {}, "server n1 192.0.2.11:443 check"),
    ({"port": "443"}, {}, "server n1 192.0.2.11:443 check"),
    ({"address": "2001:db8::11"}, {}, "server n1 [2001:db8::11]:51820 check"),
    ({"address": "2001:DB8:0::11"}, {}, "server n1 [2001:db8::11]:51820 check"),
    ({"address": "localhost"}, {}, "server n1 localhost:51820 check"),
    (
        {"check_address": "192.0.2.12", "check_port": 51880},
        {},
        "server n1 192.0.2.11:51820 check addr 192.0.2.12 port 51880",
    ),
    (
        {"check_address": "fd00:81::2", "check_port": 51880},
        {},
        "server n1 192.0.2.11:51820 check addr [fd00:81::2] port 51880",
    ),
    ({"agent_port": 51881}, {}, "server n1 192.0.2.11:51820 check agent-check agent-port 51881"),
    ({"weight": 0}, {}, "server n1 192.0.2.11:51820 check weight 0"),
    ({"weight": 256, "id": 7}, {}, "server n1 192.0.2.11:51820 check weight 256 id 7"),
    ({"backup": True, "disabled": "yes"}, {}, "server n1 192.0.2.11:51820 check backup disabled"),
    ({"backup": False, "disabled": "no", "weight": None}, {}, "server n1 192.0.2.11:51820 check"),
    (
        {"options": ["on-marked-down shutdown-sessions", "init-addr", "none"]},
        {},
        "server n1 192.0.2.11:51820 check on-marked-down shutdown-sessions init-addr none",
    ),
    ({"options": []}, {}, "server n1 192.0.2.11:51820 check"),
    ({"name": "rack 1/näs.a:b-c_d"}, {}, "server rack_1_n_s.a:b-c_d 192.0.2.11:51820 check"),
    (
        {
            "options": ["send-proxy"],
            "disabled": True,
            "backup": True,
            "id": 2147483647,
            "weight": 50,
            "agent_port": 3,
            "check_port": 2,
            "check_address": "2001:db8::2",
            "port": 1,
            "address": "2001:db8::1",
            "name": "all",
        },
        {"rise": 4, "fall": 5, "downinter": "6s", "fastinter": "7s", "inter": "8s", "enabled": True},
        "server all [2001:db8::1]:1 check inter 8s fastinter 7s downinter 6s fall 5 rise 4 addr [2001:db8::2]"
        " port 2 agent-check agent-port 3 weight 50 id 2147483647 backup disabled send-proxy",
    ),
]


@pytest.mark.parametrize(("node", "check", "line"), CASES)
def test_line(node: dict[str, Any], check: dict[str, Any], line: str) -> None:
    assert haproxy_server_lines([{**NODE, **node}], check=check) == [line]


@pytest.mark.skipif(HAPROXY is None, reason="needs haproxy")
@pytest.mark.parametrize("line", [line for _node, _check, line in CASES])
def test_haproxy_takes_the_line(line: str, tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n"
        f"listen vpn\n  bind 127.0.0.1:51820\n  {line}\n"
    )
    result = subprocess.run([str(HAPROXY), "-c", "-f", str(config)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_lines_keep_the_order_of_the_nodes() -> None:
    nodes = [{"name": name, "address": f"192.0.2.{n}", "id": n} for n, name in enumerate(["c", "a", "B", "b"], 1)]
    assert haproxy_server_lines(iter(nodes), {"enabled": False}) == [
        "server c 192.0.2.1:51820 id 1",
        "server a 192.0.2.2:51820 id 2",
        "server B 192.0.2.3:51820 id 3",
        "server b 192.0.2.4:51820 id 4",
    ]


def test_no_nodes_no_lines() -> None:
    assert haproxy_server_lines([]) == []


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"name": ""}, "nodes[0]: name has to be a string that is not empty, not ''"),
        ({"name": None}, "nodes[0]: name is missing"),
        ({"name": 1}, "nodes[0]: name has to be a string that is not empty, not 1"),
        ({"address": None}, "node 'n1': address is missing"),
        ({"address": ""}, "node 'n1': address has to be an address or a host name, not ''"),
        ({"address": 7}, "node 'n1': address has to be an address or a host name, not 7"),
        ({"address": "192.0.2.300"}, "node 'n1': address has to be an address or a host name, not '192.0.2.300'"),
        ({"address": "192.0.2.1:80"}, "node 'n1': address has to be an address or a host name"),
        ({"address": "[2001:db8::1]"}, "node 'n1': address has to be an address or a host name"),
        ({"address": "a b"}, "node 'n1': address has to be an address or a host name"),
        ({"address": "a\n"}, "node 'n1': address has to be an address or a host name"),
        ({"address": "-a"}, "node 'n1': address has to be an address or a host name"),
        ({"address": "a" * 64}, "node 'n1': address has to be an address or a host name"),
        ({"address": "fe80::1%eth0"}, "node 'n1': address has to be an address without a zone"),
        ({"check_address": "x y"}, "node 'n1': check_address has to be an address or a host name, not 'x y'"),
        ({"port": 0}, "node 'n1': port has to be a number from 1 to 65535, not 0"),
        ({"port": 65536}, "node 'n1': port has to be a number from 1 to 65535, not 65536"),
        ({"port": True}, "node 'n1': port has to be a number from 1 to 65535, not True"),
        ({"port": "80 weight 1"}, "node 'n1': port has to be a number from 1 to 65535"),
        ({"port": 1.5}, "node 'n1': port has to be a number from 1 to 65535"),
        ({"check_port": 70000}, "node 'n1': check_port has to be a number from 1 to 65535"),
        ({"agent_port": -1}, "node 'n1': agent_port has to be a number from 1 to 65535"),
        ({"weight": 257}, "node 'n1': weight has to be a number from 0 to 256, not 257"),
        ({"weight": -1}, "node 'n1': weight has to be a number from 0 to 256"),
        ({"id": 0}, "node 'n1': id has to be a number from 1 to 2147483647"),
        ({"backup": "maybe"}, "node 'n1': backup has to be true or false, not 'maybe'"),
        ({"options": "backup"}, "node 'n1': options has to be a list, not 'backup'"),
        ({"options": ["a\nserver evil 192.0.2.66:1"]}, "node 'n1': options has to be a list of words without"),
        ({"options": ["cookie 'a'"]}, "node 'n1': options has to be a list of words without"),
        ({"options": ['cookie "a']}, "node 'n1': options has to be a list of words without"),
        ({"options": ["# weight 1"]}, "node 'n1': options has to be a list of words without"),
        ({"options": ["a\\"]}, "node 'n1': options has to be a list of words without"),
        ({"options": [" "]}, "node 'n1': options has to be a list of words without"),
        ({"options": [5]}, "node 'n1': options has to be a list of words without"),
        ({"wieght": 5}, "nodes[0]: has the unknown key 'wieght'; known are address, agent_port, backup, "),
    ],
)
def test_wrong_node_is_named(node: dict[str, Any], expected: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        haproxy_server_lines([{**NODE, **node}])
    assert str(caught.value).startswith(f"haproxy_server_lines: {expected}")


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({"inter": "3 s"}, "check: inter has to be a time such as 250ms or 3s, longer than 0 and at most 24.8 days"),
        ({"inter": 0}, "check: inter has to be a time"),
        ({"inter": "0ms"}, "check: inter has to be a time"),
        ({"inter": -1}, "check: inter has to be a time"),
        ({"inter": True}, "check: inter has to be a time"),
        ({"inter": 1.5}, "check: inter has to be a time"),
        ({"fastinter": "1w"}, "check: fastinter has to be a time"),
        ({"downinter": "2147483648"}, "check: downinter has to be a time"),
        ({"downinter": "25d"}, "check: downinter has to be a time"),
        ({"fall": 0}, "check: fall has to be a number from 1 to "),
        ({"rise": "two"}, "check: rise has to be a number from 1 to "),
        ({"rise": "٢"}, "check: rise has to be a number from 1 to "),
        ({"enabled": "perhaps"}, "check: enabled has to be true or false, not 'perhaps'"),
        ({"enabled": False, "inter": "x"}, "check: inter has to be a time"),
        ({"timeout": "1s"}, "check: has the unknown key 'timeout'; known are downinter, enabled, fall, "),
        ("3s", "check: has to be a mapping, not '3s'"),
    ],
)
def test_wrong_check_is_named(check: Any, expected: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        haproxy_server_lines([NODE], check)
    assert str(caught.value).startswith(f"haproxy_server_lines: {expected}")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([NODE, NODE], "node 'n1': 'server n1' is already taken by node 'n1'"),
        ([{**NODE, "name": "a b"}, {**NODE, "name": "a/b"}], "node 'a/b': 'server a_b' is already taken by node 'a b'"),
        (
            [{**NODE, "id": 5}, {**NODE, "name": "n2", "id": "5"}],
            "node 'n2': 'id 5' is already taken by node 'n1'",
        ),
        (NODE, "nodes: has to be a list, not {"),
        ("n1", "nodes: has to be a list, not 'n1'"),
        (["n1"], "nodes[0]: has to be a mapping, not 'n1'"),
    ],
)
def test_nodes_that_can_not_stand_together_are_named(nodes: Any, expected: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        haproxy_server_lines(nodes)
    assert str(caught.value).startswith(f"haproxy_server_lines: {expected}")
