# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""From HAProxy's reports to the standing of each node. Pure: no clock, no socket, no kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from .haproxy import Report

PASSED = frozenset({"L4OK", "L6OK", "L7OK", "L7OKC", "PROCOK"})
BY_OPERATOR = "MAINT"


class Standing(Enum):
    """What a node may do."""

    UP = "up"  # keeps its sessions, gets new ones, may begin handshakes
    DRAINING = "draining"  # keeps its sessions
    DOWN = "down"  # nothing


@dataclass(frozen=True)
class NodeState:
    """What HAProxy's word means for one node, and how it came to it."""

    standing: Standing = Standing.DOWN
    weight: int = 1
    lost_at: float | None = None  # when checks began to fail; None: they pass, or an operator has taken it away
    before_loss: Standing = Standing.DOWN


@dataclass(frozen=True)
class State:
    """``held``: nodes that stay what they were although their checks fail (see ``decide``).

    ``relieved_at``: when the first of all came back, while others are still held.
    ``damped``: nodes that get no clients although their checks pass (see ``damping``).
    """

    nodes: Mapping[str, NodeState]
    held: frozenset[str] = frozenset()
    relieved_at: float | None = None
    damped: frozenset[str] = frozenset()

    def standing(self, name: str) -> Standing:
        """What the kernel shall do with the node."""
        node = self.nodes[name]
        standing = node.before_loss if name in self.held else node.standing
        return Standing.DRAINING if standing is Standing.UP and name in self.damped else standing

    def weight(self, name: str) -> int:
        """The node's share of new clients."""
        return self.nodes[name].weight if self.standing(name) is Standing.UP else 0


def decide(
    previous: State, observed: Mapping[str, Report], now: float, collapse_window: float, return_window: float
) -> State:
    """Return the state that follows from ``previous`` and from what HAProxy says ``now``.

    A node of which nothing reliable is known (HAProxy has no such server, or has not checked it yet) stays as it is.

    **Fail static.** When checks take away the last node that was up, the fault is hardly in all nodes at once but here,
    or in between: a flood, a broken balancer, a network. Then the kernel keeps steering as before. A broken balancer
    sees its nodes go one by one, so those that were lost up to ``collapse_window`` seconds before are taken back too.
    When a node is up again, the others have ``return_window`` seconds to follow: else the one whose checks happen to be
    first would get everybody's clients. For a node that an operator puts into maintenance it ends at once. A node that
    an operator has taken away is no collapse: with nobody else there, new clients are turned away.
    """
    nodes = {
        name: _follow(node, observed[name], now) if name in observed else node for name, node in previous.nodes.items()
    }
    lost = {name: node.lost_at for name, node in nodes.items() if node.lost_at is not None}
    held = previous.held.intersection(lost)
    if any(node.standing is Standing.UP for node in nodes.values()):
        relieved_at = now if previous.relieved_at is None else previous.relieved_at
        return State(nodes, held, relieved_at) if held and now - relieved_at < return_window else State(nodes)
    if now in lost.values():
        held |= {name for name, lost_at in lost.items() if now - lost_at <= collapse_window}
    return State(nodes, held)


def collapsed_at(state: State) -> float | None:
    """Return when the last node that was up was lost; None while one is up, or nobody is held."""
    if not state.held or state.relieved_at is not None:
        return None
    return max(lost_at for name in state.held if (lost_at := state.nodes[name].lost_at) is not None)


def _follow(node: NodeState, report: Report, now: float) -> NodeState:
    """Apply one report."""
    standing = read(report, node.standing)
    if standing is None:
        return replace(node, weight=report.weight)
    if not report.status.startswith("DOWN"):
        return NodeState(standing, report.weight)
    if node.lost_at is None and node.standing is not Standing.DOWN:
        return NodeState(standing, report.weight, lost_at=now, before_loss=node.standing)
    return replace(node, standing=standing, weight=report.weight)


def read(report: Report, current: Standing) -> Standing | None:
    """Say what a report means for a node that is ``current``, or None when it means nothing.

    HAProxy calls a server UP before it has checked it, at its own start and after ``set server … state ready``; with
    less than full health then ("UP 1/2"), while a passed check fills it up. So a node *comes* up by a plain "UP" and a
    check that passed, and *stays* up through "UP 1/2", where a check has failed but not often enough. "no check" is an
    operator's ``disable health`` for a server that was up.

    A refused connection came back through the node's WireGuard, which works, then: only its agent is not there, and a
    node that was alive keeps its sessions until the agent has passed its checks again. While the next check is under
    way, HAProxy does not say that it was a refusal: such a moment means nothing.
    """
    status = report.status.partition(" ")[0]
    if status == "DOWN":
        if report.maybe_refused and current is not Standing.DOWN:
            return None
        refused = report.refused and current is not Standing.DOWN
        rising = report.check_status in PASSED and current is Standing.DRAINING
        return Standing.DRAINING if refused or rising else Standing.DOWN
    if status == BY_OPERATOR:
        return Standing.DOWN
    if status in ("DRAIN", "NOLB"):
        return Standing.DRAINING
    by_weight = Standing.UP if report.weight else Standing.DRAINING
    if report.status == "no check" or (report.status == "UP" and report.check_status in PASSED):
        return by_weight
    if status == "UP" and current is not Standing.DOWN and report.check_status not in ("INI", ""):
        return by_weight if current is Standing.UP else None
    return None


def changes(previous: State, current: State) -> Iterator[tuple[str, Standing, Standing]]:
    """Yield (node, old standing, new standing) for every node that the kernel has to treat differently."""
    for name in current.nodes:
        old, new = previous.standing(name), current.standing(name)
        if old is not new:
            yield name, old, new
