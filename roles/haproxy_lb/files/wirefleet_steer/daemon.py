# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The daemon's loop: ask HAProxy, decide, make the kernel follow; put back what others take away."""

from __future__ import annotations

import os
import select
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import NoReturn

from wirefleet import __version__, prometheus
from wirefleet.cli import answers
from wirefleet.command import CommandError
from wirefleet.httpd import Request, Response, Server
from wirefleet.log import event, recent
from wirefleet.nft import RulesetWatch, apply
from wirefleet.sdnotify import notify

from . import haproxy, history, kernel, metrics, page, probe, status
from .adopter import Adopter
from .census import census
from .config import Config, Status
from .damping import Damper
from .decide import NodeState, Standing, State, changes, collapsed_at, decide
from .elements import EMPTY, Elements, script, standing, wanted
from .haproxy import HAProxyError, Report
from .rebalancer import Rebalancer
from .translation import Translator
from .vip import is_active

INSPECTION = 0.2  # seconds between two looks at the ruleset, however often it changes
STALE_AFTER = 5.0  # seconds without a round, after which the loop counts as dead

HANDOVER_AFTER = 5.0  # seconds of fail static at the active balancer; the others have to find out before it
TEACHING_TIME = 10.0  # seconds after the table was found empty: all agents have spoken by then
MOVED_AT_ONCE = 32  # clients in one round: each that the table knows otherwise may take two runs of nft

# What a round consists of, besides the probes.
HAPROXY, TABLE, FORWARDING = "haproxy", "table", "forwarding"
ADOPTION, OWNERS, REBALANCE = "adoption", "owners", "rebalance"
VITAL = (HAPROXY, TABLE, FORWARDING, OWNERS)  # what steering can not do without


def prepare(config: Config) -> None:
    """Put the table in place."""
    if kernel.load_table(config):
        event("table_replaced", table=config.table, reason="a set or map is defined otherwise", sessions="lost")


def _others(shown: Status) -> list[page.Balancer]:
    """Ask the other balancers, all at once: one that is dead takes its time."""

    def ask(name: str) -> page.Balancer:
        answer = next(answers([shown.balancers[name]], "/healthz"), None)
        if answer is None:
            return page.Balancer(name, page.UNREACHABLE)
        return page.Balancer(name, page.ACTIVE if answer.get("active") else page.STANDBY, answer.get("problem"))

    if not shown.balancers:
        return []
    with ThreadPoolExecutor(len(shown.balancers)) as pool:
        return list(pool.map(ask, shown.balancers))


def _memory() -> Path | None:
    """Return the file for what has to outlive us, where systemd has made a directory for it."""
    directory = os.environ.get("RUNTIME_DIRECTORY")
    return Path(directory, "clients.json") if directory else None


