# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The agent's loop and its pages: look, repair, judge; answer with the last verdict."""

from __future__ import annotations

import re
import select
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import reduce
from typing import NoReturn

from wirefleet import __version__, nft, prometheus, sysctl
from wirefleet.command import CommandError
from wirefleet.config import ConfigError
from wirefleet.httpd import Request, Response, Server
from wirefleet.log import event
from wirefleet.nft import RulesetWatch
from wirefleet.sdnotify import notify

from . import drain, metrics, observe, usage
from .adopt import Adoptions, Outcome, candidate
from .audit import Audit
from .checks import Checks
from .expiry import Expiry
from .health import DRAINED, FAILED, OK, Observation, Verdict, judge
from .metrics import PeerCache
from .owned import Owned, claim
from .repair import Repairs
from .requests import RequestError, requested
from .sessions import Sessions
from .settings import Config
from .watched import Watched

INTERVAL = 1.0  # seconds between two looks
MIN_INTERVAL = 0.2  # seconds, however often the ruleset changes
FIRST_CHECKS = 10.0  # seconds that the first look waits for the operator's checks
STALE_AFTER = 5.0  # seconds without a look, after which the last verdict counts no more

API_VERSION = 1  # of what follows
PEERS, ADOPT, RELEASE = "/v1/peers", "/v1/adopt", "/v1/release"  # for balancers, through the mesh
SEQUENCE = re.compile(r"[0-9]{1,18}")

STATUS = {OK: 200, DRAINED: 404, FAILED: 503}  # 404: HAProxy's `http-check disable-on-404` keeps the sessions


@dataclass(frozen=True)
class Evaluation:
    """``at`` is on the monotonic clock."""

    at: float
    seen: Observation
    verdict: Verdict

    def verdict_at(self, now: float) -> Verdict:
        """A loop that hangs must not go on saying what was true once."""
        age = now - self.at
        if age <= STALE_AFTER:
            return self.verdict
        return Verdict(FAILED, (f"the agent's last look was {age:.0f} s ago",), self.verdict.drain)


