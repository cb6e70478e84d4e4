# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Peers of the cluster's interfaces, computed once in Python instead of once per peer in a template. Pure.

A peer is a dict: name, public_key, allowed_ips (list of prefixes) and, where they apply, preshared_key, endpoint
(`address:port`, IPv6 in brackets) and keepalive (seconds).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import validate_key

Peer = dict[str, Any]

MESH_KEEPALIVE = 25  # seconds, WireGuard's own advice


def derive_preshared_key(seed: str, cluster: str, name: str, public_key: str, renewals: int = 0) -> str:
    """The pre-shared key of one client, from the cluster's seed (32 random bytes in base64).

    HKDF-SHA256 (RFC 5869) with the client's identity as context: each client has 32 bytes of its own that tell nothing
    of the seed or of other clients, and nobody has to store, copy or merge ten thousand secrets. A client that gets a
    new key pair gets a new pre-shared key with it. `renewals`: how often it got one without.
    """
    material = base64.b64decode(validate_key(seed))
    extracted = hmac.new(b"wirefleet preshared key v1", material, hashlib.sha256).digest()
    # Lengths before the values: no two identities give one context.
    identity = (cluster, name, public_key, *([str(renewals)] if renewals else []))
    context = b"".join(len(part).to_bytes(2, "big") + part for part in map(str.encode, identity))
    # One block of HKDF's expansion is exactly the 32 bytes of a key.
    return base64.b64encode(hmac.new(extracted, context + b"\x01", hashlib.sha256).digest()).decode()


def preshared_key(seed: str, cluster: str, name: str, client: Mapping[str, Any]) -> str | None:
    """The pre-shared key of a client of the plan, or None where it has none.

    One that came with its own, from another server, has a mask, which makes that one of the derived one, until it is
    renewed.
    """
    if not client["preshared"]:
        return None
    renewals = client.get("psk_renewals") or 0
    derived = derive_preshared_key(seed, cluster, name, client["public_key"], renewals)
    return mask(derived, client["psk_mask"]) if client.get("psk_mask") and not renewals else derived


def mask(key: str, other: str) -> str:
    """The bits in which two keys differ, which is its own inverse: mask(key, mask(key, x)) == x.

    The mask of a key with a derived one, which is random to whoever lacks the seed, tells nothing of either.
    """
    pairs = zip(base64.b64decode(key), base64.b64decode(other))
    return base64.b64encode(bytes(one ^ another for one, another in pairs)).decode()


def derive_tcp_id(seed: str, cluster: str) -> str:
    """The UUID by which a cluster's nodes know its clients' connections over TCP, from the same seed.

    One for all: it keeps strangers from the shim, which leads to WireGuard alone, and WireGuard knows who is who.
    """
    material = base64.b64decode(validate_key(seed))
    extracted = hmac.new(b"wirefleet tcp id v1", material, hashlib.sha256).digest()
    return str(
        uuid.UUID(bytes=hmac.new(extracted, cluster.encode() + b"\x01", hashlib.sha256).digest()[:16], version=4)
    )


def host_prefix(address: str) -> str:
    """`10.80.0.2` -> `10.80.0.2/32`, `fd00::2` -> `fd00::2/128`."""
    parsed = ipaddress.ip_address(address)
    return f"{parsed}/{parsed.max_prefixlen}"


def endpoint(address: str, port: int) -> str:
    """`address:port` as WireGuard, URLs and HAProxy read it: IPv6 addresses in brackets, names as they are."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def service_peers(plan: Mapping[str, Any], seed: str, cluster: str, old: bool = False) -> list[Peer]:
    """Who may talk to a node's wg0: the balancers' health probes and every client that is not suspended.

    An expired client stays among them: when somebody expires is no change of the configuration. Its peer is removed
    from the interface by the nodes themselves. `old`: as an old service key knows them, whose seed this is.
    """
    peers: list[Peer] = [
        {
            "name": f"probe of balancer {name}",
            "public_key": balancer["probe_public_key"],
            "allowed_ips": [host_prefix(a) for a in balancer["addresses"]],
        }
        for name, balancer in sorted(plan["balancers"].items())
        if balancer["probe_public_key"]
    ]
    for name, client in sorted(plan["clients"].items()):
        if client["suspended"]:
            continue
        if old:
            client = {**client, "public_key": client.get("old_public_key", client["public_key"])}
        peers.append(
            {
                "name": f"client {name}",
                "public_key": client["public_key"],
                "preshared_key": preshared_key(seed, cluster, name, client),
                "allowed_ips": [*(host_prefix(a) for a in client["addresses"]), *client["networks"]],
            }
        )
    return peers


def mesh_peers(plan: Mapping[str, Any], host: str, port: int) -> list[Peer]:
    """The other hosts of the management mesh, reached at their backend addresses.

    A monitor speaks first, from wherever it is, and not to other monitors.

    A node speaks to balancers first, by a keepalive: one that comes back from the dead would otherwise be sent packets
    of its old session, and the balancer would need WireGuard's 15 s to find out.
    """
    family = plan["families"][0]
    served = {**plan["nodes"], **plan["balancers"]}
    members = {**plan["monitors"], **served} if host in served else served
    return [
        {
            "name": name,
            "public_key": member["mesh_public_key"],
            "allowed_ips": [host_prefix(a) for a in member["mesh_addresses"]],
            "endpoint": endpoint(member["backend"][family]["address"], port) if name in served else None,
            "keepalive": MESH_KEEPALIVE if host in plan["nodes"] and name in plan["balancers"] else None,
        }
        for name, member in sorted(members.items())
        if name != host and member["mesh_public_key"]
    ]


def render_peers(peers: Iterable[Mapping[str, Any]]) -> str:
    """The [Peer] sections of a wg-quick file, each with its name as a comment."""
    sections = []
    for peer in peers:
        lines = [f"# {peer['name']}", "[Peer]", f"PublicKey = {peer['public_key']}"]
        if peer.get("preshared_key"):
            lines.append(f"PresharedKey = {peer['preshared_key']}")
        lines.append(f"AllowedIPs = {', '.join(peer['allowed_ips'])}")
        if peer.get("endpoint"):
            lines.append(f"Endpoint = {peer['endpoint']}")
        if peer.get("keepalive"):
            lines.append(f"PersistentKeepalive = {int(peer['keepalive'])}")
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)
