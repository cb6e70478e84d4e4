# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter haproxy_server_lines: nodes as the server lines of an HAProxy backend."""

from __future__ import annotations

DOCUMENTATION = r"""
name: haproxy_server_lines
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Write nodes as the server lines of an HAProxy backend
description:
  - Returns one C(server) line per node, in the order of the nodes. The same nodes always give the same bytes.
  - Every value is checked, so that a wrong one is named here and not by a balancer that refuses its configuration.
positional: _input
options:
  _input:
    description: The nodes.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the server. HAProxy allows letters, digits and C(_.:-) in it, anything else becomes C(_).
          - Two nodes must not end up with one name.
        type: str
        required: true
      address:
        description: IPv4 or IPv6 address, or host name.
        type: str
        required: true
      port:
        description: Port of the service.
        type: int
        default: 51820
      weight:
        description: Share of the new sessions, from 0 (none) to 256.
        type: int
      id:
        description: Number of the server in HAProxy's statistics, from 1 to 2147483647. Unique.
        type: int
      backup:
        description: Use this server only when all others are down.
        type: bool
        default: false
      disabled:
        description: Start in maintenance.
        type: bool
        default: false
      check_address:
        description: Address or host name that the checks ask instead of O(_input[].address).
        type: str
      check_port:
        description: Port that the check asks instead of O(_input[].port).
        type: int
      agent_port:
        description: Port of an agent check; without it, there is none.
        type: int
      options:
        description: What else to write at the end of the line, such as V(on-marked-down shutdown-sessions).
        type: list
        elements: str
        default: []
  check:
    description: The health check of all nodes. Durations take HAProxy's units (us, ms, s, m, h, d), or none for ms.
    type: dict
    default: {}
    suboptions:
      enabled:
        description: Whether HAProxy checks the nodes. If not, the other keys are left out of the lines.
        type: bool
        default: true
      inter:
        description: Time between two checks.
        type: str
      fastinter:
        description: Time between two checks while the state is changing.
        type: str
      downinter:
        description: Time between two checks of a server that is down.
        type: str
      fall:
        description: Failed checks in a row until a server is down.
        type: int
      rise:
        description: Passed checks in a row until a server is up.
        type: int
"""

EXAMPLES = r"""
- name: Show two nodes as server lines
  ansible.builtin.debug:
    msg: "{{ nodes | wirefleet.vpn.haproxy_server_lines(check={'inter': '3s', 'fall': 2, 'rise': 2}) }}"
  vars:
    nodes:
      - name: node1
        address: 192.0.2.11
      - name: node2
        address: 2001:db8::12
        weight: 50
        check_address: fd00:81::12
        check_port: 51880
# - server node1 192.0.2.11:51820 check inter 3s fall 2 rise 2
# - server node2 [2001:db8::12]:51820 check inter 3s fall 2 rise 2 addr [fd00:81::12] port 51880 weight 50
"""

