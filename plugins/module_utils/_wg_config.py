# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What a wg-quick file says and what a live interface holds, in the same words.

A `Device` is what wg(8) knows: keys, port, mark, peers. A `Config` is a Device and what wg-quick(8) does around it:
addresses, MTU, DNS, routes, hooks. Both sides come out of the parsers in canonical form, so comparing is `==`.

No error, no repr and no redacted text holds a private or preshared key.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Callable

from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError, validate_key

DEFAULT_ROUTES = frozenset({"0.0.0.0/0", "::/0"})
UP_HOOKS = ("PreUp", "PostUp")
DOWN_HOOKS = ("PreDown", "PostDown")

_KEY_SHAPED = re.compile(r"[A-Za-z0-9+/]{43}=")
_SECTION = re.compile(r"^\s*\[")
_PUBLIC_LINE = re.compile(r"^\s*PublicKey\s*=\s*([^\s#]*)", re.IGNORECASE)
# A key that was commented out is still a key.
_SECRET_LINE = re.compile(r"^([\s#]*(PrivateKey|PresharedKey)\s*=\s*)(.*?)\s*$", re.IGNORECASE)


class ConfigError(ValueError):
    """The text is no valid configuration. The message names line and key, and never a secret."""


@dataclass(frozen=True)
class Peer:
    """One peer, as wg(8) knows it."""

    public_key: str
    preshared_key: str = field(default="", repr=False)
    allowed_ips: frozenset[str] = frozenset()
    endpoint: str = ""
    """`192.0.2.1:51820`, `[2001:db8::1]:51820` or `name:51820`; empty where the peer comes to us."""
    keepalive: int = 0
    """Seconds; 0 is off."""


@dataclass(frozen=True)
class Device:
    """What wg(8) knows of an interface. None: left open, somebody else chooses."""

    private_key: str = field(default="", repr=False)
    listen_port: int | None = None
    fwmark: int | None = 0
    peers: dict[str, Peer] = field(default_factory=dict)

    @property
    def allowed_ips(self) -> frozenset[str]:
        return frozenset().union(*(peer.allowed_ips for peer in self.peers.values()))


@dataclass(frozen=True)
class Config:
    """A wg-quick file."""

    device: Device
    addresses: tuple[str, ...] = ()
    mtu: int | None = None
    dns: tuple[str, ...] = ()
    table: str = "auto"
    hooks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    save_config: bool = False

    @property
    def default_routes(self) -> frozenset[str]:
        """The default routes that wg-quick builds rules, a mark and firewall chains for."""
        return self.device.allowed_ips & DEFAULT_ROUTES if self.table == "auto" else frozenset()

    @property
    def routes(self) -> frozenset[str]:
        """The plain routes that wg-quick adds: AllowedIPs that no network of our own addresses covers already."""
        if self.table == "off":
            return frozenset()
        allowed = self.device.allowed_ips
        if self.table != "auto":
            return allowed
        connected = {ipaddress.ip_interface(address).network for address in self.addresses}
        # A /32 or /128 is no connected network: it makes a local route only.
        connected = {network for network in connected if network.num_addresses > 1}
        return frozenset(
            prefix for prefix in allowed - DEFAULT_ROUTES if not _covered(ipaddress.ip_network(prefix), connected)
        )


