# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What people ask: how are the nodes, why is this one in its state, has it got there yet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from wirefleet import sysctl
from wirefleet.cli import answers, printable
from wirefleet.command import CommandError

from . import haproxy, kernel, probe
from .adoption import SESSION_LIFE
from .census import census
from .config import Config, Node
from .decide import BY_OPERATOR, Standing, read
from .elements import Elements, slots, standing
from .haproxy import HAProxyError, Report

EMPTY = "empty"
GOALS = ("up", "drained", "settled", "back", EMPTY)
NAMED = 10  # of the clients that are left
MAX_ANSWER = 65536  # bytes of an agent's answer
WAIT_INTERVAL = 0.25  # seconds between two looks, each of which takes a dozen runs of nft


@dataclass(frozen=True)
class Snapshot:
    """HAProxy and the kernel at one moment, asked directly: it is true with a dead daemon, too."""

    reports: Mapping[str, Report]
    elements: Mapping[str, Elements]  # by family; a family whose table is missing is not there
    haproxy_error: str | None = None
    damped: Mapping[str, float] = field(default_factory=dict)  # node -> seconds for which the daemon lets it wait
    forwarding_error: str | None = None


@dataclass(frozen=True)
class Row:
    """One line of ``status``. ``kernel`` is "missing" without a table; ``slots`` are those of the first family."""

    node: str
    haproxy: str
    kernel: str
    weight: int | None
    slots: int
    sessions: int
    clients: int | None  # None: the daemon does not answer, or adoption is off
    since: int | None  # seconds since HAProxy changed its mind
    reason: str


@dataclass(frozen=True)
class Clients:
    """A node's clients: how many are known there, and the public keys of those with a session, the latest first.

    Without ``complete``, somebody may have come to it since it was last asked.
    """

    known: int
    alive: tuple[str, ...]
    complete: bool


@dataclass(frozen=True)
class Progress:
    """How far a node is on its way to a goal.

    ``left``: how many clients (or sessions, when the daemon does not know the clients) an emptying node still has, None
    before it is drained; ``clients``: public keys of some of them.
    """

    node: str
    goal: str
    reached: bool
    haproxy: str
    kernel: str
    left: int | None
    clients: tuple[str, ...]
    advice: str


def take(config: Config) -> Snapshot:
    elements = {family: kernel.read(family, config.table) for family in config.families}
    present = {family: found for family, found in elements.items() if found is not None}
    damped = (_ask_daemon(config, "/v1/damped") or {}).get("damped", {})
    forwarding_error = forwarding_faults(config)
    try:
        reports = haproxy.servers(config.haproxy_socket, config.backend)
        return Snapshot(reports, present, damped=damped, forwarding_error=forwarding_error)
    except HAProxyError as error:
        return Snapshot({}, present, str(error), forwarding_error=forwarding_error)


def forwarding_faults(config: Config) -> str | None:
    """Say which of the kernel's settings keep packets from being forwarded."""
    return "; ".join(sysctl.faults(config.sysctls, sysctl.values(config.sysctls))) or None


def standings(snapshot: Snapshot, node: Node) -> dict[str, Standing]:
    """What the kernel holds for the node, by family."""
    return {f: standing(elements, node, f) for f, elements in snapshot.elements.items() if f in node.addresses}


def takes_clients(snapshot: Snapshot, node: Node) -> bool:
    return Standing.UP in standings(snapshot, node).values()


def is_held(snapshot: Snapshot, node: Node) -> bool:
    """Say whether the kernel uses a node whose checks fail: that is fail static, see ``decide``."""
    report = snapshot.reports.get(node.name)
    if report is None or not report.status.startswith("DOWN"):
        return False
    return any(read(report, found) is not found for found in standings(snapshot, node).values())


def is_damped(snapshot: Snapshot, node: Node) -> bool:
    """Say whether HAProxy would give the node clients, but it went down too often: see ``damping``."""
    report = snapshot.reports.get(node.name)
    return node.name in snapshot.damped and report is not None and read(report, Standing.DOWN) is Standing.UP


def rows(
    config: Config, snapshot: Snapshot, sessions: Mapping[int, int], clients: Mapping[str, int] | None
) -> Iterator[Row]:
    for node in config.nodes.values():
        report = snapshot.reports.get(node.name)
        yield Row(
            node=node.name,
            haproxy=report.status if report else "unknown",
            kernel=_kernel(snapshot, node),
            weight=report.weight if report else None,
            slots=next((slots(elements, node) for elements in snapshot.elements.values()), 0),
            sessions=sessions.get(node.mark, 0),
            clients=None if clients is None else clients.get(node.name, 0),
            since=report.last_change if report else None,
            reason=_reason(snapshot, node, report),
        )


