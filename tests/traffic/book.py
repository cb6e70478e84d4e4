# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger and the nodes' peers as a bookkeeper sees them: whoever is in there once stays as he is."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from testinfra.host import Host

from .cluster import Cluster, peers

LEDGER = "/etc/wirefleet/default/ledger.jsonl"

Entry = dict[str, Any]


def device_key() -> str:
    """A public key of nobody's: any 32 bytes are one."""
    return base64.b64encode(os.urandom(32)).decode()


class Book:
    """What the ledgers have ever said of clients, and what they say now."""

    def __init__(self, cluster: Cluster, store: Path) -> None:
        self._nodes, self._hosts = cluster.nodes, cluster.clients.keys()
        self._store = store
        self._seen: dict[str, Entry] = {}

    def audit(self) -> None:
        """Read every ledger; fail if somebody is gone, or has another address or key, or an address is there twice."""
        known: set[str] = set()
        for where, text in self._ledgers().items():
            held = {entry["name"]: entry for entry in _entries(text) if entry["kind"] == "client"}
            addresses = Counter(address for entry in held.values() for address in entry.get("addresses", []))
            twice = [address for address, count in addresses.items() if count > 1]
            assert not twice, f"{where}: {', '.join(twice)} is there twice"
            for name, entry in held.items():
                before = self._seen.setdefault(name, entry)
                for what in ("addresses", "public_key"):
                    assert entry.get(what) == before.get(what), f"{where}: {name}: {what}: {before} became {entry}"
            known |= held.keys()
        # Who was removed is still there, as long as the addresses rest.
        assert self._seen.keys() == known, f"nobody knows {', '.join(self._seen.keys() - known)} any more"

    def clients(self) -> dict[str, Entry]:
        """Who is a client now; fails unless all nodes have the same ledger."""
        texts = {where: text for where, text in self._ledgers().items() if where in self._nodes}
        assert len(set(texts.values())) == 1, f"{' and '.join(texts)} have not the same ledger"
        entries = _entries(next(iter(texts.values())))
        return {e["name"]: e for e in entries if e["kind"] == "client" and "released" not in e}

    def devices(self) -> dict[str, dict[str, str]]:
        """The clients that are no hosts, as items of `vpn_clients` by name."""
        return {
            name: {"name": name, "public_key": entry["public_key"]}
            for name, entry in self.clients().items()
            if name not in self._hosts
        }

    def peers(self, leaving: set[str]) -> dict[str, dict[str, set[str]]]:
        """Each node's peers that are clients, with their addresses, by key; but for those who are to leave."""
        keys = {self._seen[name].get("public_key") for name in leaving & self._seen.keys()}
        return {
            name: {key: addresses for key, addresses in served(node).items() if key not in keys}
            for name, node in self._nodes.items()
        }

    def assert_served(self, devices: Iterable[str]) -> None:
        """These, the hosts and nobody else are clients, and peers of every node, with their addresses in the ledger."""
        clients = self.clients()
        assert clients.keys() == {*devices, *self._hosts}
        wanted = {entry["public_key"]: set(entry["addresses"]) for entry in clients.values()}
        for name, node in self._nodes.items():
            assert served(node) == wanted, f"{name}: has not the peers that the ledger has"

    def _ledgers(self) -> dict[str, str]:
        """By the place where they are."""
        texts = {name: node.check_output("cat %s", LEDGER) for name, node in self._nodes.items()}
        # It lags behind the nodes when a run was killed between them.
        return {**texts, "the controller": (self._store / "ledger.jsonl").read_text().strip()}


def handed_out(state: Path, device: str) -> str:
    """The public key of the private key that the playbook `clients` hands out, by a state directory."""
    conf = (state / "handouts" / device / "vpn.conf").read_text()
    private = next(line.split(" = ")[1] for line in conf.splitlines() if line.startswith("PrivateKey"))
    return subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()


def served(node: Host) -> dict[str, set[str]]:
    """A node's peers with their addresses, without the balancers' probes."""
    probes = {
        entry["public_key"] for entry in _entries(node.check_output("cat %s", LEDGER)) if entry["kind"] == "probe"
    }
    listed = peers(node, "allowed-ips")
    return {
        key: {address.split("/")[0] for address in addresses.split()}
        for key, addresses in listed.items()
        if key not in probes
    }


def _entries(text: str) -> list[Entry]:
    _header, *lines = text.splitlines()
    return [json.loads(line) for line in lines]
