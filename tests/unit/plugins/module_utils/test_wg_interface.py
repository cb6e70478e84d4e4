# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""wg_interface on a host in memory, with systemd. What real tools do with it is in test_wg_interface_live.py."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils import _wg_interface
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import (
    BackendError,
    generate_preshared_key,
    generate_private_key,
    public_key,
)
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_config import Config, Device, Peer, parse
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_interface import (
    Interface,
    InterfaceError,
    MissingCommandError,
    Result,
    System,
    differences,
    restart_reasons,
    validate_name,
)

KEY, PSK = generate_private_key(), generate_preshared_key()
A, B = public_key(generate_private_key()), public_key(generate_private_key())
UNIT = "wg-quick@wg0.service"
TEXT = f"""\
[Interface]
PrivateKey = {KEY}
ListenPort = 51820
Address = 10.80.0.1/24
Table = off

[Peer]
PublicKey = {A}
PresharedKey = {PSK}
AllowedIPs = 10.80.0.2/32
"""


class FakeSystem(System):
    """Answers for a host with systemd and, while `device` is set, with a running wg0."""

    has_systemd = True
    kernel_has_wireguard = True

    def __init__(self, directory: Path) -> None:
        self.file = directory / "wg0.conf"
        self.device: Device | None = None
        self.addresses: tuple[str, ...] = ()
        self.kind = "wireguard"
        self.active = self.enabled = False
        self.starts = 0
        self.missing: set[str] = set()
        self.told: dict[str, Peer] = {}  # the peers of the last `wg addconf`
        self.failing: dict[str, Result | InterfaceError] = {}
        self.commands: list[str] = []

    def run(self, *argv: str, stdin: str = "") -> Result:
        command = " ".join(argv)
        self.commands.append(command)
        if argv[0] in self.missing:
            raise MissingCommandError(f"the command {argv[0]!r} is not on this host")
        for prefix, failure in self.failing.items():
            if command.startswith(prefix):
                if isinstance(failure, InterfaceError):
                    raise failure
                return failure
        answer = self.answer(*argv)
        return answer if isinstance(answer, Result) else Result(0 if answer is not False else 1, answer or "", "")

    def answer(self, *argv: str) -> Result | str | bool:
        tool, verb = argv[:2]
        if tool == "systemctl":
            return self.systemctl(verb)
        if (tool, verb) == ("wg-quick", "strip"):
            skipped = ("Address", "Table", "PostUp", "MTU", "DNS")
            lines = Path(argv[2]).read_text().splitlines(keepends=True)
            return "".join(line for line in lines if not line.startswith(skipped))
        if (tool, verb) == ("wg-quick", "down"):
            self.device = None
            return ""
        if self.device is None:
            return Result(1, "", 'Device "wg0" does not exist.\n')
        peers = dict(self.device.peers)
        if (tool, verb) == ("wg", "addconf"):
            self.told = parse(f"[Interface]\nPrivateKey = {KEY}\n{Path(argv[3]).read_text()}").device.peers
            peers |= {key: merged(peers.get(key, peer), peer) for key, peer in self.told.items()}
            self.device = replace(self.device, peers=peers)
            return ""
        if (tool, verb) == ("wg", "set"):
            if argv[3] == "peer":
                if argv[5:] == ("remove",):
                    del peers[argv[4]]
                else:
                    assert argv[5:] == ("persistent-keepalive", "off")
                    peers[argv[4]] = replace(peers[argv[4]], keepalive=0)
                self.device = replace(self.device, peers=peers)
            else:
                assert argv[3] == "listen-port"
                self.device = replace(self.device, listen_port=int(argv[4]))
            return ""
        if (tool, verb) == ("wg", "show"):
            return dump(self.device)
        assert tool == "ip", argv
        return self.show_address()

    def systemctl(self, verb: str) -> str | bool:
        if verb == "is-enabled":
            return "" if self.enabled else False
        if verb == "is-active":
            return "" if self.active else False
        if verb in ("enable", "disable"):
            self.enabled = verb == "enable"
        elif verb == "stop":
            self.active, self.device = False, None
        elif verb == "reset-failed":
            self.starts = 0
        else:
            assert verb == "restart"
            self.starts += 1
            if self.starts > 5:
                return False
            config = parse(self.file.read_text())
            self.active, self.device, self.addresses = True, config.device, config.addresses
        return ""

    def show_address(self) -> str:
        found = [address.split("/") for address in self.addresses]
        link = {
            "flags": ["UP"],
            "mtu": 1420,
            "linkinfo": {"info_kind": self.kind},
            "addr_info": [{"local": ip, "prefixlen": int(length)} for ip, length in found],
        }
        return json.dumps([{}, link])

    @property
    def changes(self) -> list[str]:
        queries = ("ip -json", "ip link show", "wg show", "systemctl is-")
        return [command for command in self.commands if not command.startswith(queries)]


