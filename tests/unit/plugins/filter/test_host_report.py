# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.host_report import FilterModule

host_report = FilterModule().filters()["host_report"]
FACTS = {
    "interfaces": ["lo", "eth0", "wg0"],
    **{name: {"ipv4": {"address": "192.0.2.5", "prefix": "24"}} for name in ("lo", "eth0", "wg0")},
}


def test_a_report_has_the_name_and_the_underlay_of_a_host() -> None:
    assert host_report(FACTS, "n1", own_interfaces=["wg0"]) == {
        "name": "n1",
        "interfaces": {"eth0": {"ip": ["192.0.2.5/24"], "ip6": []}},
        "keys": {},
        "hints": {},
    }


def test_keys_and_hints_are_kept() -> None:
    report = host_report({}, "n1", keys={"mesh": "key"}, hints={"wireguard_node_backend_addresses": ["192.0.2.5"]})
    assert report["keys"] == {"mesh": "key"}
    assert report["hints"] == {"wireguard_node_backend_addresses": ["192.0.2.5"]}


def test_facts_that_are_none_name_the_host() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^host_report: n1: the facts have to be a dictionary, not str$"):
        host_report("facts", "n1")
