# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Reading, comparing and hiding wg-quick files."""

from __future__ import annotations

import base64
import time

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_config import (
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
from hypothesis import given
from hypothesis import strategies as st


def render(device: Device) -> str:
    """A whole file: what `parse` reads."""
    lines = ["[Interface]", f"PrivateKey = {device.private_key}"] if device.private_key else ["[Interface]"]
    if device.listen_port is not None:
        lines.append(f"ListenPort = {device.listen_port}")
    if device.fwmark is not None:
        lines.append(f"FwMark = {device.fwmark:#x}")
    return "\n".join([*lines, "", render_peers(device.peers.values())])


def key(number: int) -> str:
    """A key that is told by its number, clamped as a private key is."""
    return base64.b64encode(bytes([8 * number, *[number] * 30, 64 + number])).decode()


SECRET, A, B, PSK, PSK2 = (key(number) for number in range(1, 6))
INTERFACE = f"[Interface]\nPrivateKey = {SECRET}\n"
FULL = f"""\
# managed elsewhere
[Interface]
PrivateKey = {SECRET}  # a comment
Address = 10.80.0.1/24, fd00:80::1/64
address=10.81.0.1
ListenPort = 51820
FwMark = 0x2a
MTU = 1400
DNS = 10.0.0.53, corp.example
Table = 77
PostUp = nft -f /etc/a; nft -f /etc/b
PostUp = echo two = 2

[Peer]
PublicKey = {A}
PresharedKey = {PSK}
AllowedIPs = 10.80.0.2/32,10.80.0.77/28
AllowedIPs = FD00:80::0002
Endpoint = [2001:DB8::0:1]:51820
PersistentKeepalive = 25

[peer]
PUBLICKEY = {B}
Endpoint = vpn.example.com:443
PersistentKeepalive = off
"""


def test_parse_reads_all() -> None:
    config = parse(FULL)
    assert config == Config(
        device=Device(
            private_key=SECRET,
            listen_port=51820,
            fwmark=42,
            peers={
                A: Peer(
                    public_key=A,
                    preshared_key=PSK,
                    allowed_ips=frozenset({"10.80.0.2/32", "10.80.0.64/28", "fd00:80::2/128"}),
                    endpoint="[2001:db8::1]:51820",
                    keepalive=25,
                ),
                B: Peer(public_key=B, endpoint="vpn.example.com:443"),
            },
        ),
        addresses=("10.80.0.1/24", "fd00:80::1/64", "10.81.0.1/32"),
        mtu=1400,
        dns=("10.0.0.53", "corp.example"),
        table="77",
        hooks={
            "PreUp": (),
            "PostUp": ("nft -f /etc/a; nft -f /etc/b", "echo two = 2"),
            "PreDown": (),
            "PostDown": (),
        },
    )
    assert not any(secret in repr(config) for secret in (SECRET, PSK))


def test_parse_clamps_the_private_key() -> None:
    unclamped = base64.b64encode(b"\xff" * 32).decode()
    clamped = base64.b64encode(b"\xf8" + b"\xff" * 30 + b"\x7f").decode()
    assert parse(f"[Interface]\nPrivateKey = {unclamped}\n").device.private_key == clamped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"there is no \[Interface\] section"),
        ("PrivateKey = x", r"line 1: this stands before the first section"),
        ("[Interface]\n", r"line 1: \[Interface\] has no PrivateKey"),
        ("[Interface]\nPrivateKey = hunter2", r"^line 2: PrivateKey: a WireGuard key has 44 characters"),
        ("[Interface]\nPrivateKey =", r"line 2: PrivateKey: "),
        (f"[Interface]\n{SECRET}", r"^line 2: \[Interface\] knows no such key$"),
        (INTERFACE + INTERFACE, r"line 3: a second \[Interface\] section"),
        (INTERFACE + f"PrivateKey = {A}", r"line 3: PrivateKey is there twice"),
        (INTERFACE + "[Pear]", r"line 3: neither \[Interface\] nor \[Peer\]"),
        (INTERFACE + "[Peer", r"line 3: neither \[Interface\] nor \[Peer\]"),
        (INTERFACE + "PublicKey = x", r"line 3: \[Interface\] knows no such key: PublicKey"),
        (INTERFACE + "Adress = 10.0.0.1", r"line 3: \[Interface\] knows no such key: Adress"),
        (INTERFACE + "Address", r"line 3: \[Interface\] knows no such key$"),
        (INTERFACE + "ListenPort = 65536", r"line 3: ListenPort: '65536' is not a number from 0 to 65535"),
        (INTERFACE + "ListenPort = -1", r"line 3: ListenPort: '-1'"),
        (INTERFACE + "FwMark = 0x100000000", r"line 3: FwMark: "),
        (INTERFACE + "MTU = 100", r"line 3: MTU: '100' is not a number from 576 to 65535"),
        (INTERFACE + "Address = 10.0.0.256/24", r"line 3: Address: '10.0.0.256/24' is not an IP address"),
        (INTERFACE + f"Address = {PSK}", r"line 3: Address: '\(key\)' is not an IP address"),
        (INTERFACE + "Table = a b", r"line 3: Table: "),
        (INTERFACE + "SaveConfig = yes", r"line 3: SaveConfig: 'yes' is neither true nor false"),
        (INTERFACE + "[Peer]\nAllowedIPs = 10.0.0.1", r"line 3: this \[Peer\] has no PublicKey"),
        (INTERFACE + f"[Peer]\nPublicKey = {A}=", r"line 4: PublicKey: "),
        (INTERFACE + f"[Peer]\nPublicKey = {A}\nAllowedIPs = 10.0.0.0/33", r"line 5: AllowedIPs: '10.0.0.0/33'"),
        (
            INTERFACE + f"[Peer]\nPublicKey = {A}\nEndpoint = example.com",
            r"line 5: Endpoint: 'example.com' is not HOST:PORT",
        ),
        (INTERFACE + f"[Peer]\nPublicKey = {A}\nEndpoint = 2001:db8::1:51820", r"line 5: Endpoint: "),
        (INTERFACE + f"[Peer]\nPublicKey = {A}\nEndpoint = [example.com]:51820", r"line 5: Endpoint: "),
        (INTERFACE + f"[Peer]\nPublicKey = {A}\nEndpoint = 192.0.2.1:0", r"line 5: Endpoint: '0' is not a number"),
        (INTERFACE + f"[Peer]\nPublicKey = {A}\n[Peer]\nPublicKey = {A}\n", rf"line 5: peer {A[:5]}.* is there twice"),
        (
            INTERFACE + f"[Peer]\nPublicKey={A}\nAllowedIPs=10.0.0.9/24\n[Peer]\nPublicKey={B}\nAllowedIPs=10.0.0.0/24",
            r"line 6: AllowedIPs 10.0.0.0/24 belongs to peer .* and to peer ",
        ),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        parse(text)
    shown = f"{refusal.value!r} {refusal.value.__cause__!r} {refusal.value.__context__!r}"
    assert not any(secret in shown for secret in (SECRET, SECRET[:-1], PSK, "hunter2"))


