# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Bring a WireGuard interface to what its wg-quick file says, without dropping a session.

The order of every change is the same: read what is live, compare, validate a staged copy, change, verify, and only then
put the file in its place. So a run that was killed anywhere leaves the old file, and the next run sees the same
difference and finishes. Where wg-quick itself has to read the new file (start, restart), it is put back on failure.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, NamedTuple

from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import BackendError, public_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_config import (
    DEFAULT_ROUTES,
    UP_HOOKS,
    Config,
    ConfigError,
    Device,
    Peer,
    hide_keys,
    parse,
    parse_dump,
    redact,
    render_peers,
    settle,
)

# Where wg-quick looks for NAME; it knows no other place.
DIRECTORY = Path("/etc/wireguard")

# The kernel's limit of 15, without what systemd would have to escape in the unit's name, and without what `wg show`
# takes for a word of its own.
_NAME = re.compile(r"(?!all$|interfaces$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")

_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")
# Seconds. wg-quick@.service retries an endpoint's name for ever; adding the routes of 10,000 peers took it 66 s.
_COMMAND_TIMEOUT = 300.0
_TAIL = 15  # lines of a failed tool's output that a message shows
_BATCH = 256  # peers in one command
# Others (an agent that adopts a client) may touch a peer for some tenths of a second while we look.
_VERIFY_ATTEMPTS = 4
_VERIFY_PAUSE = 0.5


class InterfaceError(RuntimeError):
    """The interface could not be brought to its configuration. The message holds no secret."""


class MissingCommandError(InterfaceError):
    """This host lacks a command."""


class Result(NamedTuple):
    """What a command left behind."""

    rc: int
    out: str
    err: str


