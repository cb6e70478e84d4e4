# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import json

from ansible_collections.wirefleet.vpn.plugins.filter.dropping_chains import FilterModule

dropping_chains = FilterModule().filters()["dropping_chains"]
RULESET = json.dumps(
    {
        "nftables": [
            {
                "chain": {
                    "family": "inet",
                    "table": "filter",
                    "name": "forward",
                    "type": "filter",
                    "hook": "forward",
                    "policy": "drop",
                }
            },
            {
                "rule": {
                    "family": "inet",
                    "table": "filter",
                    "chain": "forward",
                    "expr": [
                        {
                            "match": {
                                "op": "==",
                                "left": {"payload": {"protocol": "udp", "field": "dport"}},
                                "right": 51820,
                            }
                        },
                        {"accept": None},
                    ],
                }
            },
        ]
    }
)


def test_hook_and_port_count_and_the_port_may_be_text() -> None:
    assert dropping_chains(RULESET, "forward", "51821") == ["inet filter forward"]
    assert dropping_chains(RULESET, "forward", "51820") == []
    assert dropping_chains(RULESET, "input", 51821) == []


def test_a_host_without_nft_drops_nothing() -> None:
    assert dropping_chains("", "input", 51820) == []
