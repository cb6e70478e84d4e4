# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster goes from an earlier state of the collection to this one and back, host by host; clients notice nothing.

Each test goes on from where the one before has left the cluster.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from testinfra.host import Host
from traffic.cluster import DRAIN_SECONDS, FAILOVER_SECONDS, Cluster
from traffic.download import Download
from traffic.figures import Figures
from traffic.hosts import Lab, until
from traffic.pair import Pair, Watched
from traffic.site import InfraRepository, Run

BEFORE, AFTER = 2.0, 8.0  # seconds of load around what happens
# TCP's own time-outs double: what was lost for 3 s may be sent again after 6.2 s only.
STALL_SECONDS = 7
RETURN_SECONDS = 90


@dataclass(frozen=True)
class Load(Watched):
    """What two clients noticed that ping, and download over one TCP connection each all the while."""

    downloads: dict[str, Download] = field(default_factory=dict)

    def record(self, figures: Figures, what: str) -> None:
        """Note the figures, and fail if a connection broke."""
        stall = max(download.stall for download in self.downloads.values())
        received = sum(download.received for download in self.downloads.values()) / 1e6
        figures.add(f"{what}: pings lost", f"{self.lost} of {self.sent}")
        figures.add(f"{what}: longest stall of two connections, {received:.0f} MB", stall, "s")
        for name, download in self.downloads.items():
            assert download.complete, f"{name}: {download}"
            assert download.stall < STALL_SECONDS, f"{name}: {download}"


@contextmanager
def load(pair: Pair) -> Iterator[Load]:
    clients = pair.clients.values()
    seen = Load(
        {client.name: pair.ping(client) for client in clients},
        downloads={client.name: Download(client.host, pair.targets[client.name]) for client in clients},
    )
    with ExitStack() as stack:
        for ping in seen.pings.values():
            stack.enter_context(ping)
        for download in seen.downloads.values():
            stack.enter_context(download)
        time.sleep(BEFORE)
        yield seen
        time.sleep(AFTER)


def installed(host: Host) -> str:
    """The checksums of the daemons' files: what version a host has."""
    return host.check_output("cd /usr/local/lib/wirefleet && find . -name '*.py' -exec sha256sum {} + | sort")


def assert_changed(run: Run) -> None:
    assert run.code == 0, run.output
    assert run.total("changed") > 0, run.output


def assert_versions(pair: Pair, *, equal: bool) -> None:
    """Whether both balancers, and both nodes, have one version."""
    for one, other in (map(pair.host, pair.views), pair.views["lb1"].nodes.values()):
        assert (installed(one) == installed(other)) is equal


def test_the_earlier_state(lab: Lab, earlier: InfraRepository, pair: Pair) -> None:
    run = earlier.site(lab.inventory, options=("--extra-vars", "vpn_bootstrap=true"))
    assert run.code == 0, run.output
    pair.roles()
    assert_versions(pair, equal=True)


def test_a_balancer_goes_on_and_takes_over(lab: Lab, infra: InfraRepository, pair: Pair, figures: Figures) -> None:
    """Balancers come first: whoever decides about nodes of both versions is of the later one."""
    active, other = pair.roles()
    with load(pair) as seen:
        assert_changed(infra.site(lab.inventory, options=("--limit", other)))
        assert pair.roles() == (active, other)
        take_over(pair, active, other)
    seen.record(figures, "a balancer updated, it takes over")
    assert seen.lost == 0, str(seen)


def test_a_node_goes_on(lab: Lab, infra: InfraRepository, pair: Pair, figures: Figures) -> None:
    with load(pair) as seen:
        assert_changed(infra.site(lab.inventory, options=("--limit", "n1")))
        pair.roles()
    seen.record(figures, "a node updated")
    assert seen.lost == 0, str(seen)
    assert_versions(pair, equal=False)


@pytest.mark.parametrize("direction", ["back", "there"])
def test_hosts_of_both_versions_work_together(lab: Lab, pair: Pair, figures: Figures, direction: str) -> None:
    """Each balancer takes over from the other one, and lets each node take the other one's clients."""
    active, other = pair.roles()
    with load(pair) as seen:
        take_over(pair, active, other)
    seen.record(figures, f"{other} takes over")
    assert seen.lost == 0, str(seen)

    view = pair.views[other]
    for node, survivor in itertools.permutations(view.nodes):
        with load(pair) as seen, view.drained_at_node(survivor):
            until(f"{node} has all clients", DRAIN_SECONDS, partial(has_all, view, node))
        seen.record(figures, f"{other} is active, {survivor} drained")
        assert seen.lost == 0, str(seen)

        with load(pair) as seen:
            lab.befall("kill", node)
            for client in pair.clients.values():
                until(f"{client.name} is served", FAILOVER_SECONDS, lambda: pair.served(client))  # noqa: B023
        lab.befall("start", node)
        view.wait(node, "up", RETURN_SECONDS)
        seen.record(figures, f"{other} is active, {node} killed")
        figures.add(f"{other} is active, {node} killed: longest outage", seen.outage, "s")
        assert seen.outage < FAILOVER_SECONDS, str(seen)


def test_the_other_hosts_go_on(lab: Lab, infra: InfraRepository, pair: Pair, figures: Figures) -> None:
    with load(pair) as seen:
        assert_changed(infra.site(lab.inventory))
        pair.roles()
    seen.record(figures, "the other hosts updated")
    assert seen.lost == 0, str(seen)
    assert_versions(pair, equal=True)


def test_all_hosts_go_back(lab: Lab, earlier: InfraRepository, pair: Pair, figures: Figures) -> None:
    with load(pair) as seen:
        assert_changed(earlier.site(lab.inventory))
        pair.roles()
    seen.record(figures, "all hosts taken back")
    assert seen.lost == 0, str(seen)
    assert_versions(pair, equal=True)


def take_over(pair: Pair, active: str, other: str) -> None:
    pair.host(active).check_output("systemctl restart wirefleet-keepalived")
    pair.wait_active(other)
    assert pair.roles() == (other, active)


def has_all(cluster: Cluster, node: str) -> bool:
    return all(cluster.owner(client) == node for client in cluster.clients.values())
