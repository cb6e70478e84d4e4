# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Where the truth of a running cluster lies: which ledger is the newest, which secret is the cluster's. Pure.

The order is always the same: what the operator gives, then what live nodes have, then the controller's store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError, public_key, validate_key


class StateError(ValueError):
    """The places contradict each other, or there is nothing where something has to be."""


def newest_ledger(on_nodes: Mapping[str, Mapping[str, Any]], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger to go on from: {generation, text, nodes: {name: generation read there}, stored: generation}.

    `on_nodes`: what vpn_ledger read at each node that was reached, as text; `stored`: what it read in the controller's
    store. Two nodes with one generation and different texts mean that two controllers wrote at once.
    """
    places = {f"node {name}": read for name, read in sorted(on_nodes.items())}
    # A clone of the repository may lag behind the nodes, so the store counts only where it is ahead of all of them:
    # a new cluster's nodes, or nodes that were away while the others went on.
    if stored["generation"] > max((read["generation"] for read in places.values()), default=-1):
        places = {"the store": stored}
    generation = max(read["generation"] for read in places.values())
    newest = {where: read["text"] for where, read in places.items() if read["generation"] == generation}
    first, *others = newest
    for where in others:
        if newest[where] != newest[first]:
            raise StateError(
                f"{first} and {where} both have generation {generation} of the ledger, but not the same one: two"
                " controllers wrote at once. Move the ledger file that is wrong aside on its node and run again"
            )
    return {
        "generation": generation,
        "text": newest[first],
        "nodes": {name: read["generation"] for name, read in on_nodes.items()},
        "stored": stored["generation"],
    }


def choose_secret(name: str, given: str | None, on_nodes: Mapping[str, str], stored: str | None) -> str | None:
    """The cluster's secret `name` (`service` and `old-service`: private keys, others: seeds), or None without any.

    Errors name hosts and public keys, never the secret.
    """
    given = given and _valid(f"the {name} secret given by variable", given)
    stored = stored and _valid(f"the {name} secret in the controller's store", stored)
    held: dict[str, list[str]] = {}
    for node, value in sorted(on_nodes.items()):
        held.setdefault(_valid(f"node {node}: its {name} secret", value), []).append(node)

    def describe(value: str) -> str:
        return f" (public key {public_key(value)})" if name.endswith("service") else ""

    if len(held) > 1:
        listed = "; ".join(f"{', '.join(nodes)}{describe(value)}" for value, nodes in held.items())
        hint = "; if rotate_keys did not come to its end, run it again" if name == "service" else ""
        raise StateError(f"the nodes do not have the same {name} secret: {listed}{hint}")
    if held and given and given not in held:
        live, nodes = next(iter(held.items()))
        raise StateError(
            f"the {name} secret given by variable{describe(given)} is not the one of {', '.join(nodes)}"
            f"{describe(live)}: every client would be cut off"
        )
    return given or next(iter(held), None) or stored


def _valid(where: str, value: str) -> str:
    try:
        return validate_key(value)
    except KeyFormatError as error:
        raise StateError(f"{where}: {error}") from None