def _covered(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
    by: set[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> bool:
    return any(network.version == other.version and network.subnet_of(other) for other in by)  # type: ignore[arg-type]


# --- values ---------------------------------------------------------------------------------------------------------


def _key(text: str) -> str:
    try:
        return validate_key(text)
    except KeyFormatError as error:
        raise ConfigError(str(error)) from None


def _private_key(text: str) -> str:
    """Clamped (RFC 7748, section 5), as WireGuard stores and shows it: unclamped twins are the same key."""
    raw = bytearray(base64.b64decode(_key(text)))
    raw[0] &= 0b1111_1000
    raw[31] = (raw[31] & 0b0111_1111) | 0b0100_0000
    return base64.b64encode(bytes(raw)).decode("ascii")


def _number(text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise ConfigError(f"{hide_keys(text)!r} is not a number from {low} to {high}")
    return int(text)


def _fwmark(text: str) -> int:
    if text.lower() == "off":
        return 0
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", text):
        return int(text, 16)
    return _number(text, 0, 2**32 - 1)


def _keepalive(text: str) -> int:
    return 0 if text.lower() == "off" else _number(text, 0, 65535)


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_interface(text))
    except ValueError:
        raise ConfigError(f"{hide_keys(text)!r} is not an IP address with an optional prefix length") from None


def _prefix(text: str) -> str:
    try:
        # WireGuard masks host bits away, and so do we.
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ConfigError(f"{hide_keys(text)!r} is not an IP prefix") from None


def _endpoint(text: str) -> str:
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed) or re.search(r"\s", text):
        raise ConfigError(f"{hide_keys(text)!r} is not HOST:PORT or [IPv6]:PORT")
    number = _number(port, 1, 65535)
    if not bracketed:
        return f"{host}:{number}"
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1])}]:{number}"
    except ValueError:
        raise ConfigError(f"{hide_keys(text)!r} is not HOST:PORT or [IPv6]:PORT") from None


def _table(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", text):
        raise ConfigError(f"{hide_keys(text)!r} is not auto, off or a routing table")
    return text.lower() if text.lower() in ("auto", "off") else text


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"{hide_keys(text)!r} is neither true nor false")
    return text.lower() == "true"


# --- wg-quick files -------------------------------------------------------------------------------------------------

# Parsers of one value each; those in _LISTS and the hooks may be given on several lines. Keys compare without case,
# as in wg(8).
_INTERFACE: dict[str, Callable[[str], object]] = {
    "PrivateKey": _private_key,
    "ListenPort": functools.partial(_number, low=0, high=65535),
    "FwMark": _fwmark,
    "Address": lambda text: [_address(word) for word in _words(text)],
    "MTU": functools.partial(_number, low=576, high=65535),
    "DNS": _words,
    "Table": _table,
    "SaveConfig": _boolean,
    **{hook: lambda text: [text] for hook in (*UP_HOOKS, *DOWN_HOOKS)},
}
_PEER: dict[str, Callable[[str], object]] = {
    "PublicKey": _key,
    "PresharedKey": _key,
    "AllowedIPs": lambda text: [_prefix(word) for word in _words(text)],
    "Endpoint": _endpoint,
    "PersistentKeepalive": _keepalive,
}
_SECTIONS = {"interface": ("Interface", _INTERFACE), "peer": ("Peer", _PEER)}
_LISTS = frozenset({"Address", "DNS", "AllowedIPs", *UP_HOOKS, *DOWN_HOOKS})


@dataclass
class _Section:
    name: str
    line: int
    values: dict


def parse(text: str) -> Config:
    """Read a wg-quick file. Raises ConfigError, naming the line, for anything that wg or wg-quick might take amiss."""
    interface: _Section | None = None
    peers: dict[str, Peer] = {}
    owners: dict[str, str] = {}
    for section in _sections(text):
        if section.name == "Interface":
            if interface:
                raise ConfigError(f"line {section.line}: a second [Interface] section")
            interface = section
            continue
        peer = _peer(section)
        if peer.public_key in peers:
            raise ConfigError(f"line {section.line}: peer {peer.public_key} is there twice")
        peers[peer.public_key] = peer
        for prefix in peer.allowed_ips:
            # WireGuard would give it to the last one, in silence.
            if prefix in owners:
                raise ConfigError(
                    f"line {section.line}: AllowedIPs {prefix} belongs to peer {owners[prefix]} "
                    f"and to peer {peer.public_key}"
                )
            owners[prefix] = peer.public_key
    if interface is None:
        raise ConfigError("there is no [Interface] section")
    return _config(interface, peers)