@pytest.mark.parametrize(
    ("lines", "allowed_ips", "fwmark", "default_routes", "routes"),
    [
        ("Address = 10.0.0.1/24", "10.0.0.2/32, 10.1.0.0/16", 0, set(), {"10.1.0.0/16"}),
        ("Address = 10.0.0.1/32", "10.0.0.0/24", 0, set(), {"10.0.0.0/24"}),
        ("Address = fd00::1/64", "fd00::2/128, fd01::/64, 10.0.0.2/32", 0, set(), {"fd01::/64", "10.0.0.2/32"}),
        ("Table = off", "0.0.0.0/0, 10.0.0.0/8", 0, set(), set()),
        ("Table = 77\nAddress = 10.0.0.1/24", "0.0.0.0/0, 10.0.0.2/32", 0, set(), {"0.0.0.0/0", "10.0.0.2/32"}),
        ("Table = AUTO", "0.0.0.0/0, ::/0, 10.0.0.0/8", None, {"0.0.0.0/0", "::/0"}, {"10.0.0.0/8"}),
        ("FwMark = 7", "::/0", 7, {"::/0"}, set()),
        ("FwMark = off", "::/0", None, {"::/0"}, set()),
    ],
)
def test_routes_are_those_of_wg_quick(
    lines: str, allowed_ips: str, fwmark: int | None, default_routes: set[str], routes: set[str]
) -> None:
    config = parse(f"{INTERFACE}{lines}\n[Peer]\nPublicKey = {A}\nAllowedIPs = {allowed_ips}\n")
    assert (config.device.fwmark, config.default_routes, config.routes) == (fwmark, default_routes, routes)