class Agent:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.checks = Checks(config.checks)
        self.repairs = Repairs()
        self.last = Evaluation(time.monotonic(), Observation("missing", False, {}), Verdict(FAILED, ("starting",)))
        interfaces = [config.interface, *([config.old.interface] if config.old else [])]
        self._peers = PeerCache(interfaces)
        self._owned = Owned(config.interface, config.clients) if config.clients else None
        self._audit = Audit(config.audit.interval) if config.audit else None
        self._sessions = Sessions(
            interfaces,
            config.probes,
            follow=self._owned.follow if self._owned else None,
            watch=self._audit.see if self._audit else None,
        )
        self._expiries = [Expiry(interface, config.expiry) for interface in interfaces] if config.expiry else []
        self._access = Watched(config.access, nft.load) if config.access else None
        families = {route.family for route in config.routes if route.via}
        self._adoptions = [Adoptions(config.interface, config.probes, families, self._owned)]
        if config.old:
            self._adoptions.append(
                Adoptions(config.old.interface, config.probes, families, mark=config.old.answer_mark)
            )
        self._adopting = threading.Lock()
        self._adopted = {"adopting": 0, "refused": 0}  # clients

    def look(self) -> Verdict:
        """See and judge, without changing anything."""
        return self._evaluate(*observe.missing(self.config))

    def tick(self) -> Verdict:
        """Put back what is missing, then see and judge what is there now."""
        before = self.last.verdict
        lost, errors = self.repairs.restore(self.config)
        verdict = self._evaluate(lost, errors + self._follow_files() + self._follow_clients())
        if verdict != before:
            event("state", node=self.config.node, state=verdict.state, reason="; ".join(verdict.reasons) or None)
        return verdict

    def run(self) -> NoReturn:
        """Look once a second, and at once when somebody changes the ruleset. Never returns."""
        watch = RulesetWatch()
        self.checks.start()
        self.repairs.restore(self.config)  # not later than WireGuard needs it, however slow the checks
        self.repairs.totals.update(dict.fromkeys(self.repairs.totals, 0))  # nobody had taken away what was never there
        self.checks.wait_for_first(FIRST_CHECKS)
        self.tick()
        # Not earlier: who is refused knows that only the agent is away, and who gets no answer takes the node for dead.
        Server(self.config.listen, self.answer, f"wirefleet-node/{__version__}", posts=[ADOPT, RELEASE]).start()
        notify("READY=1")
        while True:
            started = time.monotonic()
            readable, _writable, _failed = select.select([watch], [], [], INTERVAL)
            if readable:
                time.sleep(max(MIN_INTERVAL - (time.monotonic() - started), 0))
                watch.drain()  # before the look: what changes during it wakes us again
            verdict = self.tick()
            notify(f"WATCHDOG=1\nSTATUS={verdict.state}")

    def answer(self, request: Request) -> Response | None:
        if request.path == "/healthz":
            verdict = self.last.verdict_at(time.monotonic())
            return Response.from_json(STATUS[verdict.state], health_document(self.config, verdict))
        if request.path == "/metrics":
            return Response(200, self._metrics(), prometheus.CONTENT_TYPE)
        if request.path in (PEERS, ADOPT, RELEASE):
            return self._answer_balancer(request)
        return None

    def _answer_balancer(self, request: Request) -> Response:
        """Only the mesh leads from such an address to here, so WireGuard has proved who asks."""
        if request.client not in self.config.adopters:
            return Response.from_json(403, {"error": "for balancers, through the mesh"})
        answers = {PEERS: self._list_peers, ADOPT: self._adopt, RELEASE: self._release}
        try:
            document = answers[request.path](request)
        except RequestError as error:
            return Response.from_json(400, {"error": str(error)})
        except CommandError as error:
            return Response.from_json(503, {"error": str(error)})
        if document is None:
            return Response.from_json(409, {"error": "this node takes no clients"})
        return Response.from_json(200, {"version": API_VERSION, "time": time.time(), **document})

    def _list_peers(self, request: Request) -> dict[str, object]:
        seq = request.query.get("since", "0")
        if not SEQUENCE.fullmatch(seq):
            raise RequestError("since: not a number")
        return self._sessions.changes(request.query.get("epoch"), int(seq))

    def _adopt(self, request: Request) -> dict[str, object] | None:
        candidates = requested(request.body, candidate)
        if self.last.verdict_at(time.monotonic()).state != OK:
            return None
        # Nobody knows which key a client knows the service by: it answers to that one alone.
        with self._adopting:
            outcome = reduce(Outcome.or_else, [each.adopt(candidates, request.client) for each in self._adoptions])
            self._adopted["adopting"] += len(outcome.begun)
            self._adopted["refused"] += len(outcome.refused)
        event("adopting", clients=len(outcome.adopting), refused=len(outcome.refused), balancer=request.client)
        return {"adopting": outcome.adopting, "refused": outcome.refused}

    def _release(self, request: Request) -> dict[str, object]:
        claims = requested(request.body, claim)
        released = self._owned.release(claims) if self._owned else ()
        event("released", clients=len(released), kept=len(claims) - len(released), balancer=request.client)
        return {"released": released}

    def _follow_files(self) -> list[str]:
        """Enforce what Ansible says of clients while the agent runs; return what went wrong."""
        errors = []
        follows: list[Callable[[], object]] = [expiry.enforce for expiry in self._expiries]
        for follow in [self._access.get, *follows] if self._access else follows:
            try:
                follow()
            except (CommandError, ConfigError, OSError) as error:
                errors.append(str(error))
        return errors

    def _follow_clients(self) -> list[str]:
        """Keep the clients' routes and the audit, whether a balancer asks or not; return what went wrong."""
        try:
            if self._owned or self._audit:
                self._sessions.keep_up()
        except CommandError as error:
            return [str(error)]
        return []

    def _metrics(self) -> str:
        try:
            peers = self._peers.get()
        except CommandError:
            peers = None
        last, totals = self.last, self.repairs.totals
        verdict = last.verdict_at(time.monotonic())
        page = metrics.page(self.config, last.seen, verdict, totals, peers, self._adopted, time.time())
        page += metrics.conntrack(self.config)
        if self.config.usage:
            page += metrics.ledger(self.config, usage.load(self.config.usage))
        if self._expiries:
            page += metrics.expiry(self.config, self._expiries[0].known, time.time())
        return prometheus.render(page)

    def _evaluate(self, lost: list[observe.Fixture], errors: list[str]) -> Verdict:
        seen = Observation(
            link=observe.link(self.config.interface),
            listening=observe.listening(self.config.port),
            sysctls=sysctl.values(self.config.sysctls),
            lost=tuple(map(str, lost)),
            errors=tuple(errors),
            checks=dict(self.checks.results),
            drain=drain.read(self.config.state_dir),
        )
        verdict = judge(self.config, seen)
        self.last = Evaluation(time.monotonic(), seen, verdict)
        return verdict


def health_document(config: Config, verdict: Verdict) -> dict[str, object]:
    return {
        "version": __version__,
        "node": config.node,
        "state": verdict.state,
        "reasons": list(verdict.reasons),
        "drain": asdict(verdict.drain) if verdict.drain else None,
    }