def count_sessions(config: Config, snapshot: Snapshot) -> dict[int, int]:
    """Return mark -> sessions, over all families."""
    counts: dict[int, int] = {}
    for family in snapshot.elements:
        for mark, count in census(family, config.table, "sessions").items():
            counts[mark] = counts.get(mark, 0) + count
    return counts


def count_clients(config: Config) -> dict[str, int] | None:
    """Return node -> clients, as the daemon knows it from the agents."""
    answer = _ask_daemon(config, "/v1/clients")
    return answer["clients"] if answer and "clients" in answer else None


def clients_of(config: Config, node: Node, now: float) -> Clients | None:
    """Return who is at the node; None when the daemon does not say. ``now`` is Unix time."""
    answer = _ask_daemon(config, f"/v1/clients?node={quote(node.name)}")
    if not answer or "handshakes" not in answer:
        return None
    ages = {key: now - handshake for key, handshake in answer["handshakes"].items()}
    alive = sorted((key for key, age in ages.items() if age < SESSION_LIFE), key=lambda key: ages[key])
    return Clients(len(ages), tuple(alive), answer["complete"])


def balancer(config: Config, snapshot: Snapshot) -> dict[str, Any]:
    """Return how this balancer itself is: the version of the document, then daemon, HAProxy and tables."""
    daemon = _ask_daemon(config, "/healthz") or {"problem": "the daemon does not answer"}
    try:
        haproxy_version = haproxy.version(config.haproxy_socket)
    except HAProxyError:
        haproxy_version = None
    return {
        "version": 1,
        "daemon": {"version": daemon.get("version"), "problem": daemon.get("problem"), "active": daemon.get("active")},
        "haproxy": {"version": haproxy_version, "problem": snapshot.haproxy_error},
        "tables": {family: family in snapshot.elements for family in config.families},
    }


def _ask_daemon(config: Config, path: str) -> dict[str, Any] | None:
    """Return what the daemon answers at the first of its addresses where it does."""
    return next(answers(config.listen, path), None)


def ask_agent(node: Node) -> str | None:
    """Return what the node's agent thinks of it. The mesh leads there, also when the node serves no clients."""
    if node.agent is None:
        return None
    health = next(answers([node.agent], "/healthz", MAX_ANSWER), None)
    if health is None:
        return "no answer through the mesh"
    reasons = health.get("reasons")
    text = "; ".join(map(str, reasons)) if isinstance(reasons, list) and reasons else str(health.get("state"))
    return printable(text)


def explain(
    config: Config,
    snapshot: Snapshot,
    node: Node,
    now: float,
    clients: Clients | None = None,
    agent: str | None = None,
) -> Iterator[str]:
    """Yield lines: HAProxy's view, the kernel's, the probe's, the agent's words, the clients, what to do.

    ``now`` is Unix time.
    """
    report = snapshot.reports.get(node.name)
    yield f"{node.name}: {_kernel(snapshot, node)}"
    if report:
        yield f"  HAProxy   {report.status}, weight {report.weight}, for {report.last_change} s"
        yield f"  check     {report.check_status or 'off'}: {report.check or '-'}"
    else:
        yield f"  HAProxy   {snapshot.haproxy_error or f'has no server {node.name} in backend {config.backend}'}"
    for family, address in node.addresses.items():
        elements = snapshot.elements.get(family)
        if elements is None:
            yield f"  kernel    {family} {address}: table {config.table} is missing"
            continue
        found = standing(elements, node, family)
        yield (
            f"  kernel    {family} {address}: keeps sessions {_yes(found is not Standing.DOWN)}, "
            f"gets clients {_yes(found is Standing.UP)}, may initiate {_yes(address in elements['initiators'])}, "
            f"slots {slots(elements, node)}"
        )
    if node.probe_interface and node.probe_key:
        yield f"  probe     {_probe(node.probe_interface, node.probe_key, now)}"
    if agent:
        yield f"  agent     {agent}"
    if clients:
        yield f"  clients   {clients.known}, {len(clients.alive)} of them with a session"
    yield f"  so        {advice(config, snapshot, node, report)}"


def reached(config: Config, snapshot: Snapshot, node: Node, goal: str) -> bool:
    """Say whether the node is where the ``goal`` wants it.

    "up": HAProxy and all tables agree that it takes clients. "drained": no table gives it clients. "settled": all
    tables agree with HAProxy, and the node is not down, or is so because an operator put it into maintenance or drains
    it (it was restarted meanwhile); one that went down too often has settled as draining. "back": settled, and the node
    does not drain itself; a weight of 0 or an order in HAProxy is another matter.
    """
    found = standings(snapshot, node)
    if not found or len(snapshot.elements) < len(config.families):
        return False
    if goal == "drained":
        return Standing.UP not in found.values()
    report = snapshot.reports.get(node.name)
    if report is None:
        return False
    wanted = read(report, Standing.DOWN)
    if is_damped(snapshot, node):
        wanted = Standing.DRAINING
    if goal == "up":
        return wanted is Standing.UP and set(found.values()) == {wanted}
    if goal == "back" and (report.drained or report.status.startswith("NOLB")):
        return False
    by_operator = report.status.startswith(BY_OPERATOR) or report.drained
    return (wanted in (Standing.UP, Standing.DRAINING) or by_operator) and set(found.values()) == {wanted}


