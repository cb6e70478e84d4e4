# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The page for Prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from wirefleet import __version__
from wirefleet.prometheus import Metric

from .adopter import Adopter
from .adoption import RESULTS
from .census import census
from .config import Config
from .decide import Standing, State
from .elements import Elements, slots
from .haproxy import Report
from .kernel import Gauges
from .rebalance import RESULTS as REBALANCED
from .rebalance import Rebalance

LEARNED = ("sessions", "affinity")  # the maps of steer.nft whose size depends on the clients
FILLED = (*LEARNED, "limits")  # all that packets fill, and with source NAT:
LENT = "ports"
HANDSHAKES = ("begun", "answered")  # the counters of steer.nft that count no drops
NO_DROPS = (*HANDSHAKES, "copies")
CENSUS_TIME = 30.0  # seconds: a count walks every element, so it is not made for every scrape

Census = Mapping[str, Mapping[int, int]]  # map -> mark -> elements


class CensusCache:
    """Counts the big maps, ``names``, when somebody scrapes, and not too often."""

    def __init__(self, names: Sequence[str] = FILLED) -> None:
        self._names = names
        self._lock = threading.Lock()
        self._counted: dict[str, tuple[float, Census]] = {}

    def get(self, family: str, table: str) -> Census:
        with self._lock:
            counted_at, counts = self._counted.get(family, (float("-inf"), {}))
            if time.monotonic() - counted_at >= CENSUS_TIME:
                counts = {name: census(family, table, name) for name in self._names}
                self._counted[family] = (time.monotonic(), counts)
            return counts


def filled_maps(config: Config) -> tuple[str, ...]:
    """Return the names of the maps that packets fill."""
    return (*FILLED, LENT) if config.snat else FILLED


def page(
    config: Config,
    state: State,
    elements: Mapping[str, Elements],
    *,
    reports: Mapping[str, Report],
    haproxy_up: bool,
    failing: Mapping[str, bool],
    active: bool,
    totals: Mapping[str, int],
    transitions: Mapping[tuple[str, Standing], int],
    gauges: Mapping[str, Gauges],
    census: Mapping[str, Census],
) -> list[Metric]:
    """Return every metric; ``gauges`` and ``census`` are by family."""
    cluster = {"cluster": config.cluster}
    known = _metric("node_state", "1 for the state that the kernel treats the node by.")
    weight = _metric("node_weight", "The node's share of new clients, by HAProxy's weight.")
    held = _metric("node_held", "The node's checks fail, but all do, so it stays what it was.")
    damped = _metric("node_damped", "The node's checks pass, but it went down too often and has to wait for clients.")
    changed = _metric("node_transitions_total", "Changes of the node's state, by the new one.", "counter")
    probe = _metric("node_probe_seconds", "How long HAProxy's last check of the node took, through the probe tunnel.")
    share = _metric("node_slots", "The node's slots of the wheel that new clients are dealt by.")
    learned = _metric("node_map_elements", "What the table has learned: sessions (indices) and affinity (clients).")
    for name, node in config.nodes.items():
        labels = {**cluster, "node": name}
        for standing in Standing:
            known.add(state.standing(name) is standing, **labels, state=standing.value)
            changed.add(transitions.get((name, standing), 0), **labels, state=standing.value)
        report = reports.get(name)
        if report and report.duration is not None:
            probe.add(report.duration, **labels)
        weight.add(state.weight(name), **labels)
        held.add(name in state.held, **labels)
        damped.add(name in state.damped, **labels)
        for family in config.families:
            if family in elements:
                share.add(slots(elements[family], node), **labels, family=family)
            for what in LEARNED:
                if family in census:
                    learned.add(census[family][what].get(node.mark, 0), **labels, family=family, map=what)
    drops = _metric("dropped_packets_total", "Packets that the table dropped, by reason.", "counter")
    shaken = _metric("handshakes_total", "Handshakes that clients have begun, and that nodes have answered.", "counter")
    sizes = _metric("map_size", "Elements that the maps have room for.")
    for family, gauge in gauges.items():
        for reason, packets in gauge.packets.items():
            if reason in HANDSHAKES:
                shaken.add(packets, **cluster, family=family, result=reason)
            elif reason not in NO_DROPS:
                drops.add(packets, **cluster, family=family, reason=reason)
        for what in filled_maps(config):
            sizes.add(gauge.sizes[what], **cluster, family=family, map=what)
    valid = _metric("certificate_not_after_seconds", "Unix time until which the certificate for clients is valid.")
    if config.certificate_not_after is not None:
        valid.add(config.certificate_not_after, **cluster)
    fails = _metric("failing", "1 while this part of the daemon's work fails: the kernel may not steer as it should.")
    for part, failed in failing.items():
        fails.add(failed, **cluster, part=part)
    filled = _metric("map_elements", "Elements of the maps that packets fill.")
    for family, maps in census.items():
        for what, counts in maps.items():
            filled.add(sum(counts.values()), **cluster, family=family, map=what)
    return [
        _metric("info", "The daemon's version.").add(1, **cluster, version=__version__),
        _metric("haproxy_up", "HAProxy's admin socket answers.").add(haproxy_up, **cluster),
        _metric("active", "The addresses that balancers share are here, or there are none.").add(active, **cluster),
        _metric("shared_addresses", "How many addresses balancers share; only the active one has them.").add(
            len(config.vips), **cluster
        ),
        _metric("holding", "All nodes' checks failed; the last state is held.").add(bool(state.held), **cluster),
        _metric("holds_total", "How often that began.", "counter").add(totals.get("holds", 0), **cluster),
        _metric("table_restores_total", "How often somebody had removed the table.", "counter").add(
            totals.get("restores", 0), **cluster
        ),
        *(fails, known, weight, held, damped, changed, probe, share, learned, drops, shaken, filled, sizes, valid),
    ]


def adoption(config: Config, adopter: Adopter) -> list[Metric]:
    """Return the metrics that are there while adoption is on."""
    cluster = {"cluster": config.cluster}
    clients = _metric("node_clients", "Clients whose latest handshake was with the node.")
    heard = _metric("node_agent_heard", "The node's agent says who its clients are, and can be told to adopt others.")
    for name in config.nodes:
        clients.add(adopter.counts.get(name, 0), **cluster, node=name)
        heard.add(name not in adopter.silent, **cluster, node=name)
    moved = _metric("adoptions_total", "Clients that had to leave their node, by how that ended.", "counter")
    for result in RESULTS:
        moved.add(adopter.adoptions.totals[result], **cluster, result=result)
    took = _metric(
        "adoption_duration_seconds",
        "From the moment that a node was seen to fail, or drained, until its last client was elsewhere or given up.",
        "histogram",
    )
    for cause, durations in adopter.durations.items():
        took.add_histogram(durations, **cluster, cause=cause)
    return [clients, heard, moved, took]


def rebalancing(config: Config, rebalance: Rebalance) -> list[Metric]:
    """Return the metrics that are there while clients are moved to where they are missing."""
    cluster = {"cluster": config.cluster}
    moved = _metric(
        "rebalanced_clients_total", "Clients that were to move to another node, by what they did.", "counter"
    )
    for result in REBALANCED:
        moved.add(rebalance.totals[result], **cluster, result=result)
    return [_metric("rebalancing", "Clients are being moved.").add(rebalance.active, **cluster), moved]


def _metric(name: str, text: str, kind: str = "gauge") -> Metric:
    return Metric(f"wirefleet_steer_{name}", text, kind)
