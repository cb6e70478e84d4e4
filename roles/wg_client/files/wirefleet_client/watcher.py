# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The watcher's loop: look, decide, act."""

from __future__ import annotations

import pwd
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

from wirefleet.command import CommandError
from wirefleet.iproute import Rule, ensure_rules, remove_rule
from wirefleet.log import event
from wirefleet.sdnotify import notify

from . import probe, server
from .connections import established
from .decide import Action, Path, Seen, Watch
from .server import Server
from .settings import Config
from .tunnel import Peer, Tunnel

INTERVAL = 0.2  # seconds between two looks at the interface's traffic, and at connections while nothing answers …
ASK_INTERVAL = 1.0  # … and else at these, since the kernel walks its whole table, and at WireGuard, which is a command
RULE_INTERVAL = 10.0  # seconds; routing rules give no notice


class Watcher:
    def __init__(self, config: Config) -> None:
        self.config = config
        self._tunnel = Tunnel(config.interface, config.peer)
        self._watch = Watch(probes=config.probe_interface is not None)
        self._uid = pwd.getpwnam(config.shim_user).pw_uid
        self._pool = ThreadPoolExecutor(1)
        self._probing: Future[bool] | None = None
        self._server: Server | None = None
        self._peer: Peer | None = None
        self._rule: Rule | None = None
        self._index = 0  # of the interface
        self._traffic = (0, 0)  # bytes sent and received at the last look
        self._connections: frozenset[str] = frozenset()
        self._ask_due = self._rule_due = self._connections_due = float("-inf")
        self._trouble: str | None = None

    def run(self) -> NoReturn:
        """Never return. A signal just ends the process: the tunnel goes on as it is."""
        while True:
            self._attempt(self.round)
            if self._server:
                notify(f"READY=1\nWATCHDOG=1\nSTATUS={self.path.value if self._peer else 'no tunnel'}")
            time.sleep(INTERVAL)

    @property
    def path(self) -> Path:
        return Path.TCP if self._peer and self._peer.endpoint == self.config.shim else Path.UDP

    def round(self) -> None:
        """One turn of the loop. Raises a CommandError or an OSError."""
        now = time.monotonic()
        if now >= self._ask_due:
            self._ask_due = now + ASK_INTERVAL
            self._peer = None
            self._peer = self._tunnel.peer()
        if self._peer is None:
            return
        there = self._locate(self._peer)
        index = socket.if_nametoindex(self.config.interface)
        if now >= self._rule_due or index != self._index:  # it came up anew, and its rules with it
            self._rule_due, self._index = now + RULE_INTERVAL, index
            self._go_around(there.rule(self.config.rule_priority))
        self._end_probe(now)
        self._act(self._watch.step(self._look(self._peer, now), now), there)

    def _go_around(self, rule: Rule) -> None:
        for added in ensure_rules([rule]):
            event("rule_added", rule=added)
        if self._rule and self._rule != rule:
            remove_rule(self._rule)
        self._rule = rule

    def _locate(self, peer: Peer) -> Server:
        if self._server is None or server.outside(peer.endpoint) not in (None, self._server.address):
            hosts = self.config.run_dir / "hosts"
            self._server = server.find(self.config.host, self.config.port, peer.endpoint, hosts)
            server.remember(self._server, self.config.host, hosts)
            self._rule_due = float("-inf")
        return self._server

    def _look(self, peer: Peer, now: float) -> Seen:
        sent_before, received_before = self._traffic
        self._traffic = sent, received = self._tunnel.traffic()
        if self.path is Path.UDP:
            self._connections = frozenset()
        elif now >= self._connections_due or (received == received_before and sent != sent_before):
            self._connections_due = now + ASK_INTERVAL
            self._connections = established(self._uid)
        age = max(time.time() - peer.handshake, 0.0) if peer.handshake else None
        return Seen(self.path, age, sent, received, self._connections)

    def _act(self, action: Action, there: Server) -> None:
        if action is Action.PROBE and self.config.probe_interface and self._probing is None:
            where = (there.address, there.port)
            self._probing = self._pool.submit(probe.works, self.config.probe_interface, self.config.peer, where)
        elif action is Action.RENEW:
            event("renewed", path=self.path.value, reason="the connection ended")
            self._renew(self.config.shim)
        elif action is Action.TO_TCP:
            event("path", path=Path.TCP.value, reason="UDP gets no answer" if self.config.probe_interface else None)
            self._renew(self.config.shim)
        elif action is Action.TO_UDP:
            event("path", path=Path.UDP.value, reason="UDP works")
            self._renew(there.endpoint)

    def _renew(self, endpoint: str) -> None:
        self._ask_due = float("-inf")
        self._tunnel.renew(endpoint, new_port=endpoint == self.config.shim)

    def _end_probe(self, now: float) -> None:
        if self._probing and self._probing.done():
            probing, self._probing = self._probing, None
            self._watch.probed(not probing.exception() and probing.result(), now)
            if self.path is Path.TCP:  # the answering node may have taken the probe's address for ours
                self._tunnel.speak()
            if error := probing.exception():
                raise error

    def _attempt(self, action: Callable[[], None]) -> None:
        """Without an interface there is nothing to do yet; say what fails once."""
        try:
            action()
        except (CommandError, OSError, ValueError) as error:
            if str(error) != self._trouble:
                event("failed", error=error)
            self._trouble = str(error)
        else:
            self._trouble = None


def release(config: Config) -> None:
    """Give the tunnel back to UDP, and remove the routing rule. Raises a CommandError or an OSError."""
    tunnel = Tunnel(config.interface, config.peer)
    peer = tunnel.peer()
    there = server.find(config.host, config.port, peer.endpoint, config.run_dir / "hosts")
    if peer.endpoint == config.shim:
        tunnel.renew(there.endpoint, new_port=False)
    remove_rule(there.rule(config.rule_priority))