def progress(config: Config, node: Node, goal: str) -> Progress:
    """Say how far the node is. It is empty when it is drained and nobody has a session there.

    Who is there is the daemon's to say. Where it does not, the sessions in the tables have to end, all of them.
    """
    snapshot = take(config)
    there = reached(config, snapshot, node, "drained" if goal == EMPTY else goal)
    left: int | None = None
    names: tuple[str, ...] = ()
    if goal == EMPTY and there:
        clients = clients_of(config, node, time.time())
        if clients:
            left, names = len(clients.alive), clients.alive[:NAMED]
            there = clients.complete and not left
        else:
            left = count_sessions(config, snapshot).get(node.mark, 0)
            there = not left
    report = snapshot.reports.get(node.name)
    return Progress(
        node=node.name,
        goal=goal,
        reached=there,
        haproxy=report.status if report else "unknown",
        kernel=_kernel(snapshot, node),
        left=left,
        clients=names,
        advice=advice(config, snapshot, node, report),
    )


def wait(config: Config, node: Node, goal: str, timeout: float) -> Progress:
    """Poll until the goal is reached, or ``timeout`` seconds were not enough."""
    deadline = time.monotonic() + timeout
    while True:
        last = progress(config, node, goal)
        if last.reached or time.monotonic() >= deadline:
            return last
        time.sleep(WAIT_INTERVAL)


def _kernel(snapshot: Snapshot, node: Node) -> str:
    there = standings(snapshot, node)
    found = {family: there[family].value if family in there else "missing" for family in node.addresses}
    if len(set(found.values())) == 1:
        suffix = " (held)" if is_held(snapshot, node) else " (damped)" if is_damped(snapshot, node) else ""
        return next(iter(found.values())) + suffix
    return ", ".join(f"{family} {value}" for family, value in found.items())


def _reason(snapshot: Snapshot, node: Node, report: Report | None) -> str:
    if report is None:
        return snapshot.haproxy_error or "HAProxy has no such server"
    if is_held(snapshot, node):
        return f"held, all nodes failed: {report.check}"
    if is_damped(snapshot, node):
        return f"went down too often, no clients for {snapshot.damped[node.name]:.0f} s: {report.check}"
    return report.check


def _probe(interface: str, key: str, now: float) -> str:
    try:
        age = probe.handshake_age(interface, key, now)
    except CommandError as error:
        return f"{interface}: {error}"
    return f"{interface}: " + (
        "no handshake since it was renewed" if age is None else f"latest handshake {age:.0f} s ago"
    )


def advice(config: Config, snapshot: Snapshot, node: Node, report: Report | None) -> str:
    """One sentence: what decides, and where to act."""
    if len(snapshot.elements) < len(config.families):
        return "a table is missing and every packet is dropped: is wirefleet-steer running?"
    if snapshot.forwarding_error:
        return f"packets are not forwarded here ({snapshot.forwarding_error}): restart wirefleet-steer, which sets it"
    if report is None:
        return "the kernel keeps the last state until HAProxy answers for this node"
    found = set(standings(snapshot, node).values())
    meant = read(report, Standing.DOWN)
    if is_held(snapshot, node):
        return "all nodes' checks failed at once, so the last state is held: look at this balancer and its network"
    if report.status.startswith(BY_OPERATOR):
        return f"an operator put it into maintenance: 'set server {config.backend}/{node.name} state ready' ends it"
    if report.status.startswith("NOLB") or report.drained:
        return "the node drains itself (its agent answers 404): 'wirefleet-node undrain' there ends it"
    if report.status.startswith("DRAIN"):
        return f"an operator drains it here: 'set server {config.backend}/{node.name} state ready' ends it"
    if meant is Standing.DOWN and probe.unanswered(report):
        return "no answer through the probe tunnel: is the node, its WireGuard and the network to it alive?"
    if meant is Standing.DOWN:
        return "the tunnel to it works, its agent does not report health: 'wirefleet-node status' there says why"
    if meant is Standing.DRAINING:
        return f"its weight is 0: 'set weight {config.backend}/{node.name} 100%' gives it clients"
    if meant is None:
        return "HAProxy has not seen a check pass since it started or the node was set ready: wait for the next one"
    if is_damped(snapshot, node):
        return (
            f"it went down too often and gets no clients for {snapshot.damped[node.name]:.0f} s; to end that, "
            f"'set server {config.backend}/{node.name} state maint' and then 'state ready'"
        )
    if found != {meant}:
        return "HAProxy and the kernel disagree: is wirefleet-steer running?"
    return "it takes clients, nothing to do"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
