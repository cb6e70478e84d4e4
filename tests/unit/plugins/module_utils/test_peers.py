# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import base64
import time
from itertools import product
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError
from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import (
    derive_preshared_key,
    endpoint,
    host_prefix,
    mask,
    mesh_peers,
    preshared_key,
    render_peers,
    service_peers,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


SEED = key(99)


def host(number: int, mesh_key: str | None, **more: Any) -> dict[str, Any]:
    return {
        "addresses": [f"10.80.0.{number}", f"fd00:80::{number}"],
        "mesh_addresses": [f"fd77::{number}"],
        "mesh_public_key": mesh_key,
        "backend": {
            "ip": {"address": f"10.9.0.{number}", "network": "10.9.0.0/24", "interface": "eth1"},
            "ip6": {"address": f"2001:db8:9::{number}", "network": "2001:db8:9::/64", "interface": "eth1"},
        },
        **more,
    }


CLIENT: dict[str, Any] = {"preshared": False, "networks": [], "suspended": False}
PLAN = {
    "families": ["ip", "ip6"],
    "nodes": {"n2": host(2, key(2)), "n1": host(1, key(1))},
    "balancers": {"lb1": host(3, key(3), probe_public_key=key(4))},
    "monitors": {},
    "clients": {
        "bob": {**CLIENT, "addresses": ["10.80.0.6"], "public_key": key(6)},
        "dave": {**CLIENT, "addresses": ["10.80.0.7"], "public_key": key(7), "suspended": True},
        "alice": {
            **CLIENT,
            "addresses": ["10.80.0.5", "fd00:80::5"],
            "public_key": key(5),
            "preshared": True,
            "networks": ["10.31.0.0/24"],
        },
    },
}


# -- pre-shared keys ---------------------------------------------------------------------


@given(
    st.binary(min_size=32, max_size=32).filter(any), st.text(max_size=15), st.text(max_size=63), st.integers(1, 1000)
)
def test_derivation_is_hkdf(seed: bytes, cluster: str, name: str, number: int) -> None:
    context = b""
    for part in (cluster, name, key(number)):
        raw = part.encode()
        context += bytes([0, len(raw)]) + raw
    expected = HKDF(SHA256(), length=32, salt=b"wirefleet preshared key v1", info=context).derive(seed)
    derived = derive_preshared_key(base64.b64encode(seed).decode(), cluster, name, key(number))
    assert base64.b64decode(derived, validate=True) == expected


def test_a_derived_key_never_changes() -> None:
    """Devices hold it: another value is an outage for every one of them."""
    assert derive_preshared_key(SEED, "default", "alice", key(5)) == "I7p0pCtX1+p84/13/zmHkRAdUa5EPmt7TmK2tTHGwbo="


def test_every_part_of_an_identity_counts_and_none_runs_into_the_next() -> None:
    identities = [*product((key(98), SEED), ("a", "ab", ""), ("c", "bc", "abc", ""), (key(5), key(6)))]
    assert len({derive_preshared_key(*identity) for identity in identities}) == len(identities)


def test_a_bad_seed_is_refused_and_not_shown() -> None:
    with pytest.raises(KeyFormatError) as caught:
        derive_preshared_key("c2VjcmV0", "default", "alice", key(5))
    assert "c2VjcmV0" not in str(caught.value)


# -- addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "prefix"), [("10.80.0.2", "10.80.0.2/32"), ("fd00::2", "fd00::2/128"), ("FD00:0::2", "fd00::2/128")]
)
def test_host_prefix(address: str, prefix: str) -> None:
    assert host_prefix(address) == prefix


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("192.0.2.1", "192.0.2.1:51820"),
        ("2001:db8::1", "[2001:db8::1]:51820"),
        ("vpn.example.com", "vpn.example.com:51820"),
    ],
)
def test_endpoint(address: str, text: str) -> None:
    assert endpoint(address, 51820) == text


def test_a_key_from_elsewhere_is_kept_by_its_mask() -> None:
    derived = derive_preshared_key(SEED, "default", "alice", key(5))
    client = {"public_key": key(5), "preshared": True, "psk_mask": mask(key(9), derived)}
    assert client["psk_mask"] not in (derived, key(9))
    assert preshared_key(SEED, "default", "alice", client) == key(9)
    assert preshared_key(SEED, "default", "alice", {**client, "preshared": False}) is None
    renewed = preshared_key(SEED, "default", "alice", {**client, "psk_renewals": 1})
    assert renewed == derive_preshared_key(SEED, "default", "alice", key(5), 1)
    assert renewed not in (key(9), derived)
    assert preshared_key(SEED, "default", "alice", {"public_key": key(5), "preshared": True}) == derived


# -- who talks to whom -------------------------------------------------------------------


def test_a_node_serves_the_probes_and_every_client_that_is_not_suspended() -> None:
    assert service_peers(PLAN, SEED, "default") == [
        {
            "name": "probe of balancer lb1",
            "public_key": key(4),
            "allowed_ips": ["10.80.0.3/32", "fd00:80::3/128"],
        },
        {
            "name": "client alice",
            "public_key": key(5),
            "preshared_key": derive_preshared_key(SEED, "default", "alice", key(5)),
            "allowed_ips": ["10.80.0.5/32", "fd00:80::5/128", "10.31.0.0/24"],
        },
        {
            "name": "client bob",
            "public_key": key(6),
            "preshared_key": None,
            "allowed_ips": ["10.80.0.6/32"],
        },
    ]


