# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""wg_interface on real interfaces: wireguard-go in private network, mount and process namespaces, without systemd."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import (
    generate_preshared_key,
    generate_private_key,
    public_key,
)
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_config import parse, parse_dump
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_interface import (
    Interface,
    InterfaceError,
    Outcome,
    Result,
    System,
)

TOOLS = ("unshare", "nsenter", "ip", "wg", "wg-quick", "wireguard-go", "ping")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}"),
]

KEY, CLIENT_KEY = generate_private_key(), generate_private_key()
CLIENT, OTHER = public_key(CLIENT_KEY), public_key(generate_private_key())

BASE = f"""\
[Interface]
PrivateKey = {KEY}
ListenPort = 51820
Address = 10.80.0.1/24, fd00:80::1/64
MTU = 1400
Table = off

[Peer]
PublicKey = {CLIENT}
AllowedIPs = 10.80.0.2/32, fd00:80::2/128
"""
PEER = f"\n[Peer]\nPublicKey = {OTHER}\nAllowedIPs = 10.80.0.3/32, 192.0.2.0/24, 2001:db8::/32\n"

UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")

# What only looks. Everything else that a run does changes the host.
QUERIES = (("ip", "-json"), ("ip", "link", "show"), ("wg", "show"))


class Namespace(System):
    """A host of its own. All its processes die with it."""

    has_systemd = False

    def __init__(self, etc: Path) -> None:
        etc.mkdir(mode=0o700, exist_ok=True)
        setup = f"mount -t tmpfs none /run && mkdir /run/wireguard && mount --bind {etc} /etc/wireguard"
        self.holder = subprocess.Popen(
            [*UNSHARE, "sh", "-c", f"{setup} && ip link set lo up && echo ready && exec sleep 600"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.holder.stdout
        assert self.holder.stdout.readline() == "ready\n"
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children")
        self.pid = children.read_text().strip()
        self.enter = ("nsenter", "--target", self.pid, "--net", "--mount", "--pid")
        self.commands: list[tuple[str, ...]] = []

    def run(self, *argv: str, stdin: str = "") -> Result:
        self.commands.append(argv)
        return super().run(*self.enter, *argv, stdin=stdin)

    def do(self, command: str, stdin: str = "") -> str:
        done = super().run(*self.enter, *command.split(), stdin=stdin)
        assert done.rc == 0, f"{command}: {done.err}"
        return done.out

    @property
    def changes(self) -> list[tuple[str, ...]]:
        return [argv for argv in self.commands if not any(argv[: len(query)] == query for query in QUERIES)]

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()
        assert self.holder.stdout
        self.holder.stdout.close()


class Host:
    """A namespace with the interface `wgt` under test."""

    def __init__(self, etc: Path) -> None:
        self.etc = etc
        self.system = Namespace(etc)
        self.file = etc / "wgt.conf"

    def interface(self, check_mode: bool = False) -> Interface:
        return Interface("wgt", check_mode=check_mode, system=self.system, directory=self.etc)

    def up(
        self, text: str, *, check_mode: bool = False, allow_key_change: bool = False, expired: tuple[str, ...] = ()
    ) -> Outcome:
        self.system.commands.clear()
        return self.interface(check_mode).up(text, allow_key_change=allow_key_change, expired=expired)

    def dump(self) -> str:
        return self.system.do("wg show wgt dump")

    def peers(self) -> set[str]:
        return set(parse_dump(self.dump()).peers)

    def addresses(self) -> str:
        return self.system.do("ip -brief address show dev wgt")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path / "etc")
    with contextlib.closing(host.system):
        yield host


@pytest.fixture
def client(host: Host, tmp_path: Path) -> Iterator[Namespace]:
    """A stock client, one link away at 198.51.100.2."""
    with contextlib.closing(Namespace(tmp_path / "client")) as client:
        # From outside of the process namespace, where the other one's process has a number.
        veth = f"ip link add name front type veth peer name front netns {client.pid}"
        subprocess.run(["nsenter", "--target", host.system.pid, "--net", *veth.split()], check=True)
        for system, last in ((host.system, 1), (client, 2)):
            system.do(f"ip address add 198.51.100.{last}/24 dev front")
            system.do("ip link set front up")
        (tmp_path / "client" / "wgc.conf").write_text(
            f"[Interface]\nPrivateKey = {CLIENT_KEY}\nAddress = 10.80.0.2/24\n"
            f"[Peer]\nPublicKey = {public_key(KEY)}\nAllowedIPs = 10.80.0.0/24\nEndpoint = 198.51.100.1:51820\n"
        )
        client.do("wg-quick up wgc")
        yield client


@contextlib.contextmanager
def replaced(host: Host, tmp_path: Path, command: str, script: str) -> Iterator[None]:
    """Put a faulty command in the real one's place."""
    path = shutil.which(command)
    fault = tmp_path / f"faulty-{command}"
    shutil.copy(str(path), tmp_path / f"real-{command}")
    fault.write_text(f"#!/bin/bash\nreal={tmp_path}/real-{command}\n{script}\n")
    fault.chmod(0o755)
    host.system.do(f"mount --bind {fault} {path}")
    try:
        yield
    finally:
        host.system.do(f"umount {path}")


def test_start_then_nothing(host: Host) -> None:
    predicted = host.up(BASE, check_mode=True)
    assert host.system.changes == []
    assert not host.file.exists()
    done = host.up(BASE)
    assert done.actions == predicted.actions == ["file", "start"]
    assert done.public_key == public_key(KEY)
    assert done.peers.added == [CLIENT]
    assert host.file.stat().st_mode & 0o777 == 0o600
    assert host.file.read_text() == BASE
    again = host.up(BASE)
    assert not again.changed
    assert host.system.changes == []
    assert list(host.etc.iterdir()) == [host.file]


def test_sync_loses_no_packet_of_others(host: Host, client: Namespace) -> None:
    host.up(BASE)
    client.do("ping -c 1 -W 5 10.80.0.1")
    ping = subprocess.Popen(
        [*client.enter, "ping", "-i", "0.002", "-c", "2000", "-w", "30", "10.80.0.1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    added = host.up(BASE + PEER)
    removed = host.up(BASE)
    assert ping.poll() is None, "the changes have to fall into the ping's time"
    report, _ = ping.communicate(timeout=60)
    assert (added.actions, added.peers.added, added.restarted) == (["sync", "file"], [OTHER], False)
    assert (removed.actions, removed.peers.removed) == (["sync", "file"], [OTHER])
    assert host.peers() == {CLIENT}
    answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", report)}
    assert answered == {*range(1, 2001)}


def test_all_that_can_change_of_peers(host: Host) -> None:
    third, secret = public_key(generate_private_key()), generate_preshared_key()
    host.up(f"{BASE}PresharedKey = {secret}\nPersistentKeepalive = 25\n{PEER}[Peer]\nPublicKey = {third}\n")
    # One loses all that it may lose, one gets its networks, one goes, and one comes.
    fourth = public_key(generate_private_key())
    text = (
        f"{BASE.replace('10.80.0.2/32, fd00:80::2/128', '')}\n"
        f"[Peer]\nPublicKey = {OTHER}\nAllowedIPs = 192.0.2.0/24, 10.80.0.2/32\nPresharedKey = {secret}\n\n"
        f"[Peer]\nPublicKey = {fourth}\nAllowedIPs = fd00:80::2/128\nEndpoint = 198.51.100.9:1000\n"
    )
    done = host.up(text)
    assert (done.peers.added, done.peers.removed, set(done.peers.changed)) == ([fourth], [third], {CLIENT, OTHER})
    assert {argv[1] for argv in host.system.changes if argv[0] == "wg"} == {"set", "addconf"}
    assert parse_dump(host.dump()).peers == parse(text).device.peers
    assert not host.up(text).changed


def test_roamed_peer_is_left_alone(host: Host, client: Namespace) -> None:
    text = BASE + "Endpoint = 203.0.113.1:1000\n"
    host.up(text)
    client.do("ping -c 1 -W 5 10.80.0.1")
    roamed = parse_dump(host.dump()).peers[CLIENT].endpoint
    assert roamed.startswith("198.51.100.2:")
    assert not host.up(text).changed
    assert host.up(text + PEER).actions == ["sync", "file"]
    assert parse_dump(host.dump()).peers[CLIENT].endpoint == roamed
    # Another endpoint in the file is somebody's wish.
    host.up(text.replace("203.0.113.1:1000", "203.0.113.1:2000"))
    assert parse_dump(host.dump()).peers[CLIENT].endpoint == "203.0.113.1:2000"


@pytest.mark.parametrize(
    "script",
    ['[[ $1 != strip ]] || exit 1\nexec $real "$@"', "exit 0", "echo '[Interface]'; echo 'ListenPort = 51820'"],
    ids=["fails", "prints nothing", "loses the key"],
)
def test_failing_strip_touches_nothing(host: Host, tmp_path: Path, script: str) -> None:
    host.up(BASE)
    before = host.dump()
    with replaced(host, tmp_path, "wg-quick", script), pytest.raises(InterfaceError, match="wg-quick strip"):
        host.up(BASE + PEER)
    assert host.dump() == before
    assert host.file.read_text() == BASE
    assert [argv[0] for argv in host.system.changes] == ["wg-quick"]


def test_sync_that_goes_wrong_is_put_back(host: Host, tmp_path: Path) -> None:
    host.up(BASE)
    before = host.dump()
    # The first command does nothing but lose a peer and move; it says that all is well.
    script = (
        f"[[ $1 == addconf ]] && mkdir {tmp_path}/done"
        f' && exec $real set wgt listen-port 4444 peer {CLIENT} remove\nexec $real "$@"'
    )
    with replaced(host, tmp_path, "wg", script), pytest.raises(InterfaceError) as failure:
        host.up(BASE + PEER)
    assert "is put back" in str(failure.value)
    assert "listen port 4444 instead of 51820, peers missing: 2" in str(failure.value)
    assert host.dump() == before
    assert host.file.read_text() == BASE


def test_failure_of_the_last_step_undoes_all(host: Host) -> None:
    text = BASE.replace("off", "auto")
    host.up(text)
    # Peer, MTU and addresses are changed by the time this route is in the way of the last of ours.
    host.system.do("ip route add unreachable 192.0.2.0/24")

    def state() -> tuple[str, ...]:
        shown = ("wg show wgt dump", "ip -brief link show", "ip -brief address show", "ip route show")
        return (*map(host.system.do, shown), host.file.read_text())

    before = state()
    secret = f"PresharedKey = {generate_preshared_key()}\nPersistentKeepalive = 25\n"
    with pytest.raises(InterfaceError, match=r"put back.*File exists"):
        host.up((text + secret + PEER).replace("1400", "1380").replace("10.80.0.1/24", "10.80.0.9/24"))
    assert host.system.changes[1][:2] == ("wg", "addconf")
    assert state() == before


def test_drift_is_repaired(host: Host) -> None:
    host.up(BASE)
    host.system.do("ip link set dev wgt down mtu 1280")
    host.system.do("ip address delete 10.80.0.1/24 dev wgt")
    host.system.do("ip address add 10.99.0.1/24 dev wgt")
    host.system.do(f"wg set wgt listen-port 4444 peer {CLIENT} remove")
    done = host.up(BASE)
    assert done.actions == ["sync", "mtu", "link", "address"]
    assert "10.80.0.1/24 fd00:80::1/64" in host.addresses()
    assert "10.99.0.1" not in host.addresses()
    assert "mtu 1400" in host.system.do("ip link show dev wgt")
    assert host.peers() == {CLIENT}
    assert not host.up(BASE).changed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("10.80.0.1/24, fd00:80::1/64", "10.80.0.9/24, fd00:80::1/128"),
        ("10.80.0.1/24, fd00:80::1/64", "10.80.0.1/16"),
        ("10.80.0.1/24, 10.80.0.2/24, 10.80.0.3/24", "10.80.0.3/24, 10.80.0.4/24"),
    ],
)
def test_addresses_move(host: Host, old: str, new: str) -> None:
    text = BASE.replace("10.80.0.1/24, fd00:80::1/64", old)
    host.up(text)
    changed = host.up(text.replace(old, new))
    assert changed.actions == ["address", "file"]
    shown = {word for word in host.addresses().split()[2:] if not word.startswith("fe80")}
    assert shown == set(new.split(", "))
    assert not host.up(text.replace(old, new)).changed


def test_routes_of_others_survive_a_new_prefix_length(host: Host) -> None:
    host.up(BASE)
    for family in ("-4", "-6"):
        host.system.do(f"ip {family} route add default dev wgt table 51831")
    host.up(BASE.replace("10.80.0.1/24, fd00:80::1/64", "10.80.0.1/32, fd00:80::1/128"))
    for family in ("-4", "-6"):
        assert "default" in host.system.do(f"ip {family} route show table 51831")


@pytest.mark.parametrize(("table", "shown"), [("auto", "main"), ("off", "main"), ("77", "77")])
def test_routes_follow_allowed_ips(host: Host, table: str, shown: str) -> None:
    text = BASE.replace("off", table)

    def routes() -> set[str]:
        found = [host.system.run("ip", family, "route", "show", "table", shown).out for family in ("-4", "-6")]
        return {line.split()[0] for lines in found for line in lines.splitlines() if "kernel" not in line}

    host.up(text)
    own = routes()
    host.system.do(f"ip route add 203.0.113.0/24 dev wgt table {shown}")
    added = host.up(text + PEER)
    expected = {"off": set(), "auto": {"192.0.2.0/24", "2001:db8::/32"}}.get(
        table, {"192.0.2.0/24", "2001:db8::/32", "10.80.0.3"}
    )
    assert routes() == own | expected | {"203.0.113.0/24"}
    assert ("route" in added.actions) == bool(expected)
    assert not host.up(text + PEER).changed
    host.up(text)
    assert routes() == own | {"203.0.113.0/24"}, "what somebody else added stays"


def test_full_tunnel_keeps_its_mark(host: Host) -> None:
    text = BASE.replace("Table = off\n", "").replace("ListenPort = 51820\n", "") + "AllowedIPs = 0.0.0.0/0\n"
    host.up(text)
    live = parse_dump(host.dump())
    assert live.fwmark
    assert not host.up(text).changed
    changed = host.up(text + "PersistentKeepalive = 25\n")
    assert changed.actions == ["sync", "file"]
    now = parse_dump(host.dump())
    assert (now.fwmark, now.listen_port) == (live.fwmark, live.listen_port)
    assert now.peers[CLIENT].keepalive == 25
    narrowed = host.up(text.replace("AllowedIPs = 0.0.0.0/0\n", ""))
    assert narrowed.restarted
    assert "not from all fwmark" not in host.system.do("ip rule show")


def test_hooks_restart_and_undo_themselves(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def text(word: str) -> str:
        hooks = f"PostUp = echo up {word} >> {log}\nPostDown = echo down {word} >> {log}\n"
        return BASE.replace("Table = off\n", f"Table = off\n{hooks}")

    host.up(text("old"))
    done = host.up(text("new"))
    assert done.restarted
    assert done.actions == ["restart", "file"]
    assert log.read_text().splitlines() == ["up old", "down old", "up new"]
    assert host.file.read_text() == text("new")
    assert not host.up(text("new")).changed


def test_failed_restart_runs_as_before(host: Host) -> None:
    host.up(BASE)
    before = host.dump()
    with pytest.raises(InterfaceError, match="runs with its old file again"):
        host.up(BASE.replace("Table = off", "Table = off\nPostUp = false"))
    assert host.dump() == before
    assert host.file.read_text() == BASE


@pytest.mark.parametrize("before", [None, BASE])
def test_failed_start_restores_the_file(host: Host, before: str | None) -> None:
    if before:
        host.file.write_text(before)
    with pytest.raises(InterfaceError, match="did not start") as failure:
        host.up(BASE.replace("Table = off", "Table = off\nPostUp = false"))
    assert KEY not in str(failure.value)
    assert (host.file.read_text() if host.file.exists() else None) == before
    assert not host.interface()._exists()


@pytest.mark.parametrize("running", [True, False])
def test_key_is_not_replaced_by_mistake(host: Host, running: bool) -> None:
    host.up(BASE)
    if not running:
        host.interface().down()
    other = BASE.replace(KEY, CLIENT_KEY).replace(CLIENT, OTHER)
    with pytest.raises(InterfaceError, match="allow_key_change") as failure:
        host.up(other)
    assert public_key(KEY) in str(failure.value)
    assert KEY not in str(failure.value)
    assert host.file.read_text() == BASE
    assert host.up(other, allow_key_change=True).public_key == public_key(CLIENT_KEY)
    assert parse_dump(host.dump()).private_key == CLIENT_KEY


@pytest.mark.parametrize(
    "step", ["wg-quick strip", "wg addconf", "ip link set", "ip address add", "ip address delete", "ip -batch"]
)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_next_run_finishes_what_a_killed_one_began(host: Host, step: str, moment: str) -> None:
    first = BASE.replace("off", "auto")
    then = (first + PEER).replace("1400", "1380").replace("10.80.0.1/24", "10.80.0.9/24")
    host.up(first)
    run = host.system.run

    def killed(*argv: str, stdin: str = "") -> Result:
        hit = " ".join(argv).startswith(step)
        if hit and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = run(*argv, stdin=stdin)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    child = os.fork()
    if child == 0:
        host.system.run = killed  # type: ignore[method-assign]
        host.up(then)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert host.file.read_text() == first
    host.up(then)
    assert host.file.read_text() == then
    assert host.peers() == {CLIENT, OTHER}
    assert "10.80.0.9/24" in host.addresses()
    assert "10.80.0.1/24" not in host.addresses()
    assert "192.0.2.0/24 dev wgt" in host.system.do("ip route show")
    assert "mtu 1380" in host.system.do("ip link show dev wgt")
    assert not host.up(then).changed
    assert list(host.etc.iterdir()) == [host.file]


def test_down_and_absent(host: Host) -> None:
    host.up(BASE)
    assert host.interface(check_mode=True).down().actions == ["stop"]
    assert host.interface().down().actions == ["stop"]
    assert not host.interface().down().changed
    assert host.up(BASE).actions == ["start"]
    assert host.interface().down(remove=True).actions == ["stop", "file"]
    assert not host.file.exists()
    assert not host.interface().down(remove=True).changed


def test_lost_file_is_written_again(host: Host) -> None:
    host.up(BASE)
    host.file.unlink()
    done = host.up(BASE)
    assert done.actions == ["file"]
    assert "until the next restart" in done.warnings[0]


def test_an_expired_peer_is_no_difference(host: Host) -> None:
    host.up(BASE + PEER)
    host.system.do(f"wg set wgt peer {OTHER} remove")  # as the node's agent does
    assert not host.up(BASE + PEER, expired=(OTHER,)).changed
    assert host.up(BASE + PEER).peers.added == [OTHER]
    assert host.up(BASE + PEER, expired=(OTHER,)).actions == ["sync"]
    assert host.peers() == {CLIENT}


def test_a_restart_brings_no_expired_peer_back(host: Host) -> None:
    host.up(BASE + PEER, expired=(OTHER,))
    assert host.peers() == {CLIENT}
    assert host.up(BASE.replace("Table = off", "Table = off\nPostUp = true") + PEER, expired=(OTHER,)).restarted
    assert host.peers() == {CLIENT}