def test_parse_dump() -> None:
    dump = (
        f"{SECRET}\t{B}\t51820\t0x2a\n"
        f"{A}\t{PSK}\t[2001:db8::1]:51820\t10.80.0.2/32,fd00:80::2/128\t1700000000\t10\t20\t25\n"
        f"{B}\t(none)\t(none)\t(none)\t0\t0\t0\toff\n"
    )
    assert parse_dump(dump) == Device(
        private_key=SECRET,
        listen_port=51820,
        fwmark=42,
        peers={
            A: Peer(A, PSK, frozenset({"10.80.0.2/32", "fd00:80::2/128"}), "[2001:db8::1]:51820", 25),
            B: Peer(B),
        },
    )
    assert parse_dump("(none)\t(none)\t4242\toff\n") == Device(listen_port=4242)


@pytest.mark.parametrize(
    "dump", ["", f"{SECRET}\t{B}\n", f"{SECRET}\t{B}\tport\toff\n", f"{SECRET}\t{B}\t1\toff\n{PSK}\n"]
)
def test_parse_dump_of_another_format(dump: str) -> None:
    with pytest.raises(ConfigError, match="unknown format") as refusal:
        parse_dump(dump)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


raw_keys = st.binary(min_size=32, max_size=32).filter(any).map(lambda raw: base64.b64encode(raw).decode())
peers = st.builds(
    Peer,
    public_key=raw_keys,
    preshared_key=st.one_of(st.just(""), raw_keys),
    endpoint=st.sampled_from(["", "192.0.2.1:1", "[2001:db8::1]:65535", "vpn.example.com:443"]),
    keepalive=st.integers(0, 65535),
)
devices = st.builds(
    Device,
    private_key=st.just(SECRET),
    listen_port=st.one_of(st.none(), st.integers(1, 65535)),
    fwmark=st.integers(0, 2**32 - 1),
    peers=st.lists(peers, max_size=4).map(lambda found: {peer.public_key: peer for peer in found}),
)


@given(devices)
def test_render_is_what_parse_reads(device: Device) -> None:
    assert parse(render(device)).device == device


def test_render_of_prefixes() -> None:
    device = Device(SECRET, peers={A: Peer(A, allowed_ips=frozenset({"10.0.0.1/32", "fd00::/64"}))})
    assert "AllowedIPs = 10.0.0.1/32, fd00::/64\n" in render(device)
    assert parse(render(device)).device == device


LIVE = "198.51.100.9:999"


