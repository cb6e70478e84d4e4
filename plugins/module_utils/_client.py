# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What stands against a host's being a client as its variables say. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

DEFAULT_ROUTES = frozenset({"0.0.0.0/0", "::/0"})
SSH = frozenset({"ssh", "smart", "paramiko", "paramiko_ssh"})  # connection plugins


def problems(client: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the variable and its value for each thing that would go wrong on the host.

    `client`: {cluster, foreign (whether the file of the interface is somebody else's), interface, transport,
    probe_interface, shim_port, kill_switch, kill_switch_allow, allowed_networks, client_networks, connection_kind (of
    Ansible), connection (the value of SSH_CONNECTION there)}.
    `others`: the configurations of the daemons that clients of other clusters have on the host, of their watcher
    {cluster, shim: {port}, probe_interface}, of their kill switch {cluster, table}.
    """
    found = []
    if client["foreign"]:
        found.append(
            f"wg_client_interface is {client['interface']}, but /etc/wireguard/{client['interface']}.conf is not this"
            " cluster's: choose another name, or move the file away"
        )
    for other in others:
        found += _clashes(client, other)
    if client["kill_switch"]:
        found += _kill_switch(client)
    return found


def _clashes(client: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What two clusters can not share."""
    found = []
    has = f"the client of the cluster {other['cluster']} on this host has"
    if client["transport"] != "udp" and other.get("shim", {}).get("port") == int(client["shim_port"]):
        found.append(f"wg_client_shim_port is {client['shim_port']}, which {has}: choose another port")
    if client["transport"] == "auto" and other.get("probe_interface") == client["probe_interface"]:
        found.append(f"wg_client_probe_interface is {client['probe_interface']}, which {has}: choose another name")
    if client["kill_switch"] and "table" in other:
        found.append(f"wg_client_kill_switch is true, and {has} one, too: each would block the other's tunnel")
    return found


def _kill_switch(client: Mapping[str, Any]) -> list[str]:
    found = []
    allowed = []
    for value in client["kill_switch_allow"]:
        try:
            allowed.append(ipaddress.ip_network(value))
        except ValueError as error:
            found.append(f"wg_client_kill_switch_allow: {error}")
    if not DEFAULT_ROUTES & set(client["allowed_networks"]):
        found.append(
            "wg_client_kill_switch is true, but wg_client_allowed_networks has neither 0.0.0.0/0 nor ::/0: it would"
            " block all that does not go through the tunnel"
        )
    if client["connection_kind"].rpartition(".")[2] in SSH and not client["connection"]:
        found.append("wg_client_kill_switch is true, and the host does not say where this connection comes from")
    if client["connection"] and not found:
        controller, _port, host, *_rest = client["connection"].split()
        if not _within(controller, allowed) and not _within(host, map(ipaddress.ip_network, client["client_networks"])):
            found.append(
                f"wg_client_kill_switch would cut off this very connection, which comes from {controller}: add its"
                " network to wg_client_kill_switch_allow"
            )
    return found


def _within(text: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    # sshd writes a scope, and IPv4 addresses on an IPv6 socket as such.
    address = ipaddress.ip_address(text.partition("%")[0].removeprefix("::ffff:"))
    return any(address in network for network in networks)
