# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Remove the peers of clients whose time is over, whether a controller can be reached or not.

wg-quick's file still has them: somebody's time being over is no change of the configuration. So they come back when the
interface is set up anew, and are looked for again and again.

When the clock that said so was wrong, they are put back as they were.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from wirefleet import config
from wirefleet.command import pipe, run
from wirefleet.config import ConfigError, MapOf, Shape
from wirefleet.log import event

from .sessions import parse
from .watched import Watched

VERSION = 1
SHAPE: dict[str, Shape] = {"version": int, "expires": MapOf(float)}
AGAIN = 10.0  # seconds between two looks for peers that came back


@dataclass(frozen=True)
class Expiries:
    """``expires`` is in seconds since the epoch, by public key; ``written`` is when this was known."""

    expires: Mapping[str, float]
    written: float

    def over(self, now: float) -> frozenset[str]:
        """Who has expired. A clock that is behind the file's own date is wrong, and brings nobody back."""
        now = max(now, self.written)
        return frozenset(key for key, at in self.expires.items() if at <= now)

    def next(self, now: float) -> float | None:
        """When the next client expires that has not yet; None when there is none."""
        over = self.over(now)
        return min((at for key, at in self.expires.items() if key not in over), default=None)


def load(path: Path) -> Expiries:
    """Raise a ConfigError that names the file and the key."""
    document = config.load(path, SHAPE)
    if document["version"] != VERSION:
        raise ConfigError(f"{path}: version: this agent reads version {VERSION}, got {document['version']}")
    return Expiries(document["expires"], os.stat(path).st_mtime)


class Expiry:
    """Keeps the expired peers away from one interface."""

    def __init__(self, interface: str, file: Path) -> None:
        self._interface = interface
        self.known: Expiries | None = None  # as of the last look
        self._file = Watched(file, load)
        self._over: frozenset[str] = frozenset()
        self._removed: dict[str, tuple[str, str]] = {}  # public key -> its networks and its secret
        self._due = float("-inf")

    def enforce(self) -> None:
        """Raises a CommandError, a ConfigError or an OSError; the next call tries again."""
        known = self._file.get()
        if known is not self.known:
            # Ansible brings back who is to come back, as they are to be from now on.
            self._removed = {}
        self.known = known
        over, now = self.known.over(time.time()), time.monotonic()
        if over == self._over and now < self._due:
            return
        back = {key: peer for key, peer in self._removed.items() if key not in over}
        if back:
            self._put_back(back)
        self._removed = {key: peer for key, peer in self._removed.items() if key in over}
        if over:
            self._remove(over)
        self._over, self._due = over, now + AGAIN

    def _remove(self, keys: Collection[str]) -> None:
        live = set(run(["wg", "show", self._interface, "peers"]).split())
        expired = sorted(live.intersection(keys))
        if expired:
            networks = parse(run(["wg", "show", self._interface, "allowed-ips"]))
            secrets = parse(run(["wg", "show", self._interface, "preshared-keys"]))
            run(["wg", "set", self._interface, *(word for key in expired for word in ("peer", key, "remove"))])
            self._removed.update((key, (networks.get(key, ""), secrets.get(key, "(none)"))) for key in expired)
        for key in expired:
            event("expired", client=key)

    def _put_back(self, peers: Mapping[str, tuple[str, str]]) -> None:
        """As they were, unless somebody else has done that."""
        missing = peers.keys() - run(["wg", "show", self._interface, "peers"]).split()
        if not missing:
            return
        command, descriptors = ["wg", "set", self._interface], []
        with ExitStack() as pipes:
            for key in missing:
                networks, secret = peers[key]
                command += ["peer", key, "allowed-ips", networks.replace("(none)", "").replace(" ", ",")]
                if secret != "(none)":
                    descriptors.append(pipe(secret, pipes))
                    command += ["preshared-key", f"/dev/fd/{descriptors[-1]}"]
            run(command, descriptors=descriptors)
        for key in sorted(missing):
            event("put_back", client=key, reason="the clock that it had expired by was wrong")
