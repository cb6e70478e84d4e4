# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What the sets and maps of the table ``steer.nft`` have to hold. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import IPv6Address
from typing import Optional

from .config import Config, Node
from .decide import Standing, State
from .wheel import wheel

# Set or map name -> key -> value (None in a set), all in nft's own spelling.
Elements = Mapping[str, Mapping[str, Optional[str]]]

# Those of the table that hold what nodes taught (sessions, affinity, limits) are none of our business.
KINDS = {
    "node_marks": "map",
    "alive": "map",
    "accepting": "map",
    "wheel": "map",
    "responders": "set",
    "initiators": "set",
    "own_marks": "set",
    "foreign_indices": "set",
    "foreign_clients": "set",
}
EMPTY: Elements = {name: {} for name in KINDS}


def mark(value: int) -> str:
    return f"{value:#010x}"


def wanted(config: Config, family: str, state: State, muted: Collection[str] = ()) -> Elements:
    """Return the content of every set and map for one address family; a node without an address in it has no part.

    Who is ``muted`` may begin no handshake: a client remembers the latest time that it saw in one, and would hear no
    other node until then if that was in the future.
    """
    nodes = [node for node in config.nodes.values() if family in node.addresses]
    alive = [node for node in nodes if state.standing(node.name) is not Standing.DOWN]
    accepting = [node for node in nodes if state.standing(node.name) is Standing.UP]
    marks = {node.name: mark(node.mark) for node in accepting}
    owners = wheel({node.name: state.weight(node.name) for node in accepting})
    return {
        "node_marks": {node.addresses[family]: mark(node.mark) for node in nodes},
        "alive": {mark(node.mark): node.addresses[family] for node in alive},
        "accepting": {mark(node.mark): node.addresses[family] for node in accepting},
        "wheel": {str(slot): marks[name] for slot, name in enumerate(owners) if name is not None},
        "responders": {node.addresses[family]: None for node in alive},
        "initiators": {node.addresses[family]: None for node in accepting if node.name not in muted},
        "own_marks": {f"{node.addresses[family]} . {mark(node.mark)}": None for node in nodes},
        "foreign_indices": _pairs(family, nodes, alive),
        "foreign_clients": _pairs(family, nodes, accepting),
    }


def _pairs(family: str, nodes: list[Node], others: list[Node]) -> dict[str, None]:
    """Return address . mark for each node with the mark of each *other* one."""
    return {
        f"{node.addresses[family]} . {mark(other.mark)}": None
        for node in nodes
        for other in others
        if node is not other
    }


def standing(elements: Elements, node: Node, family: str) -> Standing:
    """Read a node's standing back from what the kernel holds."""
    if elements["accepting"].get(mark(node.mark)) == node.addresses[family]:
        return Standing.UP
    if elements["alive"].get(mark(node.mark)) == node.addresses[family]:
        return Standing.DRAINING
    return Standing.DOWN


def slots(elements: Elements, node: Node) -> int:
    """Count the node's slots of the wheel."""
    return list(elements["wheel"].values()).count(mark(node.mark))


def client_key(family: str, endpoint: str) -> str:
    """Return the key of a client, at ADDRESS:PORT, in the map "affinity": see the table for what IPv6 has room for."""
    address, _colon, port = endpoint.rpartition(":")
    if family == "ip":
        return f"{address} . {port}"
    return f"{int(IPv6Address(address.strip('[]'))) & (1 << 96) - 1:#x} . {port}"


def script(family: str, table: str, old: Elements, new: Elements) -> str:
    """Return the nft commands that turn ``old`` into ``new``; empty when there is nothing to do."""
    lines: list[str] = []
    for name in KINDS:
        gone = [key for key, value in old[name].items() if new[name].get(key, "") != value]
        come = {key: value for key, value in new[name].items() if old[name].get(key, "") != value}
        if gone:
            lines.append(f"delete element {family} {table} {name} {{ {', '.join(gone)} }}")
        if come:
            items = (key if value is None else f"{key} : {value}" for key, value in come.items())
            lines.append(f"add element {family} {table} {name} {{ {', '.join(items)} }}")
    return "".join(f"{line}\n" for line in lines)