def merged(live: Peer, told: Peer) -> Peer:
    """As `wg addconf` leaves a peer."""
    return Peer(
        told.public_key,
        told.preshared_key or live.preshared_key,
        live.allowed_ips | told.allowed_ips,
        told.endpoint or live.endpoint,
        told.keepalive or live.keepalive,
    )


def dump(device: Device) -> str:
    lines = [f"{device.private_key}\t(ignored)\t{device.listen_port}\t{device.fwmark:#x}"]
    lines += [
        f"{peer.public_key}\t{peer.preshared_key or '(none)'}\t{peer.endpoint or '(none)'}\t"
        f"{','.join(peer.allowed_ips) or '(none)'}\t0\t0\t0\t{peer.keepalive}"
        for peer in device.peers.values()
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    monkeypatch.setattr(_wg_interface, "_VERIFY_PAUSE", 0)
    directory = tmp_path / "wireguard"
    directory.mkdir(mode=0o700)
    return FakeSystem(directory)


def interface(system: FakeSystem, check_mode: bool = False) -> Interface:
    return Interface("wg0", check_mode=check_mode, system=system, directory=system.file.parent)


# --- pure decisions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wg0", "wf-mesh", "a" * 15, "_.x", "allow"])
def test_names(name: str) -> None:
    assert validate_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "a" * 16, "-wg0", ".", "..", "wg 0", "wg/0", "wg0\n", "wg+0", "all", "interfaces"]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InterfaceError, match="no interface name"):
        validate_name(name)


CONFIG = Config(Device(KEY, peers={A: Peer(A, allowed_ips=frozenset({"10.80.0.2/32"}))}), hooks={"PostUp": ("x",)})
TUNNEL = replace(CONFIG, device=Device(KEY, fwmark=None, peers={A: Peer(A, allowed_ips=frozenset({"0.0.0.0/0"}))}))


@pytest.mark.parametrize(
    ("desired", "previous", "reasons"),
    [
        (CONFIG, CONFIG, []),
        (CONFIG, None, []),
        (replace(CONFIG, mtu=1300, addresses=("10.80.0.1/24",)), CONFIG, []),
        (replace(CONFIG, hooks={"PostUp": ("x",), "PostDown": ("y",)}), CONFIG, []),
        (replace(CONFIG, hooks={"PostUp": ("y",)}), CONFIG, ["PostUp"]),
        (replace(CONFIG, hooks={"PostUp": ("x",), "PreUp": ("y",)}), CONFIG, ["PreUp"]),
        (replace(CONFIG, dns=("10.0.0.53",), table="off"), CONFIG, ["DNS", "Table"]),
        (replace(CONFIG, device=TUNNEL.device), CONFIG, ["a default route in AllowedIPs"]),
        (replace(CONFIG, device=TUNNEL.device, table="off"), replace(CONFIG, table="off"), []),
    ],
)
def test_restart_reasons(desired: Config, previous: Config | None, reasons: list[str]) -> None:
    assert restart_reasons(desired, previous, CONFIG.device) == reasons