@pytest.mark.parametrize(
    ("desired", "live", "previous", "settled"),
    [
        pytest.param("192.0.2.1:1", None, None, "192.0.2.1:1", id="new peer"),
        pytest.param("192.0.2.1:1", "", "192.0.2.1:1", "192.0.2.1:1", id="live has none"),
        pytest.param("192.0.2.1:1", LIVE, "192.0.2.1:1", LIVE, id="roamed"),
        pytest.param("192.0.2.2:1", LIVE, "192.0.2.1:1", "192.0.2.2:1", id="file changed"),
        pytest.param("192.0.2.1:1", LIVE, None, "192.0.2.1:1", id="no file"),
        pytest.param("a.example:1", LIVE, "a.example:1", LIVE, id="name"),
        pytest.param("b.example:1", LIVE, "a.example:1", "b.example:1", id="another name"),
        pytest.param("", LIVE, "", LIVE, id="never had one"),
        pytest.param("", LIVE, "192.0.2.1:1", LIVE, id="no more"),
    ],
)
def test_settle_endpoint(desired: str, live: str | None, previous: str | None, settled: str) -> None:
    def device(endpoint: str | None) -> Device:
        return Device(SECRET, peers={} if endpoint is None else {A: Peer(A, endpoint=endpoint)})

    known = None if previous is None else device(previous)
    assert settle(device(desired), device(live), known).peers[A].endpoint == settled


def test_settle_keeps_what_is_left_open() -> None:
    live = Device(SECRET, listen_port=4242, fwmark=51820)
    assert settle(Device(SECRET, listen_port=None, fwmark=None), live, None) == live
    chosen = Device(SECRET, listen_port=51820, fwmark=0)
    assert settle(chosen, live, None) == chosen


def test_redact_tells_what_changed() -> None:
    old = f"[Interface]\nPrivateKey = {SECRET} # since spring\n[Peer]\nPublicKey = {A}\nPresharedKey = {PSK}\n"
    new = (
        f"[Interface]\nPrivateKey = {SECRET}\nPostUp = wg set %i peer {B} preshared-key <(echo {PSK2})\n"
        f"# PrivateKey = {B}\n[Peer]\npresharedkey={PSK2}\nPublicKey = {A}# was {PSK}\n"
        f"[Peer]\nPublicKey = {B}\nPresharedKey = too-short\n"
    )
    assert redact(old) == f"[Interface]\nPrivateKey = (hidden)\n[Peer]\nPublicKey = {A}\nPresharedKey = (hidden)\n"
    assert redact(new, old).splitlines() == [
        "[Interface]",
        "PrivateKey = (hidden)",
        "PostUp = wg set %i peer (hidden) preshared-key <(echo (hidden))",
        "# PrivateKey = (hidden)",
        "[Peer]",
        "presharedkey=(hidden, changed)",
        f"PublicKey = {A}# was (hidden)",
        "[Peer]",
        f"PublicKey = {B}",
        "PresharedKey = (hidden)",
    ]


@given(devices, devices)
def test_redact_shows_no_secret(device: Device, previous: Device) -> None:
    shown = redact(render(device), render(previous))
    secrets = {device.private_key, *(peer.preshared_key for peer in device.peers.values())} - {""}
    assert not any(secret in shown for secret in secrets - set(device.peers))
    assert all(public in shown for public in device.peers)


def test_hide_keys() -> None:
    assert hide_keys(f"Key is not the correct length: `{SECRET}'") == "Key is not the correct length: `(key)'"


def test_ten_thousand_peers_are_read_in_linear_time() -> None:
    def text(count: int) -> str:
        peers = (
            f"[Peer]\nPublicKey = {base64.b64encode((i + 1).to_bytes(32, 'big')).decode()}\n"
            f"AllowedIPs = 10.{i >> 8}.{i & 255}.1/32, fd00::{i:x}/128\n"
            for i in range(count)
        )
        return INTERFACE + "Address = 172.16.0.1/24\n" + "".join(peers)

    large = text(10_000)
    started = time.process_time()
    config = parse(large)
    assert len(config.routes) == 20_000
    assert redact(large, large).count("(hidden)") == 1
    # A tenth of this is usual; anything quadratic takes minutes.
    assert time.process_time() - started < 20