def _peer(section: _Section) -> Peer:
    values = section.values
    if "PublicKey" not in values:
        raise ConfigError(f"line {section.line}: this [Peer] has no PublicKey")
    return Peer(
        public_key=values["PublicKey"],
        preshared_key=values.get("PresharedKey", ""),
        allowed_ips=frozenset(values.get("AllowedIPs", ())),
        endpoint=values.get("Endpoint", ""),
        keepalive=values.get("PersistentKeepalive", 0),
    )


def _config(section: _Section, peers: dict[str, Peer]) -> Config:
    values = section.values
    if "PrivateKey" not in values:
        raise ConfigError(f"line {section.line}: [Interface] has no PrivateKey")
    device = Device(
        private_key=values["PrivateKey"],
        listen_port=values.get("ListenPort") or None,
        fwmark=values.get("FwMark", 0),
        peers=peers,
    )
    config = Config(
        device=device,
        addresses=tuple(dict.fromkeys(values.get("Address", ()))),
        mtu=values.get("MTU"),
        dns=tuple(values.get("DNS", ())),
        table=values.get("Table", "auto"),
        hooks={hook: tuple(values.get(hook, ())) for hook in (*UP_HOOKS, *DOWN_HOOKS)},
        save_config=values.get("SaveConfig", False),
    )
    if config.default_routes and not device.fwmark:
        # wg-quick picks a mark of its own for a default route. Setting 0 would loop the tunnel into itself.
        return replace(config, device=replace(device, fwmark=None))
    return config


def _sections(text: str) -> Iterator[_Section]:
    section: _Section | None = None
    # wg-quick reads lines up to \n only; splitlines() would see more of them.
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            if section:
                yield section
            name = line[1:-1].lower() if line.endswith("]") else ""
            if name not in _SECTIONS:
                raise ConfigError(f"line {number}: neither [Interface] nor [Peer]")
            section = _Section(_SECTIONS[name][0], number, {})
        elif section is None:
            raise ConfigError(f"line {number}: this stands before the first section")
        else:
            _read_line(section, number, line)
    if section:
        yield section


def _read_line(section: _Section, number: int, line: str) -> None:
    written, equals, text = (part.strip() for part in line.partition("="))
    parsers = _SECTIONS[section.name.lower()][1]
    key = _canonical_names(section.name).get(written.lower())
    if not equals or key is None:
        # What stands here may be a secret that lost its key: show it only when it looks like a word.
        shown = f": {written}" if equals and re.fullmatch(r"[A-Za-z]{1,20}", written) else ""
        raise ConfigError(f"line {number}: [{section.name}] knows no such key{shown}")
    try:
        value = parsers[key](text)
    except ConfigError as error:
        raise ConfigError(f"line {number}: {key}: {error}") from None
    if key in _LISTS:
        section.values.setdefault(key, []).extend(value)
    elif key in section.values:
        raise ConfigError(f"line {number}: {key} is there twice")
    else:
        section.values[key] = value


@functools.cache
def _canonical_names(section: str) -> dict[str, str]:
    return {key.lower(): key for key in _SECTIONS[section.lower()][1]}


# --- live interfaces ------------------------------------------------------------------------------------------------


def parse_dump(text: str) -> Device:
    """Read the output of `wg show NAME dump`: fields between tabs, the interface in the first line, then peers."""
    try:
        head, *tail = text.splitlines()
        private_key, _public_key, listen_port, fwmark = head.split("\t")
        peers = {}
        for line in tail:
            public_key, preshared_key, endpoint, allowed_ips, _seen, _rx, _tx, keepalive = line.split("\t")
            peers[public_key] = Peer(
                public_key=public_key,
                preshared_key=_present(preshared_key),
                allowed_ips=frozenset(_prefix(word) for word in _words(_present(allowed_ips))),
                endpoint=_endpoint(endpoint) if _present(endpoint) else "",
                keepalive=_keepalive(keepalive),
            )
        return Device(
            private_key=_private_key(private_key) if _present(private_key) else "",
            listen_port=int(listen_port),
            fwmark=_fwmark(fwmark),
            peers=peers,
        )
    except ConfigError:
        raise
    except ValueError:
        # The lines hold keys: nothing of them may travel along, not even as a cause.
        error = ConfigError("`wg show dump` answered in an unknown format")
    raise error