class System:
    """The host: its commands and what runs them. Tests put another one in its place."""

    @property
    def has_systemd(self) -> bool:
        return Path("/run/systemd/system").is_dir()

    @property
    def kernel_has_wireguard(self) -> bool:
        if Path("/sys/module/wireguard").exists():
            return True
        with contextlib.suppress(MissingCommandError):
            return self.run("modprobe", "--dry-run", "--quiet", "wireguard").rc == 0
        return False

    def run(self, *argv: str, stdin: str = "") -> Result:
        # sbin is not on every remote user's PATH; messages are matched in English.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_COMMAND_TIMEOUT,
                env={**os.environ, "PATH": path, "LC_ALL": "C"},
                check=False,
            )
        except FileNotFoundError:
            raise MissingCommandError(f"the command {argv[0]!r} is not on this host") from None
        except subprocess.TimeoutExpired:
            raise InterfaceError(f"`{' '.join(argv)}` did not end within {_COMMAND_TIMEOUT:.0f} s") from None
        return Result(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Live:
    """An interface as the kernel and wg(8) show it."""

    device: Device
    addresses: frozenset[str]
    mtu: int
    is_up: bool
    in_kernel: bool


@dataclass(frozen=True)
class _Order:
    """What is asked for, beside what the file said before."""

    text: str
    desired: Config
    before: bytes | None
    previous: Config | None
    """None where there was no file, or none that can be read."""
    expired: frozenset[str] = frozenset()
    """Public keys of peers that the file has, and the interface shall not have."""

    @property
    def rewrites(self) -> bool:
        return self.before != self.text.encode()

    def valid(self, config: Config) -> Device:
        """The device of a file without the peers that have expired."""
        peers = {key: peer for key, peer in config.device.peers.items() if key not in self.expired}
        return replace(config.device, peers=peers)

    def target(self, live: Device) -> Device:
        return settle(self.valid(self.desired), live, self.previous.device if self.previous else None)


@dataclass(frozen=True)
class PeerChanges:
    """Public keys."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What a run did, or in check mode would have done."""

    actions: list[str] = field(default_factory=list)
    peers: PeerChanges = field(default_factory=PeerChanges)
    public_key: str | None = None
    restarted: bool = False
    warnings: list[str] = field(default_factory=list)
    file_before: str = field(default="", repr=False)
    file_after: str = field(default="", repr=False)

    @property
    def changed(self) -> bool:
        return bool(self.actions)

    @property
    def before(self) -> str:
        """The file before this run, without its secrets."""
        return redact(self.file_before)

    @property
    def after(self) -> str:
        return redact(self.file_after, self.file_before)


def validate_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InterfaceError(f"{name!r} is no interface name: 1 to 15 characters of A-Z a-z 0-9 _ . -, no . or - first")
    return name


def peer_changes(live: Device, target: Device) -> PeerChanges:
    return PeerChanges(
        added=[key for key in target.peers if key not in live.peers],
        removed=[key for key in live.peers if key not in target.peers],
        changed=[key for key, peer in target.peers.items() if key in live.peers and live.peers[key] != peer],
    )


def differences(live: Device, target: Device) -> list[str]:
    """Where two devices differ, in words that may be shown."""
    words = []
    if live.private_key != target.private_key:
        words.append("private key")
    if live.listen_port != target.listen_port:
        words.append(f"listen port {live.listen_port} instead of {target.listen_port}")
    if live.fwmark != target.fwmark:
        words.append(f"fwmark {live.fwmark} instead of {target.fwmark}")
    changes = peer_changes(live, target)
    for word, keys in (("missing", changes.added), ("superfluous", changes.removed), ("different", changes.changed)):
        if keys:
            words.append(f"peers {word}: {len(keys)} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})")
    return words


def _update_of(live: Peer | None, target: Peer) -> Peer:
    """What to tell WireGuard of a peer; an endpoint that stays may be another one by now."""
    return replace(target, endpoint="") if live and live.endpoint == target.endpoint else target


def _losses(live: Peer, target: Peer) -> list[str]:
    """What `wg addconf` does not take away from a peer, as words for `wg set`."""
    words = []
    if live.preshared_key and not target.preshared_key:
        words += ["preshared-key", os.devnull]
    if live.keepalive and not target.keepalive:
        words += ["persistent-keepalive", "off"]
    if live.allowed_ips - target.allowed_ips:
        words += ["allowed-ips", ",".join(sorted(target.allowed_ips))]
    return words


def restart_reasons(desired: Config, previous: Config | None, live: Device) -> list[str]:
    """The changes that only `wg-quick up` can make. PreDown and PostDown are none: they are read at the next down."""
    reasons = []
    tunnel = desired.default_routes
    if desired.table == "auto" and tunnel != live.allowed_ips & DEFAULT_ROUTES:
        reasons.append("a default route in AllowedIPs")
    elif previous and tunnel:
        if desired.addresses != previous.addresses:
            reasons.append("Address, which wg-quick's firewall rules for a default route name")
        if desired.device.fwmark != previous.device.fwmark:
            reasons.append("FwMark, which wg-quick's rules for a default route use")
    if previous:
        reasons += [hook for hook in UP_HOOKS if desired.hooks.get(hook) != previous.hooks.get(hook)]
        if desired.dns != previous.dns:
            reasons.append("DNS")
        if desired.table != previous.table:
            reasons.append("Table")
    return reasons


class Interface:
    """One interface and its file."""

    def __init__(
        self, name: str, *, check_mode: bool = False, system: System | None = None, directory: Path = DIRECTORY
    ) -> None:
        self.name = validate_name(name)
        self.check_mode = check_mode
        self.system = system or System()
        self.directory = directory
        self.file = directory / f"{name}.conf"
        self.unit = f"wg-quick@{name}.service"
        self.outcome = Outcome()
        # wg-quick wants the interface's name as the file's, so the staged copy needs a directory of its own. It lies
        # beside the file: there AppArmor profiles let wg read, and a rename is atomic.
        self._staging = directory / f".{name}.staged"
        self._staged_file = self._staging / f"{name}.conf"

    # --- the two things one can ask for ---

    def up(
        self,
        text: str,
        *,
        enabled: bool = True,
        require_kernel: bool = False,
        allow_key_change: bool = False,
        expired: Collection[str] = (),
    ) -> Outcome:
        """Make the interface run as `text` says, but for the peers with the `expired` public keys."""
        try:
            desired = parse(text)
        except ConfigError as error:
            raise InterfaceError(f"{self.name}: {error}") from None
        if desired.save_config:
            raise InterfaceError(f"{self.name}: SaveConfig would overwrite what is managed here")
        if require_kernel and not self.system.kernel_has_wireguard:
            raise InterfaceError(f"{self.name}: the kernel's WireGuard is required, and this kernel has none")
        with self._exclusively():
            before = self._read()
            previous = desired if before == text.encode() else _parse_or_none(before)
            order = _Order(text, desired, before, previous, frozenset(expired))
            live = self._live()
            self.outcome.public_key = self._public_key(desired)
            self.outcome.file_before, self.outcome.file_after = _decode(before), text
            if not allow_key_change:
                known = live or previous
                self._refuse_key_change(desired.device, known.device if known else None)
            if live is None:
                self._start(order)
            else:
                reasons = restart_reasons(desired, previous, live.device)
                if require_kernel and not live.in_kernel:
                    reasons.append("the kernel's WireGuard instead of a userspace one")
                if reasons:
                    self._restart(order, live, reasons)
                else:
                    self._update(order, live)
            self._tighten()
            self._enable(enabled)
        return self.outcome

    def down(self, *, enabled: bool = True, remove: bool = False) -> Outcome:
        """Stop the interface; `remove` deletes its file, too."""
        # Removing from a host that never had WireGuard leaves no directory behind.
        with self._exclusively() if self.directory.exists() else contextlib.nullcontext():
            before = self._read()
            if self._exists() or (self.system.has_systemd and self._systemctl("is-active", "--quiet").rc == 0):
                self._act("stop", self._tear_down)
            if remove or not enabled:
                self._enable(False)
            if before is not None:
                self.outcome.file_before = _decode(before)
                self.outcome.file_after = "" if remove else self.outcome.file_before
                if remove:
                    self._act("file", self.file.unlink)
        return self.outcome

    # --- the three ways up ---

    def _start(self, order: _Order) -> None:
        self.outcome.peers = peer_changes(Device(), order.valid(order.desired))
        self._stage(order)
        if order.rewrites:
            self._act("file", self._commit)
        try:
            self._act("start", lambda: self._bring_up(order, order.desired))
        except InterfaceError as error:
            with contextlib.suppress(InterfaceError):
                self._tear_down()
            self._put_file_back(order.before)
            raise InterfaceError(f"{self.name} did not start; its file is as it was. {error}") from None

    def _restart(self, order: _Order, live: Live, reasons: list[str]) -> None:
        because = f"{self.name} has to restart for {', '.join(reasons)}"
        if order.before is None:
            raise InterfaceError(
                f"{because}, but {self.file} is gone and wg-quick can not stop it without; nothing done"
            )
        self.outcome.restarted = True
        self.outcome.peers = peer_changes(live.device, order.target(live.device))
        self._stage(order)
        # Down with the old file, for its PreDown, PostDown and DNS, up with the new one.
        self._act("restart", lambda: self._quick("down"))
        try:
            if order.rewrites:
                self._act("file", self._commit)
            if not self.check_mode:
                self._bring_up(order, order.desired)
        except InterfaceError as error:
            with contextlib.suppress(InterfaceError):
                self._tear_down()
            self._put_file_back(order.before)
            try:
                self._bring_up(order, order.previous)
            except InterfaceError as again:
                raise InterfaceError(f"{because}, and failed: {error}. Nor did the old file start: {again}") from None
            raise InterfaceError(f"{because}, and failed; it runs with its old file again. {error}") from None

    def _update(self, order: _Order, live: Live) -> None:
        target = order.target(live.device)
        self.outcome.peers = peer_changes(live.device, target)
        if order.previous is None:
            self.outcome.warnings.append(
                f"{self.name} runs, but {self.file} was missing or unreadable: whether DNS, Table, PreUp and PostUp "
                f"are in force is unknown until the next restart"
            )
        if order.rewrites or target != live.device:
            self._stage(order)
        routes = self._routes(order.desired.table)
        try:
            if target != live.device:
                self._act("sync", lambda: self._change(target))
            if order.desired.mtu not in (None, live.mtu):
                self._act("mtu", lambda: self._ip("link", "set", "dev", self.name, "mtu", str(order.desired.mtu)))
            if not live.is_up:
                self._act("link", lambda: self._ip("link", "set", "dev", self.name, "up"))
            self._reconcile_addresses(order, live)
            self._reconcile_routes(order, live)
            if order.rewrites:
                self._act("file", self._commit)
        except InterfaceError as error:
            ending = self._put_back(live, routes, order.desired)
            raise InterfaceError(f"{self.name} could not be updated; {ending}. {error}") from None

    def _put_back(self, live: Live, routes: frozenset[str], desired: Config) -> str:
        """Return to what was live before this run, as far as it goes; say how that ended."""
        failures = []
        steps: list[Callable[[], object]] = [
            lambda: self._change(live.device),
            lambda: self._ip("link", "set", "dev", self.name, "mtu", str(live.mtu)),
            lambda: self._set_addresses(live.addresses, self._addresses() - live.addresses),
            lambda: self._set_routes(desired.table, routes, desired.routes - routes),
        ]
        for step in steps:
            try:
                step()
            except InterfaceError as error:
                failures.append(str(error))
        return f"not all could be put back: {'; '.join(failures)}" if failures else "what was live is put back"

    # --- wg and wg-quick ---

    def _stage(self, order: _Order) -> None:
        """Let wg-quick read a copy, and see that it understands what we do, down to the last peer.

        A failing `wg-quick strip` prints nothing, and nothing is what we would then make of the interface.
        """
        if self.check_mode:
            return
        self._write(self._staged_file, order.text.encode())
        stripped = self._command("wg-quick", "strip", str(self._staged_file))
        understood = _parse_or_none(stripped.encode())
        # The mark is left out: which one a default route gets depends on lines that strip takes away.
        if understood is None or replace(understood.device, fwmark=order.desired.device.fwmark) != order.desired.device:
            raise InterfaceError(f"{self.name}: `wg-quick strip` lost a part of the configuration; nothing was changed")

    def _change(self, target: Device) -> None:
        """Change what differs, and nothing else.

        `wg syncconf` takes the networks of every peer away and gives them back: packets in between are lost. Nor does
        it take away a preshared key or a keepalive.
        """
        live = self._live()
        if live is None:
            raise InterfaceError(f"{self.name}: there is no such interface")
        present = live.device
        self._set_device(present, target)
        changes = peer_changes(present, target)
        # First those that leave: their networks may be somebody else's now.
        self._set_peers([[key, "remove"] for key in changes.removed])
        if changes.added or changes.changed:
            file = self._staging / "add.conf"
            keys = (*changes.added, *changes.changed)
            text = render_peers(_update_of(present.peers.get(key), target.peers[key]) for key in keys)
            self._write(file, text.encode())
            self._command("wg", "addconf", self.name, str(file))
        losses = {key: _losses(present.peers[key], target.peers[key]) for key in changes.changed}
        self._set_peers([[key, *words] for key, words in losses.items() if words])
        self._verify(target)

    def _set_device(self, present: Device, target: Device) -> None:
        words = []
        if target.private_key not in ("", present.private_key):
            file = self._staging / "private.key"
            self._write(file, target.private_key.encode())
            words += ["private-key", str(file)]
        if present.listen_port != target.listen_port:
            words += ["listen-port", str(target.listen_port)]
        if present.fwmark != target.fwmark:
            words += ["fwmark", str(target.fwmark)]
        if words:
            self._command("wg", "set", self.name, *words)

    def _set_peers(self, peers: list[list[str]]) -> None:
        for begin in range(0, len(peers), _BATCH):
            words = (word for peer in peers[begin : begin + _BATCH] for word in ("peer", *peer))
            self._command("wg", "set", self.name, *words)

    def _bring_up(self, order: _Order, config: Config | None) -> None:
        if self.system.has_systemd:
            # Some quick failures in a row must not keep the old configuration from starting again.
            self._systemctl("reset-failed")
            # restart: a unit whose userspace process died is still `active`, and start would do nothing.
            if self._systemctl("restart").rc:
                journal = self._run("journalctl", "--unit", self.unit, "--lines", str(_TAIL), "--output", "cat")
                raise InterfaceError(f"`systemctl restart {self.unit}` failed:\n{_tail(journal.out)}")
        else:
            self._quick("up")
        if order.expired:
            self._command("wg", "set", self.name, *(word for key in order.expired for word in ("peer", key, "remove")))
        if config:
            self._verify(order.valid(config))

    def _tear_down(self) -> None:
        if self.system.has_systemd:
            self._systemctl("stop")
        # Still there: stopping failed, or the interface was brought up by hand.
        if self._exists():
            self._quick("down")

    def _quick(self, verb: str) -> None:
        done = self._run("wg-quick", verb, self.name)
        # A failing PostDown does not bring the interface back.
        if done.rc and (verb == "up" or self._exists()):
            raise InterfaceError(f"`wg-quick {verb} {self.name}` failed:\n{_tail(done.err)}")

    def _verify(self, target: Device) -> None:
        found: list[str] = []
        for attempt in range(_VERIFY_ATTEMPTS):
            if attempt:
                time.sleep(_VERIFY_PAUSE)
            live = self._live()
            if live is None:
                found = ["there is no such interface"]
                continue
            # Passing the target as the previous file leaves the endpoints out: a peer may roam at any time.
            found = differences(live.device, settle(target, live.device, target))
            if not found:
                return
        raise InterfaceError(f"afterwards {self.name} is not as configured: {', '.join(found)}")

    def _live(self) -> Live | None:
        try:
            shown = self._run("ip", "-json", "-details", "address", "show", "dev", self.name)
            if shown.rc:
                if "does not exist" in shown.err:
                    return None
                raise InterfaceError(f"`ip address show dev {self.name}` failed: {_tail(shown.err)}")
            device = parse_dump(self._command("wg", "show", self.name, "dump"))
        except ConfigError as error:
            raise InterfaceError(f"{self.name}: {error}") from None
        except MissingCommandError:
            # A fresh host: check mode predicts what the packages, once installed, will let us do.
            if self.check_mode:
                return None
            raise
        link = _json_list(shown.out)[0]
        return Live(
            device=device,
            addresses=_addresses_of(link),
            mtu=link["mtu"],
            is_up="UP" in link["flags"],
            in_kernel=link.get("linkinfo", {}).get("info_kind") == "wireguard",
        )

    # --- addresses and routes ---

    def _reconcile_addresses(self, order: _Order, live: Live) -> None:
        wanted = frozenset(order.desired.addresses)
        ours = frozenset(order.previous.addresses) if order.previous else frozenset()
        # The kernel gives tun devices a link-local address. It is none of ours unless we once set it.
        surplus = frozenset(
            address
            for address in live.addresses - wanted
            if address in ours or ipaddress.ip_interface(address).ip not in _LINK_LOCAL
        )
        if surplus or wanted - live.addresses:
            self._act("address", lambda: self._set_addresses(wanted, surplus))

    def _set_addresses(self, wanted: frozenset[str], surplus: frozenset[str]) -> None:
        def add_missing() -> None:
            now = self._addresses()
            for address in sorted(wanted - now):
                self._ip("address", "add", address, "dev", self.name)

        def delete(addresses: frozenset[str]) -> None:
            for address in sorted(addresses):
                # Deleting an IPv4 address takes the later ones of its network along.
                if address in self._addresses():
                    self._ip("address", "delete", address, "dev", self.name)

        # IPv6 has an address once, whatever the prefix length: the old length goes first. With IPv4 the new one comes
        # first: when the last address goes, the kernel forgets all routes through the interface, whatever their table.
        wanted_ips = {ipaddress.ip_interface(address).ip for address in wanted if ":" in address}
        delete(frozenset(address for address in surplus if ipaddress.ip_interface(address).ip in wanted_ips))
        add_missing()
        delete(surplus)
        add_missing()

    def _addresses(self) -> frozenset[str]:
        return _addresses_of(_json_list(self._command("ip", "-json", "address", "show", "dev", self.name))[0])

    def _reconcile_routes(self, order: _Order, live: Live) -> None:
        table, wanted = order.desired.table, order.desired.routes
        # What is neither in the old file nor a live peer's was added by somebody else, and stays.
        ours = live.device.allowed_ips | (order.previous.routes if order.previous else frozenset())
        surplus = ours - wanted - order.desired.default_routes
        now = self._routes(table)
        if wanted - now or surplus & now:
            self._act("route", lambda: self._set_routes(table, wanted, surplus))

    def _set_routes(self, table: str, wanted: frozenset[str], surplus: frozenset[str]) -> None:
        now = self._routes(table)
        target = f"dev {self.name} table {_table(table)}"
        lines = [f"route add {prefix} {target}" for prefix in sorted(wanted - now)]
        lines += [f"route delete {prefix} {target}" for prefix in sorted(surplus & now)]
        # One process for all: there may be a route per client.
        if lines:
            self._command("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def _routes(self, table: str) -> frozenset[str]:
        """The routes to the interface, but for those that the kernel adds with an address or that have a gateway."""
        if table == "off":
            return frozenset()
        found: set[str] = set()
        for family, default in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
            shown = self._run("ip", "-json", family, "route", "show", "dev", self.name, "table", _table(table))
            # A table without any route does not exist, which is an error to ip.
            for route in _json_list(shown.out) if shown.rc == 0 else []:
                if route.get("protocol") != "kernel" and "gateway" not in route:
                    found.add(str(ipaddress.ip_network(default if route["dst"] == "default" else route["dst"])))
        return frozenset(found)

    # --- the file ---

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One run at a time for this directory, and no staged secrets left behind: neither ours nor a killed run's."""
        if self.check_mode:
            yield
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)
            os.close(descriptor)

    def _read(self) -> bytes | None:
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, path: Path, content: bytes) -> None:
        with _naming(path):
            self._staging.mkdir(mode=0o700, exist_ok=True)
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)

    def _commit(self) -> None:
        with _naming(self.file):
            os.replace(self._staged_file, self.file)

    def _put_file_back(self, before: bytes | None) -> None:
        if before is None:
            self.file.unlink(missing_ok=True)
        elif before != self._read():
            self._write(self._staged_file, before)
            self._commit()

    def _tighten(self) -> None:
        """The file and its directory are for root alone."""
        for path, mode in ((self.directory, 0o700), (self.file, 0o600)):
            if path.exists() and path.stat().st_mode & 0o777 != mode:
                self._act("mode", lambda path=path, mode=mode: path.chmod(mode))  # type: ignore[misc]

    # --- small things ---

    def _act(self, word: str, change: Callable[[], object]) -> None:
        """Every change goes through here: it is recorded, and in check mode that is all."""
        if word not in self.outcome.actions:
            self.outcome.actions.append(word)
        if not self.check_mode:
            change()

    def _enable(self, enabled: bool) -> None:
        if self.system.has_systemd and (self._systemctl("is-enabled", "--quiet").rc == 0) != enabled:
            verb = "enable" if enabled else "disable"
            self._act(verb, lambda: self._command("systemctl", verb, self.unit))

    def _public_key(self, desired: Config) -> str | None:
        try:
            return public_key(desired.device.private_key)
        except BackendError as error:
            if self.check_mode:
                return None
            raise InterfaceError(f"{self.name}: {error}") from None

    def _refuse_key_change(self, desired: Device, present: Device | None) -> None:
        if present and present.private_key and present.private_key != desired.private_key:
            raise InterfaceError(
                f"{self.name} has the public key {public_key(present.private_key)}, the configuration brings "
                f"{self.outcome.public_key}: every peer would lose it. Nothing was changed; allow_key_change permits it"
            )

    def _exists(self) -> bool:
        try:
            return self._run("ip", "link", "show", "dev", self.name).rc == 0
        except MissingCommandError:
            return False

    def _systemctl(self, verb: str, *options: str) -> Result:
        return self._run("systemctl", verb, *options, self.unit)

    def _ip(self, *arguments: str) -> None:
        self._command("ip", *arguments)

    def _command(self, *argv: str, stdin: str = "") -> str:
        done = self._run(*argv, stdin=stdin)
        if done.rc:
            raise InterfaceError(f"`{' '.join(argv)}` failed with {done.rc}: {_tail(done.err)}")
        return done.out

    def _run(self, *argv: str, stdin: str = "") -> Result:
        return self.system.run(*argv, stdin=stdin)


def _parse_or_none(content: bytes | None) -> Config | None:
    try:
        return parse(_decode(content))
    except ConfigError:
        return None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A full disk is a failure like any other, and has to be answered by putting back what was."""
    try:
        yield
    except OSError as error:
        raise InterfaceError(f"{path} could not be written: {error.strerror}") from None


def _decode(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace")


def _addresses_of(link: dict) -> frozenset[str]:
    return frozenset(
        str(ipaddress.ip_interface(f"{info['local']}/{info['prefixlen']}"))
        for info in link["addr_info"]
        if "local" in info
    )


def _json_list(text: str) -> list[dict]:
    # Nothing at all is how ip says "none"; and it pads its list with empty objects for links that a filter hid.
    return [item for item in json.loads(text or "[]") if item]


def _table(table: str) -> str:
    return "main" if table == "auto" else table


def _tail(text: str) -> str:
    return "\n".join(hide_keys(text).strip().splitlines()[-_TAIL:])