class Steer:
    """What the daemon knows.

    ``elements`` is what the table has to hold, by family: what it held at first, then what we wrote last. ``totals``
    counts events (restores, holds), ``transitions`` the changes of each node's standing, by the new one.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reports: Mapping[str, Report] = {}
        self.state = State({})
        self.elements: dict[str, Elements] = {}
        self.totals: Counter[str] = Counter()
        self.transitions: Counter[tuple[str, Standing]] = Counter()
        self.troubles: dict[str, str] = {}  # what failed in the last attempt -> how
        self.round_at = float("-inf")
        self.active = is_active(config.vips)
        self._stale = True  # the table may hold something else than self.elements
        # What self.elements were made for: the state, and the nodes whose clock is wrong.
        self._written: tuple[State, frozenset[str]] | None = None
        self._probes_due = float("-inf")
        self._probe_pauses = cycle(probe.PAUSES)
        self._census = metrics.CensusCache(metrics.filled_maps(config))
        self._translator = Translator(config)
        self._damper = Damper(config.damping) if config.damping else None
        self._adopter = Adopter(config, config.adoption, _memory()) if config.adoption else None
        pace = config.adoption.rebalance if config.adoption else None
        self._rebalancer = Rebalancer(config, self._adopter, self._translator, pace) if self._adopter and pace else None
        self._history = history.History()
        self._teach_until = float("-inf")
        self._taught: set[tuple[str, str]] = set()  # public key and endpoint of clients that the table was told of
        self._left: set[str] = set()  # nodes that are drained, and whose clients over TCP were not sent away yet

    def start(self) -> None:
        """Take over from the kernel: a daemon that starts again changes nothing until HAProxy says so."""
        self._look()
        self.state = State({name: NodeState(self._kernel_standing(name)) for name in self.config.nodes})
        if not any(census(family, self.config.table, "affinity") for family in self.config.families):
            self._begin_teaching()

    def round(self) -> None:
        """One turn of the loop."""
        now = time.monotonic()
        if self.config.vips:
            self._attempt("vips", partial(self._look_for_vips, now))
        self._attempt(HAPROXY, self._follow_haproxy)
        self._attempt(TABLE, self._keep_table)
        self._attempt(FORWARDING, self._look_for_sysctls)
        if self.config.snat:
            self._attempt("translations", self._translator.follow)
        self._attempt("connections", self._end_connections)
        if self._adopter and self.reports:
            self._attempt("clients", partial(self._adopter.round, self.state, self.active))
            self._history.follow(self._adopter.counts, now)
            if self._adopter.owners:
                self._attempt(OWNERS, partial(self._adopter.follow_owners, self._adopter.owners))
            if now < self._teach_until:
                self._attempt(ADOPTION, partial(self._teach, self._adopter))
            self._attempt("affinity", partial(self._follow_moved, self._adopter))
            if self._rebalancer and self.active:
                self._attempt(REBALANCE, partial(self._rebalancer.round, self.state))
            elif self._rebalancer:
                self._rebalancer.pause()
        if now >= self._probes_due:
            self._probes_due = now + next(self._probe_pauses)
            for name in self.config.nodes:
                self._attempt(f"probe {name}", partial(self._renew_probe, name))
        self.round_at = now
        if self.config.in_order and self.problem() is None and self._sees_nodes(now):
            self._attempt("sign", Path(self.config.in_order).touch)

    def _sees_nodes(self, now: float) -> bool:
        """Say whether no other balancer could be better off: one may see nodes when this one sees none.

        Where nobody sees any, the active one stays: it waits a while, and the others say so at once. One that has
        nobody to steer to, as after a start, is never better off than one that holds what it saw last.
        """
        if all(self.state.standing(name) is Standing.DOWN for name in self.state.nodes):
            return False
        since = collapsed_at(self.state)
        return since is None or (self.active and now - since < HANDOVER_AFTER)

    def inspect(self) -> None:
        """Somebody (we, perhaps) has changed the ruleset: see whether our table is still what we made it."""
        self._stale = True
        self._attempt(TABLE, self._keep_table)

    def run(self) -> NoReturn:
        """Never return. A signal just ends the process: the kernel goes on with what it has."""
        name = f"wirefleet-steer/{__version__}"
        servers = [Server(self.config.listen, self.answer, name)]
        if self.config.status:
            servers.append(Server(self.config.status.listen, self.answer_people, name))
        watch = RulesetWatch()  # before the first look: what changes during it wakes us again
        self.start()
        self.round()
        if self._adopter:
            self._adopter.start()
        for server in servers:
            server.start()
        notify("READY=1")
        round_due = inspection_due = time.monotonic()
        changed = False
        while True:
            due = min(round_due, inspection_due) if changed else round_due
            readable, _writable, _failed = select.select(
                [] if changed else [watch], [], [], max(due - time.monotonic(), 0)
            )
            changed = changed or bool(readable)
            now = time.monotonic()
            if changed and now >= inspection_due:
                inspection_due = now + INSPECTION
                changed = False
                watch.drain()
                self.inspect()
            if now >= round_due:
                round_due = now + self.config.poll_interval
                self.round()
                notify("WATCHDOG=1")

    def problem(self) -> str | None:
        """Say why the kernel might not follow HAProxy just now, or not forward."""
        age = time.monotonic() - self.round_at
        if age > STALE_AFTER:
            return f"the loop's last round was {age:.0f} s ago"
        troubles = dict(self.troubles)
        return "; ".join(f"{what}: {troubles[what]}" for what in VITAL if what in troubles) or None

    def answer(self, request: Request) -> Response | None:
        """Answer whoever asks through the mesh."""
        if request.path == "/healthz":
            problem = self.problem()
            held = sorted(self.state.held)
            return Response.from_json(
                503 if problem else 200,
                {"version": __version__, "problem": problem, "held": held, "active": self.active},
            )
        if request.path == "/v1/damped" and self._damper:
            return Response.from_json(200, {"version": 1, "damped": self._damper.remaining(time.monotonic())})
        if request.path == "/v1/clients" and self._adopter:
            return self._answer_clients(self._adopter, request.query.get("node"))
        return self.answer_people(request)

    def answer_people(self, request: Request) -> Response | None:
        """Answer whoever asks elsewhere."""
        if request.path == "/metrics":
            return Response(200, prometheus.render(self._metrics()), prometheus.CONTENT_TYPE)
        if request.path == "/" and self.config.status:
            return Response(200, page.render(self._view(self.config.status, request.server)), page.CONTENT_TYPE)
        return None

    def _view(self, shown: Status, address: str) -> page.View:
        snapshot = status.Snapshot(
            self.reports,
            self.elements,
            self.troubles.get(HAPROXY),
            self._damper.remaining(time.monotonic()) if self._damper else {},
            self.troubles.get(FORWARDING),
        )
        sessions: Counter[int] = Counter()
        for family in self.config.families:
            sessions.update(self._census.get(family, self.config.table)["sessions"])
        counts = self._adopter.counts if self._adopter else None
        own = page.Balancer(shown.host, page.ACTIVE if self.active else page.STANDBY, self.problem())
        return page.View(
            cluster=self.config.cluster,
            host=shown.host,
            at=time.time(),
            nodes=list(status.rows(self.config, snapshot, sessions, counts)),
            advice={
                name: status.advice(self.config, snapshot, node, self.reports.get(name))
                for name, node in self.config.nodes.items()
            },
            balancers=sorted([own, *_others(shown)], key=lambda balancer: balancer.name),
            history={name: self._history.of(name) for name in self.config.nodes},
            interval=history.INTERVAL,
            events=list(recent),
            stats_url=f"http://{f'[{address}]' if ':' in address else address}:{shown.stats_port}/",
        )

    def _answer_clients(self, adopter: Adopter, node: str | None) -> Response | None:
        """How many clients each node has, or who those of one node are."""
        if node is None:
            return Response.from_json(200, {"version": 1, "clients": dict(adopter.counts)})
        if node not in self.config.nodes:
            return None
        return Response.from_json(200, {"version": 1, "node": node, **asdict(adopter.tenants(node))})

    def _metrics(self) -> list[prometheus.Metric]:
        families = self.config.families
        page = metrics.page(
            self.config,
            self.state,
            self.elements,
            reports=self.reports,
            haproxy_up=HAPROXY not in self.troubles,
            failing={what: what in self.troubles for what in VITAL},
            active=self.active,
            totals=self.totals,
            transitions=self.transitions,
            gauges={family: kernel.gauges(family, self.config.table) for family in families},
            census={family: self._census.get(family, self.config.table) for family in families},
        )
        if self._adopter:
            page += metrics.adoption(self.config, self._adopter)
        if self._rebalancer:
            page += metrics.rebalancing(self.config, self._rebalancer.rebalance)
        return page

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        """A part that fails must not stop the others: log it once, try again in the next round.

        A ValueError or LookupError is an answer of a program that we do not understand, or a wrong setting.
        """
        try:
            action()
        except (CommandError, HAProxyError, OSError, ValueError, LookupError) as error:
            if what not in self.troubles:
                event("failed", what=what, error=error)
            self.troubles[what] = str(error)
        else:
            if self.troubles.pop(what, None) is not None:
                event("recovered", what=what)

    def _look_for_vips(self, now: float) -> None:
        """Where balancers share addresses, notice when they come and go.

        What this one has not learned from the others' copies, if anything, the agents know. The same holds for one that
        was frozen and may be active still.
        """
        was, self.active = self.active, is_active(self.config.vips)
        if self.active is not was:
            event("active" if self.active else "standby")
        if (self.active and not was) or STALE_AFTER < now - self.round_at < float("inf"):
            self._begin_teaching()

    def _follow_haproxy(self) -> None:
        self.reports = haproxy.servers(self.config.haproxy_socket, self.config.backend)
        now = time.monotonic()
        state = decide(self.state, self.reports, now, self.config.collapse_window, self.config.return_window)
        waiting: Mapping[str, float] = {}
        if self._damper:
            state = self._damper.damp(state, now)
            waiting = self._damper.remaining(now)
        for name, old, new in changes(self.state, state):
            (self._left.add if new is Standing.DRAINING and name not in waiting else self._left.discard)(name)
            report = self.reports.get(name)
            self.transitions[name, new] += 1
            if new is Standing.DRAINING and name in waiting:
                reason = f"it went down too often: no clients for {waiting[name]:.0f} s"
            else:
                reason = report.check if report else ""
            event(
                "node",
                node=name,
                state=new.value,
                was=old.value,
                haproxy=report and report.status,
                reason=reason or None,
            )
        if state.held and not self.state.held:
            self.totals["holds"] += 1
            event("fail_static", nodes=",".join(sorted(state.held)), reason="the checks of all nodes fail at once")
        elif self.state.held and not state.held:
            event("fail_static_over")
        self.state = state

    def _end_connections(self) -> None:
        """Over TCP nobody can fetch a client: those of a drained node lose their connection, and come to another."""
        if any(self.state.standing(name) is Standing.UP for name in self.state.nodes):
            for name in sorted(self._left):
                haproxy.end_connections(self.config.haproxy_socket, self.config.backend, name, self.reports[name].id)
                self._left.discard(name)

    def _kernel_standing(self, name: str) -> Standing:
        node = self.config.nodes[name]
        found = [
            standing(self.elements[family], node, family) for family in self.config.families if family in node.addresses
        ]
        return next((value for value in found if value is not Standing.DOWN), Standing.DOWN)

    def _keep_table(self) -> None:
        """Make the kernel follow the state. Until HAProxy was heard, there is only what the table held to keep."""
        if self._stale:
            self._look()
        muted = self._adopter.wrong if self._adopter else frozenset()
        if self.reports and (self.state, muted) != self._written:
            target = {family: wanted(self.config, family, self.state, muted) for family in self.config.families}
            self._apply(self.elements, target)
            self._written = self.state, muted

    def _look(self) -> None:
        """Read the table, load it when it is not there, and put back what it held."""
        found = {family: kernel.read(family, self.config.table) for family in self.config.families}
        lost = [family for family in found if found[family] is None]
        if lost:
            known = self._translator.known
            kernel.load_table(self.config, {family: known[family] for family in lost if family in known})
            self.totals["restores"] += 1
            event("table_restored", table=self.config.table, families=",".join(lost), sessions="lost")
            self._begin_teaching()
        present = {family: elements or EMPTY for family, elements in found.items()}
        self._apply(present, {**present, **self.elements})

    def _look_for_sysctls(self) -> None:
        """Somebody may turn forwarding off, which no check of HAProxy's would show: its packets are this host's own.

        To turn it on again is for systemd, which does so before it starts us: we may not write there.
        """
        if faults := status.forwarding_faults(self.config):
            raise ValueError(faults)

    def _begin_teaching(self) -> None:
        self._teach_until = time.monotonic() + TEACHING_TIME
        self._taught.clear()
        self._translator.hurry()

    def _teach(self, adopter: Adopter) -> None:
        """Tell an empty table whose clients are whose, so that running sessions go on."""
        clients = [
            (key, name, session)
            for key, name, session in adopter.clients()
            if session.steered
            and (key, session.endpoint) not in self._taught
            and self.state.standing(name) is not Standing.DOWN
            and self._translator.client(session.family, session.endpoint)
        ]
        for family, owners in self._translator.affinities((name, session) for _key, name, session in clients):
            # What the table knows otherwise is better: a handshake has taught it meanwhile.
            others = kernel.teach(family, self.config.table, owners)
            event("clients_taught", family=family, clients=len(owners) - len(others))
        self._taught.update((key, session.endpoint) for key, _name, session in clients)

    def _follow_moved(self, adopter: Adopter) -> None:
        """Tell the table whose clients those are that have moved, also where it takes them for another node's."""
        keys = list(islice(adopter.moved, MOVED_AT_ONCE))
        for key in keys:
            del adopter.moved[key]
        moved = [owner for key in keys if (owner := adopter.roster.owner(key))]
        for family, owners in self._translator.affinities(moved):
            if others := kernel.teach(family, self.config.table, owners):
                kernel.assign(family, self.config.table, others)
                event("affinity_corrected", family=family, clients=len(others))

    def _apply(self, present: Mapping[str, Elements], target: dict[str, Elements]) -> None:
        """Write the differences in one transaction. One that fails is no new target: the next look restores the old."""
        commands = "".join(script(f, self.config.table, present[f], target[f]) for f in target)
        self._stale = True
        if commands:
            apply(commands)
        self.elements = target
        self._stale = False

    def _renew_probe(self, name: str) -> None:
        node, report = self.config.nodes[name], self.reports.get(name)
        if node.probe_interface and node.probe_key and report and probe.unanswered(report):
            age = probe.handshake_age(node.probe_interface, node.probe_key, time.time())
            if age is None or age > probe.ALIVE:
                probe.renew(node.probe_interface, node.probe_key)