@pytest.mark.parametrize(
    ("desired", "reason"),
    [
        (TUNNEL, None),
        (CONFIG, "a default route in AllowedIPs"),
        (replace(TUNNEL, addresses=("10.80.0.1/24",)), "Address"),
        (replace(TUNNEL, device=replace(TUNNEL.device, fwmark=7)), "FwMark"),
    ],
)
def test_restart_reasons_of_a_full_tunnel(desired: Config, reason: str | None) -> None:
    reasons = restart_reasons(desired, TUNNEL, TUNNEL.device)
    assert [found.split(",")[0] for found in reasons] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Device(KEY, 51820, 0, {A: Peer(A)}), []),
        (Device(PSK, 51820, 0, {A: Peer(A)}), ["private key"]),
        (Device(KEY, 1, 2, {A: Peer(A)}), ["listen port 51820 instead of 1", "fwmark 0 instead of 2"]),
        (Device(KEY, 51820, 0, {B: Peer(B)}), [f"peers missing: 1 ({B})", f"peers superfluous: 1 ({A})"]),
        (Device(KEY, 51820, 0, {A: Peer(A, PSK)}), [f"peers different: 1 ({A})"]),
    ],
)
def test_differences(target: Device, words: list[str]) -> None:
    assert differences(Device(KEY, 51820, 0, {A: Peer(A)}), target) == words


# --- with systemd ---------------------------------------------------------------------------------------------------


def test_start_enables_and_a_second_run_does_nothing(system: FakeSystem) -> None:
    done = interface(system).up(TEXT)
    assert done.actions == ["file", "start", "enable"]
    assert (system.active, system.enabled) == (True, True)
    system.commands.clear()
    assert not interface(system).up(TEXT).changed
    assert system.changes == []


def test_unit_of_a_dead_interface_is_restarted(system: FakeSystem) -> None:
    interface(system).up(TEXT)
    system.device = None  # wireguard-go crashed; the unit stays active, `systemctl start` would do nothing
    assert interface(system).up(TEXT).actions == ["start"]
    assert system.commands.count(f"systemctl restart {UNIT}") == 2


@pytest.mark.parametrize("before", [None, "old file\n"])
def test_failed_start_shows_the_journal(system: FakeSystem, before: str | None) -> None:
    if before:
        system.file.write_text(before)
    system.failing = {
        "systemctl restart": Result(1, "", "see journalctl\n"),
        "journalctl": Result(0, f"[#] ip link add\nKey is not the correct length or format: `{PSK}'\n", ""),
    }
    with pytest.raises(InterfaceError, match=r"did not start(.|\n)*ip link add\n.*format: `\(key\)'"):
        interface(system).up(TEXT)
    assert (system.file.read_text() if system.file.exists() else None) == before
    assert not system.enabled


def test_start_that_hangs_is_cancelled(system: FakeSystem) -> None:
    system.failing = {"systemctl restart": InterfaceError("`systemctl restart` did not end within 120 s")}
    with pytest.raises(InterfaceError, match="did not end"):
        interface(system).up(TEXT)
    assert f"systemctl stop {UNIT}" in system.commands
    assert not system.file.exists()


def test_start_with_something_else_is_no_start(system: FakeSystem) -> None:
    other = Device(KEY, 51820, 0, {B: Peer(B)})
    system.failing = {"wg show wg0 dump": Result(0, dump(other), "")}
    with pytest.raises(InterfaceError, match=r"did not start.*not as configured: peers missing: 1"):
        interface(system).up(TEXT)
    assert system.device is None
    assert not system.file.exists()


@pytest.mark.parametrize(
    ("enabled", "wanted", "actions"), [(True, False, ["disable"]), (False, True, ["enable"]), (False, False, [])]
)
def test_enabled(system: FakeSystem, enabled: bool, wanted: bool, actions: list[str]) -> None:
    interface(system).up(TEXT)
    system.enabled = enabled
    assert interface(system).up(TEXT, enabled=wanted).actions == actions
    assert system.enabled is wanted


