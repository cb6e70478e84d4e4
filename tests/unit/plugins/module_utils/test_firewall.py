# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._firewall import dropping_chains

Item = dict[str, Any]
PORT = 51820
TOOLS = ("unshare", "nft", "iptables-nft-restore")


def listed(setup: str) -> str:
    """What nft lists after a shell script has set up a firewall in a network namespace of its own."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(TOOLS)}")
    script = f"{{ {setup}\n}} >&2\nexec nft --json --terse list ruleset"
    command = ["unshare", "--net", "sh", "-e", "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def nft(ruleset: str) -> str:
    return f"nft -f - <<'END'\n{ruleset}\nEND"


def iptables(*lines: str) -> str:
    return "\n".join(["iptables-nft-restore <<'END'", "*filter", *lines, "COMMIT", "END"])


# What ufw loads, shortened. Its table accepts a lot: answers, loopback, everything that goes out.
UFW = [
    ":INPUT DROP",
    ":FORWARD DROP",
    ":OUTPUT ACCEPT",
    *(f":ufw-{name} -" for name in ("before-input", "not-local", "user-input", "user-limit-accept", "track-output")),
    ":ufw-skip-to-policy-output -",
    "-A INPUT -j ufw-before-input",
    "-A OUTPUT -j ufw-track-output",
    "-A OUTPUT -j ufw-skip-to-policy-output",
    "-A ufw-before-input -i lo -j ACCEPT",
    "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A ufw-before-input -p icmp --icmp-type echo-request -j ACCEPT",
    "-A ufw-before-input -p udp --sport 67 --dport 68 -j ACCEPT",
    "-A ufw-before-input -j ufw-not-local",
    "-A ufw-before-input -d 224.0.0.251 -p udp --dport 5353 -j ACCEPT",
    "-A ufw-before-input -j ufw-user-input",
    "-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN",
    "-A ufw-not-local -j DROP",
    "-A ufw-user-input -p tcp --dport 22 -j ufw-user-limit-accept",
    f"-A ufw-user-input -p tcp --dport {PORT} -j ACCEPT",
    "-A ufw-user-limit-accept -j ACCEPT",
    "-A ufw-track-output -p udp -m conntrack --ctstate NEW -j ACCEPT",
    "-A ufw-skip-to-policy-output -j ACCEPT",
]
DOCKER = [
    ":FORWARD DROP",
    ":DOCKER -",
    "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A FORWARD -o docker0 -j DOCKER",
    "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    "-A FORWARD -i br-0123456789ab -j ACCEPT",
    "-A DOCKER -d 172.17.0.2 ! -i docker0 -o docker0 -p tcp --dport 80 -j ACCEPT",
]


def firewalld(allowed: str) -> str:
    """A zone of firewalld: its chains have policy accept, and end in a reject."""
    return nft(f"""
        table inet firewalld {{
            chain filter_INPUT {{
                type filter hook input priority filter + 10; policy accept
                ct state {{ established, related }} accept
                ct status dnat accept
                iifname "lo" accept
                jump filter_INPUT_ZONES
                ct state invalid drop
                reject with icmpx admin-prohibited
            }}
            chain filter_INPUT_ZONES {{
                iifname "eth0" goto filter_IN_public
                goto filter_IN_public
            }}
            chain filter_IN_public {{
                jump filter_IN_public_allow
                meta l4proto {{ icmp, ipv6-icmp }} accept
                reject with icmpx admin-prohibited
            }}
            chain filter_IN_public_allow {{
                tcp dport 22 accept
                ip6 daddr fe80::/64 udp dport 546 ct state {{ new, untracked }} accept
                {allowed}
            }}
        }}""")


def chain_with(*rules: str, hook: str = "input", table: str = "inet site") -> str:
    body = "; ".join([*rules, ""])
    return nft(f"""
        table {table} {{
            set ports {{ type inet_service; elements = {{ {PORT} }}; }}
            map verdicts {{ type inet_service : verdict; elements = {{ {PORT} : accept }}; }}
            chain world {{ udp dport {PORT} accept; }}
            chain nobody {{ udp dport 53 accept; }}
            chain base {{ type filter hook {hook} priority 0; policy drop; {body}}}
        }}""")


# -- whole firewalls, as nft lists them --------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize(
    ("setup", "inputs", "forwards"),
    [
        pytest.param(":", [], [], id="empty"),
        pytest.param(iptables(*UFW), ["ip filter INPUT"], ["ip filter FORWARD"], id="ufw"),
        pytest.param(
            iptables(*UFW, f"-A ufw-user-input -p udp --dport {PORT} -j ACCEPT"),
            [],
            ["ip filter FORWARD"],
            id="ufw allow 51820/udp",
        ),
        pytest.param(
            iptables(*UFW, f"-A ufw-user-input -p udp -m multiport --dports 53,{PORT} -j ACCEPT"),
            [],
            ["ip filter FORWARD"],
            id="ufw with a list of ports",
        ),
        pytest.param(iptables(*DOCKER), [], ["ip filter FORWARD"], id="Docker"),
        pytest.param(
            iptables(*DOCKER, f"-A FORWARD -p udp --dport {PORT} -m conntrack --ctstate NEW -j ACCEPT"),
            [],
            [],
            id="Docker and a rule for us",
        ),
        pytest.param(
            iptables("-A INPUT -p tcp --dport 22 -j ACCEPT", "-A INPUT -j REJECT --reject-with icmp-host-prohibited"),
            ["ip filter INPUT"],
            [],
            id="iptables-services of RHEL",
        ),
        pytest.param(firewalld(""), ["inet firewalld filter_INPUT"], [], id="firewalld"),
        pytest.param(firewalld(f"tcp dport {PORT} accept"), ["inet firewalld filter_INPUT"], [], id="firewalld, TCP"),
        pytest.param(firewalld(f"udp dport {PORT} ct state {{ new, untracked }} accept"), [], [], id="firewalld, open"),
        pytest.param(chain_with(), ["inet site base"], [], id="a table of one's own"),
        pytest.param(chain_with(hook="forward"), [], ["inet site base"], id="a table of one's own, forward"),
        pytest.param(chain_with(table="ip6 site"), ["ip6 site base"], [], id="IPv6 only"),
        pytest.param(chain_with(table="inet wirefleet_node"), [], [], id="our own table"),
        pytest.param(
            chain_with(f"udp dport {PORT} accept") + "\n" + chain_with(table="inet other"),
            ["inet other base"],
            [],
            id="an accept in one table does not help in another",
        ),
    ],
)
def test_firewalls_as_nft_lists_them(setup: str, inputs: list[str], forwards: list[str]) -> None:
    ruleset = listed(setup)
    assert dropping_chains(ruleset, "input", PORT) == inputs
    assert dropping_chains(ruleset, "forward", PORT) == forwards


@pytest.mark.root
@pytest.mark.parametrize(
    ("rule", "accepts"),
    [
        (f"udp dport {PORT} accept", True),
        (f"udp dport {PORT} counter log accept", True),
        (f"udp dport {{ 22, {PORT} }} accept", True),
        ("udp dport { 22, 51000-52000 } accept", True),
        ("udp dport 51000-52000 accept", True),
        (f"meta l4proto {{ tcp, udp }} th dport {PORT} accept", True),
        (f"meta protocol ip udp dport {PORT} accept", True),
        ("udp dport != 22 accept", True),
        ("udp dport @ports accept", True),
        ("ct state new accept", True),
        (f"ct state {{ new, untracked }} udp dport {PORT} accept", True),
        ("ip protocol udp accept", True),
        ("meta l4proto != tcp accept", True),
        ("ip saddr 192.0.2.0/24 accept", True),
        ("meta mark & 0xf == 1 accept", True),
        ('iifname "eth0" accept', True),
        ('iifname != "lo" accept', True),
        ('iifname { "lo", "eth0" } accept', True),
        ("jump world", True),
        ("udp dport 51000-52000 goto world", True),
        (f"udp dport vmap {{ 22 : drop, {PORT} : accept }}", True),
        ('iifname vmap { "lo" : accept, "eth0" : jump world }', True),
        ("udp dport vmap @verdicts", True),
        (f"tcp dport {PORT} accept", False),
        (f"udp sport {PORT} accept", False),
        ("udp dport 53 accept", False),
        ("udp dport { 22, 60000-61000 } accept", False),
        (f"udp dport != {PORT} accept", False),
        (f"udp dport {PORT} drop", False),
        ("meta l4proto { icmp, ipv6-icmp } accept", False),
        ("ip protocol tcp accept", False),
        ("meta l4proto != udp accept", False),
        ("icmpv6 type { nd-neighbor-solicit, nd-router-advert } accept", False),
        ("ct state established,related accept", False),
        ("ct status dnat accept", False),
        ('iifname "lo" accept', False),
        ('iifname { "lo", "virbr0" } accept', False),
        ("jump nobody", False),
        ("tcp dport 22 jump world", False),
        (f"udp dport vmap {{ 22 : accept, {PORT} : drop }}", False),
        ('iifname vmap { "lo" : accept, "eth0" : jump nobody }', False),
        ("ct state vmap { established : accept, related : accept, invalid : drop }", False),
    ],
)
def test_which_rules_accept_our_packet(rule: str, accepts: bool) -> None:
    assert dropping_chains(listed(chain_with(rule)), "input", PORT) == ([] if accepts else ["inet site base"])


# -- JSON, also that of other versions of nft ----------------------------------------------


def ruleset(*rules: list[Item], **chain: Any) -> str:
    base = {"family": "ip", "table": "t", "name": "c", "type": "filter", "hook": "input", "policy": "drop", **chain}
    place = {"family": "ip", "table": base["table"], "chain": base["name"]}
    return json.dumps({"nftables": [{"chain": base}, *({"rule": {**place, "expr": rule}} for rule in rules)]})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("", [], id="no nft"),
        pytest.param(" \n", [], id="nothing"),
        pytest.param("Error: Could not process rule", [], id="no JSON"),
        pytest.param("[]", [], id="other JSON"),
        pytest.param('{"error": 1}', [], id="no ruleset"),
        pytest.param(ruleset(), ["ip t c"], id="drops"),
        pytest.param(ruleset(policy="accept"), [], id="accepts"),
        pytest.param(ruleset(policy="accept", hook=None), [], id="no base chain"),
        pytest.param(ruleset([{"drop": None}], policy="accept"), ["ip t c"], id="ends in drop"),
        pytest.param(
            ruleset([{"log": {"prefix": "no: "}}, {"counter": {}}, {"reject": None}], policy="accept"),
            ["ip t c"],
            id="ends in reject",
        ),
        pytest.param(
            ruleset([{"limit": {"rate": 3, "per": "minute"}}, {"drop": None}], policy="accept"), [], id="drops some"
        ),
        pytest.param(ruleset(type="nat"), [], id="no filter"),
        pytest.param(ruleset(hook="output"), [], id="another hook"),
        pytest.param(ruleset(table="wirefleet"), [], id="our own"),
        pytest.param(ruleset([{"xt": None}, {"accept": None}]), [], id="an extension that nft does not name"),
        pytest.param(
            ruleset([{"xt": {"type": "match", "name": "tcp"}}, {"accept": None}]), ["ip t c"], id="an extension for TCP"
        ),
        pytest.param(ruleset([{"jump": {"target": "elsewhere"}}]), ["ip t c"], id="a jump to an empty chain"),
    ],
)
def test_rulesets_as_json(text: str, found: list[str]) -> None:
    assert dropping_chains(text, "input", PORT) == found