def _present(text: str) -> str:
    return "" if text == "(none)" else text


def render_peers(peers: Iterable[Peer]) -> str:
    """The file that `wg addconf` reads."""
    lines = []
    for peer in peers:
        lines += ["[Peer]", f"PublicKey = {peer.public_key}"]
        if peer.preshared_key:
            lines.append(f"PresharedKey = {peer.preshared_key}")
        if peer.allowed_ips:
            lines.append(f"AllowedIPs = {', '.join(sorted(peer.allowed_ips))}")
        if peer.endpoint:
            lines.append(f"Endpoint = {peer.endpoint}")
        if peer.keepalive:
            lines.append(f"PersistentKeepalive = {peer.keepalive}")
        lines.append("")
    return "\n".join(lines)


def settle(desired: Device, live: Device, previous: Device | None) -> Device:
    """What the live interface should hold: the desired device, with what it leaves open taken from the live one.

    Without this, a run would draw a new port, clear the mark of a full tunnel, and pull every peer that roamed
    back to its first endpoint. `previous` is what the last file said: an endpoint is set only when that changed.
    """
    before = previous.peers if previous else {}
    peers = {
        key: replace(peer, endpoint=_settled_endpoint(peer, live.peers.get(key), before.get(key)))
        for key, peer in desired.peers.items()
    }
    return Device(
        private_key=desired.private_key,
        listen_port=live.listen_port if desired.listen_port is None else desired.listen_port,
        fwmark=live.fwmark if desired.fwmark is None else desired.fwmark,
        peers=peers,
    )


def _settled_endpoint(desired: Peer, live: Peer | None, previous: Peer | None) -> str:
    if live is None or not live.endpoint:
        return desired.endpoint
    if not desired.endpoint or (previous and previous.endpoint == desired.endpoint):
        return live.endpoint
    return desired.endpoint


# --- secrets --------------------------------------------------------------------------------------------------------


def hide_keys(text: str) -> str:
    """Hide all that has the shape of a key: tools may quote the line that they refuse."""
    return _KEY_SHAPED.sub("(key)", text)


def redact(text: str, previous: str | None = None) -> str:
    """The text, fit for a diff: keys hidden but for PublicKey lines; a secret that differs from `previous` says so."""
    before = {where: value for _line, where, value in _marked_lines(previous or "") if where}
    shown = []
    for line, where, value in _marked_lines(text):
        changed = where is not None and before.get(where, value) != value
        line = _SECRET_LINE.sub(rf"\1{'(hidden, changed)' if changed else '(hidden)'}", line)
        public = _PUBLIC_LINE.match(line)
        keep = public.end() if public else 0
        shown.append(line[:keep] + _KEY_SHAPED.sub("(hidden)", line[keep:]))
    return "\n".join(shown)


def _marked_lines(text: str) -> Iterator[tuple[str, tuple[str, str] | None, str]]:
    """Every line with, for a secret in force, where it belongs (public key of its section, key) and its value.

    Works on what does not parse, too: the file to be replaced may be anybody's.
    """
    for lines in _raw_sections(text):
        owner = next((match[1] for match in map(_PUBLIC_LINE.match, lines) if match), "")
        for line in lines:
            match = _SECRET_LINE.match(line.partition("#")[0])
            yield (line, (owner, match[2].lower()), match[3]) if match else (line, None, "")


def _raw_sections(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in text.split("\n"):
        if _SECTION.match(line):
            yield lines
            lines = []
        lines.append(line)
    yield lines