@pytest.mark.parametrize(
    ("enabled", "remove", "actions"),
    [
        (True, False, ["stop"]),
        (False, False, ["stop", "disable"]),
        (True, True, ["stop", "disable", "file"]),
    ],
)
@pytest.mark.parametrize("dead", [False, True])
def test_down(system: FakeSystem, enabled: bool, remove: bool, actions: list[str], dead: bool) -> None:
    interface(system).up(TEXT)
    if dead:
        system.device = None
    assert interface(system, check_mode=True).down(enabled=enabled, remove=remove).actions == actions
    assert system.active
    assert interface(system).down(enabled=enabled, remove=remove).actions == actions
    assert (system.active, system.device) == (False, None)
    assert system.file.exists() is not remove
    assert not interface(system).down(enabled=enabled, remove=remove).changed


def test_absent_on_a_fresh_host_leaves_nothing_behind(system: FakeSystem) -> None:
    system.file.parent.rmdir()
    system.missing = {"ip", "wg", "wg-quick"}
    assert not interface(system).down(remove=True).changed
    assert not system.file.parent.exists()


def test_start_limit_is_no_obstacle(system: FakeSystem) -> None:
    for _ in range(8):
        system.device = None
        assert "start" in interface(system).up(TEXT).actions


def test_failed_restart_starts_the_old_one(system: FakeSystem) -> None:
    interface(system).up(TEXT)
    old = system.device
    restarts = 0

    def fail_once(verb: str) -> str | bool:
        nonlocal restarts
        restarts += verb == "restart"
        return False if verb == "restart" and restarts == 1 else FakeSystem.systemctl(system, verb)

    system.systemctl = fail_once  # type: ignore[method-assign]
    system.failing = {"journalctl": Result(0, "", "")}
    with pytest.raises(InterfaceError, match="has to restart for PostUp, and failed; it runs with its old file again"):
        interface(system).up(TEXT.replace("Table = off", "Table = off\nPostUp = false"))
    assert system.device == old
    assert system.file.read_text() == TEXT


# --- refusals: nothing is touched -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT + "Typo = 1\n", "wg0: line 11: .* knows no such key: Typo"),
        (TEXT.replace("Table = off", "SaveConfig = true"), "SaveConfig would overwrite"),
    ],
)
def test_bad_text(system: FakeSystem, text: str, message: str) -> None:
    with pytest.raises(InterfaceError, match=message):
        interface(system).up(text)
    assert system.commands == []
    assert list(system.file.parent.iterdir()) == []


def test_kernel_required(system: FakeSystem) -> None:
    system.kernel_has_wireguard = False
    with pytest.raises(InterfaceError, match="this kernel has none"):
        interface(system).up(TEXT, require_kernel=True)
    assert system.commands == []


def test_kernel_required_replaces_userspace(system: FakeSystem) -> None:
    interface(system).up(TEXT)
    assert not interface(system).up(TEXT, require_kernel=True).changed
    system.kind = "tun"
    assert not interface(system).up(TEXT).changed
    done = interface(system, check_mode=True).up(TEXT, require_kernel=True)
    assert (done.actions, done.restarted) == (["restart"], True)


@pytest.mark.parametrize("missing", ["wg", "wg-quick", "ip"])
def test_missing_command_is_named(system: FakeSystem, missing: str) -> None:
    system.missing = {missing}
    with pytest.raises(InterfaceError, match=f"the command '{missing}' is not on this host"):
        interface(system).up(TEXT)
    assert not system.file.exists()


def test_interface_of_another_kind(system: FakeSystem) -> None:
    system.device = Device()
    system.failing = {"wg show": Result(1, "", "Unable to access interface: Operation not supported\n")}
    with pytest.raises(InterfaceError, match="`wg show wg0 dump` failed with 1: Unable to access interface"):
        interface(system).up(TEXT)
    assert not system.file.exists()


def test_ip_that_fails_is_no_missing_interface(system: FakeSystem) -> None:
    system.failing = {"ip -json -details": Result(2, "", "Cannot open netlink socket\n")}
    with pytest.raises(InterfaceError, match="Cannot open netlink socket"):
        interface(system).up(TEXT)
    assert system.changes == []


