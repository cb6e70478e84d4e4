# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._import import TakeoverError, take_over
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import generate_private_key, public_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import preshared_key


def key(text: str) -> str:
    return base64.b64encode(sha256(text.encode()).digest()).decode()


SEED = key("seed")
SERVER = generate_private_key()
SETTINGS = {
    "cluster": "default",
    "port": 51820,
    "client_networks": ["10.80.0.0/16", "fd00:80::/48"],
    "reserved_addresses": ["10.80.0.0/30"],
}
INTERFACE = f"[Interface]\nPrivateKey = {SERVER}\nAddress = 10.80.0.1/16\nListenPort = 51820\n"
PEER = f"[Peer]\nPublicKey = {key('1')}\nAllowedIPs = 10.80.0.2/32\n"


def imported(peers: str, dump: str = "", interface: str = INTERFACE, **settings: Any) -> dict[str, Any]:
    return take_over(interface + peers, dump, {**SETTINGS, **settings}, SEED)


def problems(*arguments: Any, **more: Any) -> list[str]:
    with pytest.raises(TakeoverError) as caught:
        imported(*arguments, **more)
    return caught.value.problems


def dumped(*peers: str, port: int = 51820) -> str:
    """What `wg show wg0 dump` says; a peer is KEY PSK ALLOWED-IPS."""
    lines = [f"{SERVER}\t{public_key(SERVER)}\t{port}\toff"]
    for peer in peers:
        public, shared, allowed = peer.split()
        lines.append(f"{public}\t{shared}\t192.0.2.7:4711\t{allowed}\t1\t2\t3\toff")
    return "\n".join(lines) + "\n"


def test_keys_addresses_and_pre_shared_keys_stay() -> None:
    found = imported(f"# alice\n{PEER.replace('/32', '/32, fd00:80::2/128')}PresharedKey = {key('psk')}\n")
    assert found["service_key"] == SERVER
    [alice] = found["clients"]
    assert alice["addresses"] == ["10.80.0.2", "fd00:80::2"]
    assert key("psk") not in alice.values()
    # What nodes make of it is the client's own.
    as_planned = {**alice, "preshared": True}
    assert preshared_key(SEED, "default", "alice", as_planned) == key("psk")


def test_who_had_no_pre_shared_key_gets_none() -> None:
    [client] = imported(PEER)["clients"]
    assert client == {"name": "peer-10.80.0.2", "public_key": key("1"), "addresses": ["10.80.0.2"], "psk": False}


@pytest.mark.parametrize(
    ("above", "inside", "name"),
    [
        ("### Client alice", "", "alice"),
        ("# BEGIN_PEER alice", "", "alice"),
        ("### begin alice ###", "", "alice"),
        ("# Client: alice (0a1b2c3d)", "", "alice"),
        ("# END_PEER bob\n# BEGIN_PEER alice", "", "alice"),
        ("# alice's phone", "", "alice-s-phone"),
        ("", "# alice", "alice"),
        ("", "# Name = alice", "alice"),
        ("", "#_Name = alice", "alice"),
        ("# somebody", "# friendly_name=alice", "alice"),
        ("# ID: 77\n# Name: alice\n# Email: a@example.com", "", "alice"),
        ("# ../../etc/passwd", "", "etc-passwd"),
        (f"# PresharedKey = {key('old')}", "", "peer-10.80.0.2"),
        (f"# {key('old')}", "", "peer-10.80.0.2"),
        ("# a note on what follows\n", "", "peer-10.80.0.2"),
        ("# Müller", "", "M-ller"),
        ("#", "", "peer-10.80.0.2"),
        ("# " + "a" * 80, "", "a" * 63),
    ],
)
def test_names_come_from_comments(above: str, inside: str, name: str) -> None:
    [client] = imported(f"{above}\n" + PEER.replace("[Peer]\n", f"[Peer]\n{inside}\n"))["clients"]
    assert client["name"] == name


def test_a_comment_behind_the_section_is_its_name() -> None:
    [client] = imported(PEER.replace("[Peer]", "[Peer] # alice"))["clients"]
    assert client["name"] == "alice"


def test_a_name_that_is_taken_gets_a_number() -> None:
    other = PEER.replace(key("1"), key("2")).replace("0.2/", "0.3/")
    assert [c["name"] for c in imported(f"# alice\n{PEER}# alice\n{other}")["clients"]] == ["alice", "alice-2"]


def test_what_runs_comes_before_the_file() -> None:
    found = imported(f"# alice\n{PEER}", dumped(f"{key('2')} {key('psk')} 10.80.0.9/32"))
    [client] = found["clients"]
    assert (client["name"], client["addresses"]) == ("peer-10.80.0.9", ["10.80.0.9"])
    assert f"peers of the file that are not live are left out: {key('1')}" in found["notes"]


def test_a_gateway_keeps_its_networks() -> None:
    [client] = imported(PEER.replace("10.80.0.2/32", "10.80.0.2/32, 192.168.7.0/24"))["clients"]
    assert (client["addresses"], client["networks"]) == (["10.80.0.2"], ["192.168.7.0/24"])


def test_the_servers_own_address_is_to_be_reserved() -> None:
    assert imported(PEER)["notes"] == []
    assert imported(PEER, reserved_addresses=[])["notes"] == [
        "clients may speak to the server's own address, 10.80.0.1: put it into vpn_reserved_addresses"
    ]


@pytest.mark.parametrize(
    ("peers", "more", "expected"),
    [
        (PEER, {"port": 51830}, ["it listens on 51820, and vpn_port is 51830: clients know only one"]),
        ("", {}, ["it has no peers"]),
        ("[Peer]\n", {}, ["line 5: this [Peer] has no PublicKey"]),
        (
            PEER + PEER.replace(key("1"), key("2")).replace("10.80.0.2/32", "10.66.0.2/32"),
            {},
            ["peer-10.66.0.2: has no address in vpn_client_networks, but 10.66.0.2/32"],
        ),
        (
            PEER.replace("10.80.0.2/32", "10.80.0.2/32, 10.80.0.3/32"),
            {},
            [
                "peer-10.80.0.2: has two addresses in 10.80.0.0/16, where the cluster gives one: 10.80.0.2"
                " and 10.80.0.3/32"
            ],
        ),
    ],
)
def test_what_clients_would_notice_is_refused(peers: str, more: dict[str, Any], expected: list[str]) -> None:
    assert problems(peers, **more) == expected


def test_a_file_that_is_not_what_runs_is_refused() -> None:
    other = INTERFACE.replace(SERVER, generate_private_key())
    assert problems(PEER, dumped(f"{key('1')} (none) 10.80.0.2/32"), other) == [
        "the private key of the file is not the one that runs: which one do clients know?"
    ]