def test_an_old_service_key_knows_clients_by_the_keys_that_they_had() -> None:
    plan = {**PLAN, "clients": {"alice": {**PLAN["clients"]["alice"], "old_public_key": key(50)}}}
    assert [peer["public_key"] for peer in service_peers(plan, SEED, "default")] == [key(4), key(5)]
    _probe, old = service_peers(plan, SEED, "default", old=True)
    assert old["public_key"] == key(50)
    assert old["preshared_key"] == derive_preshared_key(SEED, "default", "alice", key(50))


def test_a_balancer_without_a_probe_key_is_no_peer_yet() -> None:
    plan = {**PLAN, "balancers": {"lb1": host(3, None, probe_public_key=None)}, "clients": {}}
    assert service_peers(plan, SEED, "default") == []


@pytest.mark.parametrize(
    ("families", "endpoints"),
    [
        (["ip", "ip6"], {"lb1": "10.9.0.3:51821", "n2": "10.9.0.2:51821"}),
        (["ip6"], {"lb1": "[2001:db8:9::3]:51821", "n2": "[2001:db8:9::2]:51821"}),
    ],
)
def test_the_mesh_joins_all_other_hosts_at_their_backend_addresses(
    families: list[str], endpoints: dict[str, str]
) -> None:
    peers = mesh_peers({**PLAN, "families": families}, "n1", 51821)
    assert [(peer["name"], peer["public_key"], peer["allowed_ips"], peer["endpoint"]) for peer in peers] == [
        ("lb1", key(3), ["fd77::3/128"], endpoints["lb1"]),
        ("n2", key(2), ["fd77::2/128"], endpoints["n2"]),
    ]


@pytest.mark.parametrize(("host", "keepalives"), [("n1", {"lb1": 25, "n2": None}), ("lb1", {"n1": None, "n2": None})])
def test_nodes_speak_to_balancers_first(host: str, keepalives: dict[str, int | None]) -> None:
    assert {peer["name"]: peer["keepalive"] for peer in mesh_peers(PLAN, host, 51821)} == keepalives


def test_a_monitor_speaks_first_to_all_but_other_monitors() -> None:
    monitors = {name: host(number, key(number)) for number, name in ((8, "mon1"), (9, "mon2"))}
    plan = {**PLAN, "monitors": monitors}
    endpoints = {peer["name"]: peer["endpoint"] for peer in mesh_peers(plan, "n1", 51821)}
    assert endpoints == {"lb1": "10.9.0.3:51821", "n2": "10.9.0.2:51821", "mon1": None, "mon2": None}
    assert [peer["name"] for peer in mesh_peers(plan, "mon1", 51821)] == ["lb1", "n1", "n2"]
    watching = {**PLAN, "monitors": {"lb1": PLAN["balancers"]["lb1"], **monitors}}
    assert [peer["name"] for peer in mesh_peers(watching, "lb1", 51821)] == ["mon1", "mon2", "n1", "n2"]


def test_a_host_without_a_mesh_key_is_no_peer_yet() -> None:
    plan = {**PLAN, "nodes": {"n1": host(1, key(1)), "n2": host(2, None)}}
    assert [peer["name"] for peer in mesh_peers(plan, "n1", 51821)] == ["lb1"]


# -- text --------------------------------------------------------------------------------


def test_sections_say_what_a_peer_has_and_nothing_else() -> None:
    peers = [
        {"name": "n2", "public_key": key(2), "allowed_ips": ["fd77::2/128"], "endpoint": "10.9.0.2:51821"},
        {
            "name": "client alice",
            "public_key": key(5),
            "preshared_key": key(7),
            "allowed_ips": ["10.80.0.5/32", "fd00:80::5/128"],
            "keepalive": 25,
        },
    ]
    assert render_peers(peers) == (
        "# n2\n[Peer]\n"
        f"PublicKey = {key(2)}\n"
        "AllowedIPs = fd77::2/128\n"
        "Endpoint = 10.9.0.2:51821\n"
        "\n"
        "# client alice\n[Peer]\n"
        f"PublicKey = {key(5)}\n"
        f"PresharedKey = {key(7)}\n"
        "AllowedIPs = 10.80.0.5/32, fd00:80::5/128\n"
        "PersistentKeepalive = 25\n"
    )
    assert render_peers([]) == ""


def test_ten_thousand_clients_take_about_a_second() -> None:
    clients = {
        f"client-{n}": {
            **CLIENT,
            "addresses": [f"10.80.{n >> 8}.{n & 255}", f"fd00:80::{n:x}"],
            "public_key": key(n),
            "preshared": True,
        }
        for n in range(1, 10_001)
    }
    started = time.process_time()
    text = render_peers(service_peers({**PLAN, "clients": clients}, SEED, "default"))
    elapsed = time.process_time() - started
    assert text.count("[Peer]\n") == 10_001
    # A fifth of a second on a quiet machine; what has to be noticed is a second loop over all clients.
    assert elapsed < 20
