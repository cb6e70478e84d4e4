# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Clients of a WireGuard server that stands alone, so that a cluster can take them over unnoticed. Pure.

A client notices nothing if the service has the same key and port, the client the same addresses, and both the same
pre-shared key. No error and no note holds a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import derive_preshared_key, mask
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_config import (
    Config,
    ConfigError,
    Device,
    Peer,
    hide_keys,
    parse,
    parse_dump,
)

NAME_CHARACTERS = 63

_UNFIT = re.compile(r"[^A-Za-z0-9_.@-]+")
_NAMED = re.compile(r"_?(?:friendly_)?name\s*[:=]\s*(.+)", re.IGNORECASE)
# What installers write before the name: "### Client alice", "# BEGIN_PEER alice", "# Client: alice (some id)".
_INTRODUCTION = re.compile(r"(?:begin_peer|begin|client|peer|user|device)\b\s*[:=]?\s*(?=\S)", re.IGNORECASE)
_AFTERTHOUGHT = re.compile(r"\s*(?:\([^)]*\)|#+)\s*$")
_SETTING = re.compile(r"(?:\[|[A-Za-z]+\s*=\s*|end_peer\b|end\b)", re.IGNORECASE)


class TakeoverError(ValueError):
    """What can not be taken over; `problems` holds one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def take_over(text: str, dump: str, settings: Mapping[str, Any], seed: str) -> dict[str, Any]:
    """Return {service_key, clients, notes} of a server.

    `text`: its wg-quick file; `dump`: `wg show NAME dump`, empty while it does not run; `settings`: cluster, port,
    client_networks and reserved_addresses of the cluster. Raises TakeoverError.
    """
    try:
        config = parse(text)
        live = parse_dump(dump) if dump.strip() else None
    except ConfigError as error:
        raise TakeoverError([str(error)]) from None
    device = live or config.device
    problems = list(_different(config, device, settings))
    clients: list[dict[str, Any]] = []
    taken: set[str] = set()
    names = dict(_names(text))
    for key, peer in device.peers.items():
        client, complaint = _client(peer, settings)
        client["name"] = _unique(names.get(key) or _fallback(peer), taken)
        if complaint:
            problems.append(f"{client['name']}: {complaint}")
        if peer.preshared_key:
            derived = derive_preshared_key(seed, settings["cluster"], client["name"], key)
            client["psk_mask"] = mask(peer.preshared_key, derived)
        else:
            client["psk"] = False
        clients.append(client)
    if problems:
        raise TakeoverError(problems)
    return {
        "service_key": device.private_key,
        "clients": sorted(clients, key=lambda client: client["name"]),
        "notes": list(_notes(config, device, settings)),
    }


def _different(config: Config, device: Device, settings: Mapping[str, Any]) -> Iterator[str]:
    if device.private_key != config.device.private_key:
        yield "the private key of the file is not the one that runs: which one do clients know?"
    if device.listen_port != settings["port"]:
        yield f"it listens on {device.listen_port}, and vpn_port is {settings['port']}: clients know only one"
    if not device.peers:
        yield "it has no peers"


def _client(peer: Peer, settings: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """A client as `vpn_clients` describes it, without its name, and what can not be so."""
    addresses: dict[str, str] = {}
    networks = []
    complaint = None
    for prefix in sorted(peer.allowed_ips):
        network = ipaddress.ip_network(prefix)
        home = _home(network, settings["client_networks"]) if network.num_addresses == 1 else None
        if home is None:
            networks.append(prefix)
        elif home in addresses:
            complaint = f"has two addresses in {home}, where the cluster gives one: {addresses[home]} and {prefix}"
        else:
            addresses[home] = str(network.network_address)
    if not addresses:
        complaint = f"has no address in vpn_client_networks, but {', '.join(networks) or 'none at all'}"
    client: dict[str, Any] = {"name": "", "public_key": peer.public_key, "addresses": list(addresses.values())}
    if networks:
        client["networks"] = networks
    return client, complaint


def _home(network: ipaddress.IPv4Network | ipaddress.IPv6Network, among: Iterable[str]) -> str | None:
    """The one of these networks that an address is in."""
    candidates = {text: ipaddress.ip_network(text) for text in among}
    return next((text for text, home in candidates.items() if network.network_address in home), None)


def _notes(config: Config, device: Device, settings: Mapping[str, Any]) -> Iterator[str]:
    left_out = sorted(config.device.peers.keys() - device.peers.keys())
    if left_out:
        yield f"peers of the file that are not live are left out: {', '.join(left_out)}"
    reserved = [ipaddress.ip_network(text) for text in settings["reserved_addresses"]]
    for text in config.addresses:
        address = ipaddress.ip_interface(text).ip
        if not any(address in network for network in reserved):
            yield f"clients may speak to the server's own address, {address}: put it into vpn_reserved_addresses"


def _names(text: str) -> Iterator[tuple[str, str]]:
    """(public key, name) of the peers whose comments tell a name."""
    above: list[str] = []
    inside_above: list[str] = []
    inside: list[str] | None = None
    key = ""
    for line in [*text.split("\n"), "[end]"]:
        setting, _mark, comment = (part.strip() for part in line.partition("#"))
        if setting.startswith("["):
            if inside is not None and key and (name := _name(inside_above, inside)):
                yield key, name
            is_peer = setting.lower() == "[peer]"
            inside_above, above = above, []
            inside, key = ([comment] if is_peer else None), ""
        elif setting:
            above = []
            field, _equals, value = (part.strip() for part in setting.partition("="))
            if field.lower() == "publickey":
                key = value
        elif comment:
            above.append(comment)
            # After its key, a comment may be the next peer's.
            if inside is not None and (not key or _NAMED.match(comment)):
                inside.append(comment)
        else:
            above = []


def _name(above: Sequence[str], inside: Sequence[str]) -> str:
    """The name that comments tell, the nearest one to the peer; empty where none does."""
    comments = [c.lstrip("# ") for c in (*inside, *reversed(above))]
    # A key that was commented out is no name, and still a key.
    comments = [c for c in comments if c and hide_keys(c) == c]
    named = next((match[1] for match in map(_NAMED.match, comments) if match), None)
    if named is None:
        named = next((c for c in comments if not _SETTING.match(c)), "")
    named = _AFTERTHOUGHT.sub("", _INTRODUCTION.sub("", named, count=1))
    return _fit(named)


def _fit(text: str) -> str:
    return _UNFIT.sub("-", text).strip("-_.@")[:NAME_CHARACTERS]


def _fallback(peer: Peer) -> str:
    """A name for somebody whom no comment names."""
    prefix = min(peer.allowed_ips, default=peer.public_key[:8])
    return f"peer-{_fit(prefix.split('/')[0])}"


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name[: NAME_CHARACTERS - 5]}-{number}"
    taken.add(candidate)
    return candidate