# --- check mode, files ----------------------------------------------------------------------------------------------


def test_check_mode_on_a_fresh_host(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_backend(_private: str) -> str:
        raise BackendError("neither was found")

    monkeypatch.setattr(_wg_interface, "public_key", no_backend)
    system.file.parent.rmdir()
    system.missing = {"ip", "wg", "wg-quick"}
    done = interface(system, check_mode=True).up(TEXT)
    assert done.actions == ["file", "start", "enable"]
    assert done.public_key is None
    assert not system.file.parent.exists()


def test_check_mode_compares_with_what_is_live(system: FakeSystem) -> None:
    interface(system).up(TEXT)
    live = system.device
    system.commands.clear()
    done = interface(system, check_mode=True).up(
        TEXT.replace("10.80.0.1/24", "10.80.0.9/24") + "PersistentKeepalive=5\n"
    )
    assert done.actions == ["sync", "address", "file"]
    assert (done.peers.added, done.peers.removed, done.peers.changed) == ([], [], [A])
    assert system.changes == []
    assert system.device == live
    assert list(system.file.parent.iterdir()) == [system.file]
    assert system.file.read_text() == TEXT


def test_diff_hides_secrets(system: FakeSystem) -> None:
    interface(system).up(TEXT)
    other = generate_preshared_key()
    done = interface(system).up(TEXT.replace(PSK, other))
    assert "PresharedKey = (hidden)\n" in done.before
    assert "PresharedKey = (hidden, changed)\n" in done.after
    assert not any(secret in done.before + done.after for secret in (KEY, PSK, other))


def test_modes_are_tightened(system: FakeSystem) -> None:
    interface(system).up(TEXT)
    system.file.chmod(0o644)
    system.file.parent.chmod(0o755)
    assert interface(system).up(TEXT).actions == ["mode"]
    assert [path.stat().st_mode & 0o777 for path in (system.file, system.file.parent)] == [0o600, 0o700]


def test_full_disk_is_answered_by_putting_back(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    interface(system).up(TEXT)
    live = system.device

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InterfaceError, match=r"put back.*wg0.conf could not be written: No space left"):
        interface(system).up(TEXT + "PersistentKeepalive = 5\n")
    assert any(command.startswith("wg addconf") for command in system.commands)
    assert system.device == live


def test_runs_wait_for_each_other(system: FakeSystem) -> None:
    other = os.open(system.file.parent, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    run = threading.Thread(target=lambda: interface(system).up(TEXT))
    run.start()
    run.join(0.2)
    assert system.commands == []
    os.close(other)
    run.join(10)
    assert system.active


# --- the real System ------------------------------------------------------------------------------------------------


def test_system_runs_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert System().run("sh", "-c", "cat; echo $LC_ALL; echo no >&2; exit 3", stdin="in\n") == Result(
        3, "in\nC\n", "no\n"
    )
    with pytest.raises(MissingCommandError, match="'no-such-command'"):
        System().run("no-such-command")
    monkeypatch.setattr(_wg_interface, "_COMMAND_TIMEOUT", 0.01)
    with pytest.raises(InterfaceError, match="`sleep 5` did not end"):
        System().run("sleep", "5")


def test_peers_that_stay_as_they_are_are_not_touched(system: FakeSystem) -> None:
    interface(system).up(TEXT)
    system.commands.clear()
    outcome = interface(system).up(f"{TEXT}\n[Peer]\nPublicKey = {B}\nAllowedIPs = 10.80.0.3/32\n")
    assert outcome.peers.added == [B]
    assert list(system.told) == [B]
    assert [command.split()[:2] for command in system.changes if command.startswith("wg ")] == [["wg", "addconf"]]


def test_a_changed_peer_is_not_pulled_back_to_where_it_was(system: FakeSystem) -> None:
    text = TEXT + "Endpoint = 192.0.2.1:4444\n"
    interface(system).up(text)
    interface(system).up(text + "PersistentKeepalive = 5\n")
    assert (system.told[A].keepalive, system.told[A].endpoint) == (5, "")
