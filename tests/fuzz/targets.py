# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Everything that reads what others say: each target takes bytes, and may do no more than refuse them.

A target returns when the input was understood or refused with the one error that its callers expect. Whatever else it
raises is a bug; so is a result that would mean something else to the command that it ends up in.
"""

from __future__ import annotations

import json
import math
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter.haproxy_server_lines import haproxy_server_lines
from ansible_collections.wirefleet.vpn.plugins.module_utils import _ledger, _wg_config
from ansible_collections.wirefleet.vpn.plugins.module_utils._firewall import dropping_chains
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError, validate_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._plan import PlanError, build_plan
from wirefleet import config
from wirefleet.httpd import Request, Response, Server
from wirefleet_node import drain, sessions, settings
from wirefleet_node.adopt import candidate
from wirefleet_node.owned import claim
from wirefleet_node.requests import RequestError, requested
from wirefleet_steer import agents, haproxy, memory
from wirefleet_steer.elements import client_key

CORPUS = Path(__file__).with_name("corpus")
KEY = re.compile(r"[A-Za-z0-9+/]{43}=")
ELEMENT = re.compile(r"[0-9a-fx.]+ \. [0-9]{1,5}")  # of nft's map "affinity"
NETWORK = re.compile(r"[0-9a-f.:]+/[0-9]{1,3}")  # for `ip route`

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def text(data: bytes) -> str:
    return data.decode(errors="replace")


def document(data: bytes) -> Any:
    """What YAML or JSON made of somebody's file; the reader of that is not ours."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


# ---- What balancers read


@target
def haproxy_answer(data: bytes) -> None:
    with suppress(haproxy.HAProxyError):
        haproxy.parse(text(data))


@target
def agent_answer(data: bytes) -> None:
    with suppress(agents.AgentError):
        listing = agents.listed(agents.understood(200, data))
        assert math.isfinite(listing.time - listing.age)
        check_sessions(listing.sessions.values())


@target
def agent_adopts(data: bytes) -> None:
    with suppress(agents.AgentError):
        agents.adopting(agents.understood(200, data))


@target
def memory_file(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        with suppress(ValueError):
            for known in memory.load(Path(file.name)).values():
                check_sessions(known.values())


def check_sessions(found: Iterable[Any]) -> None:
    for session in found:
        assert ELEMENT.fullmatch(client_key(session.family, session.endpoint))
        assert all(map(NETWORK.fullmatch, session.networks))
        assert math.isfinite(time.time() - session.handshake)


# ---- What nodes read


@target
def http_request(data: bytes) -> None:
    def handler(request: Request) -> Response | None:
        return Response.from_json(200, [request.path, request.query, request.body.decode(errors="replace")])

    server = Server([], handler, "wirefleet-test/1", posts=["/v1/adopt"])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data[:65536])  # more than that would have to be read meanwhile
        theirs.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            assert server._answer(ours, "::1", "::1", time.monotonic() + 5).startswith(b"HTTP/1.1 ")


@target
def adopt_request(data: bytes) -> None:
    with suppress(RequestError):
        for peer in requested(data, candidate):
            assert KEY.fullmatch(peer.public_key)
            assert ELEMENT.fullmatch(client_key("ip6" if peer.endpoint.startswith("[") else "ip", peer.endpoint))


@target
def release_request(data: bytes) -> None:
    with suppress(RequestError):
        assert all(KEY.fullmatch(peer.public_key) for peer in requested(data, claim))


@target
def wg_listing(data: bytes) -> None:
    sessions.parse(text(data))


@target
def drain_flag(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "drain").write_bytes(data)
        assert drain.read(Path(directory)) is not None, "the file's presence is the order"


@target
def agent_configuration(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        with suppress(config.ConfigError):
            settings.load(file.name)


# ---- What modules and filters read


@target
def ledger(data: bytes) -> None:
    with suppress(_ledger.LedgerError):
        parsed = _ledger.parse(text(data))
        assert _ledger.parse(_ledger.render(parsed)) == parsed


@target
def key_file(data: bytes) -> None:
    with suppress(KeyFormatError):
        assert KEY.fullmatch(validate_key(text(data)))


@target
def wg_dump(data: bytes) -> None:
    with suppress(_wg_config.ConfigError):
        _wg_config.render_peers(_wg_config.parse_dump(text(data)).peers.values())


@target
def wg_quick_file(data: bytes) -> None:
    with suppress(_wg_config.ConfigError):
        parsed = _wg_config.parse(text(data))
        for peer in parsed.device.peers.values():
            assert KEY.fullmatch(peer.public_key)
            assert all(map(NETWORK.fullmatch, peer.allowed_ips))


@target
def ruleset(data: bytes) -> None:
    dropping_chains(text(data), "input", 51820)


CLUSTER = json.loads(Path(__file__).with_name("cluster.json").read_text())  # two nodes, a balancer, a managed client


@target
def clients(data: bytes) -> None:
    """``vpn_clients``: argument_specs says that it is a list, and no more."""
    wanted = document(data)
    if not isinstance(wanted, list):
        return
    with suppress(PlanError):
        plan = build_plan({**CLUSTER["settings"], "clients": wanted}, CLUSTER["reports"], [], "2026-11-22T00:00:00Z")
        assert all(KEY.fullmatch(c["public_key"]) for c in plan["clients"].values() if c["public_key"])


@target
def server_lines(data: bytes) -> None:
    with suppress(AnsibleFilterError):
        for line in haproxy_server_lines(document(data)):
            assert re.fullmatch(r"server [^\s]+ [ -~]+", line)