RETURN = r"""
_value:
  description: The lines, without indentation and line ends.
  type: list
  elements: str
  sample:
    - server node1 192.0.2.11:51820 check inter 3s fall 2 rise 2
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean

DEFAULT_PORT = 51820

# HAProxy keeps times as a signed number of milliseconds; its numbers are signed as well.
_LARGEST = 2**31 - 1
_MICROSECONDS = {"us": 1, "ms": 10**3, "": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.:-]")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# The last label has a letter: 192.0.2.300 is a wrong address and no host name.
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$)({_LABEL}\.)*(?![0-9]+$){_LABEL}")

# Turns a value into text for the line; ValueError says what the value has to be.
Reader = Callable[[Any], str]


def haproxy_server_lines(nodes: Iterable[Mapping[str, Any]], check: Mapping[str, Any] | None = None) -> list[str]:
    """See DOCUMENTATION."""
    if isinstance(nodes, (str, Mapping)) or not isinstance(nodes, Iterable):
        raise _error("nodes", f"has to be a list, not {nodes!r}")
    check_words = _check_words(_mapping("check", check or {}, {"enabled", *_CHECK}))

    lines = []
    holders: dict[str, str] = {}
    for index, entry in enumerate(nodes):
        node = _mapping(f"nodes[{index}]", entry, {"name", "address", "port", *_NODE})
        name = _read(f"nodes[{index}]", node, "name", _text)
        where = f"node {name!r}"
        server = f"server {_NOT_IN_NAMES.sub('_', name)}"
        address = _read(where, node, "address", _host)
        port = _read(where, node, "port", _integer(1, 65535), default=DEFAULT_PORT)
        lines.append(" ".join([server, f"{address}:{port}", *check_words, *_words(where, node, _NODE)]))
        for unique in (server, *_words(where, node, {"id": _NODE["id"]})):
            if unique in holders:
                raise _error(where, f"'{unique}' is already taken by {holders[unique]}")
            holders[unique] = where
    return lines


def _check_words(check: Mapping[str, Any]) -> list[str]:
    words = _words("check", check, _CHECK)
    enabled = _read("check", check, "enabled", _flag("check"), default=True)
    return [enabled, *words] if enabled else []


def _words(where: str, values: Mapping[str, Any], readers: Mapping[str, Reader]) -> list[str]:
    """The words for whatever is set, in the order of the readers."""
    words = (_read(where, values, key, reader) for key, reader in readers.items() if values.get(key) is not None)
    return [word for word in words if word]


def _read(where: str, values: Mapping[str, Any], key: str, reader: Reader, default: Any = None) -> str:
    value = values.get(key)
    value = default if value is None else value
    if value is None:
        raise _error(where, f"{key} is missing")
    try:
        return reader(value)
    except ValueError as expected:
        raise _error(where, f"{key} has to be {expected}, not {value!r}") from None


def _mapping(where: str, values: Any, keys: set[str]) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise _error(where, f"has to be a mapping, not {values!r}")
    unknown = [str(key) for key in values if key not in keys]
    if unknown:
        raise _error(where, f"has the unknown key {unknown[0]!r}; known are {', '.join(sorted(keys))}")
    return values


def _error(where: str, problem: str) -> AnsibleFilterError:
    return AnsibleFilterError(f"haproxy_server_lines: {where}: {problem}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a string that is not empty")
    return str(value)


def _integer(lowest: int, highest: int) -> Reader:
    def read(value: Any) -> str:
        # Templates without native types turn numbers into text.
        if isinstance(value, str) and re.fullmatch("[0-9]+", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise ValueError(f"a number from {lowest} to {highest}")
        return str(value)

    return read


def _duration(value: Any) -> str:
    match = re.fullmatch("([0-9]+)(us|ms|s|m|h|d|)", str(value))
    # HAProxy rounds up to milliseconds.
    if not match or not 0 < int(match[1]) * _MICROSECONDS[match[2]] <= _LARGEST * 1000:
        raise ValueError("a time such as 250ms or 3s, longer than 0 and at most 24.8 days")
    return match[0]


def _host(value: Any) -> str:
    """An IPv6 address gets brackets, or HAProxy takes what follows its last colon for a port."""
    try:
        address = ipaddress.ip_address(_text(value))
    except ValueError:
        if not isinstance(value, str) or not _HOST_NAME.fullmatch(value):
            raise ValueError("an address or a host name") from None
        return str(value)
    if "%" in str(address):
        raise ValueError("an address without a zone, which HAProxy does not know")
    return f"[{address}]" if address.version == 6 else str(address)


def _options(value: Any) -> str:
    if not isinstance(value, (list, tuple)):
        raise ValueError("a list")
    for option in value:
        # Control characters end the line; quotes, backslashes and # change how HAProxy reads the rest of it.
        if not isinstance(option, str) or not option.strip() or not re.fullmatch(r"""[^\x00-\x1f\x7f"'\\#]+""", option):
            raise ValueError("a list of words without control characters, quotes, backslashes and #")
    return " ".join(option.strip() for option in value)


def _keyword(keyword: str, reader: Reader) -> Reader:
    return lambda value: f"{keyword} {reader(value)}"


def _flag(keyword: str) -> Reader:
    def read(value: Any) -> str:
        try:
            return keyword if boolean(value) else ""
        except TypeError:
            raise ValueError("true or false") from None

    return read


# The order of these is the order in a line.
_CHECK: dict[str, Reader] = {
    "inter": _keyword("inter", _duration),
    "fastinter": _keyword("fastinter", _duration),
    "downinter": _keyword("downinter", _duration),
    "fall": _keyword("fall", _integer(1, _LARGEST // 2)),  # HAProxy counts up to fall + rise
    "rise": _keyword("rise", _integer(1, _LARGEST // 2)),
}
_NODE: dict[str, Reader] = {
    "check_address": _keyword("addr", _host),
    "check_port": _keyword("port", _integer(1, 65535)),
    "agent_port": _keyword("agent-check agent-port", _integer(1, 65535)),
    "weight": _keyword("weight", _integer(0, 256)),
    "id": _keyword("id", _integer(1, _LARGEST)),
    "backup": _flag("backup"),
    "disabled": _flag("disabled"),
    "options": _options,
}


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"haproxy_server_lines": haproxy_server_lines}
