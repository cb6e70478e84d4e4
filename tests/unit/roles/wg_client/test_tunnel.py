# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import time

import pytest
from wirefleet.command import CommandError, run
from wirefleet_client.tunnel import Tunnel

from ..namespaces import eventually
from .conftest import PORT, Client, key

pytestmark = pytest.mark.root


def configuration(interface: str) -> list[str]:
    """All but the port that it listens on."""
    lines = run(["wg", "showconf", interface]).splitlines()
    return [line for line in lines if not line.startswith("ListenPort")]


def port(interface: str) -> str:
    return run(["wg", "show", interface, "listen-port"])


@pytest.mark.parametrize("new_port", [False, True])
def test_a_renewed_session_comes_at_once_and_all_else_stays(client: Client, new_port: bool) -> None:
    tunnel = Tunnel(client.interface, client.peer)
    before, from_port = configuration(client.interface), port(client.interface)
    assert tunnel.peer().endpoint == f"127.0.0.1:{PORT}"
    last = tunnel.peer().handshake
    time.sleep(1.1)  # handshakes are dated in whole seconds
    tunnel.renew(f"127.0.0.1:{PORT}", new_port)
    eventually(lambda: tunnel.peer().handshake > last, timeout=4)  # WireGuard's own next one comes after 5 s
    assert configuration(client.interface) == before
    assert (port(client.interface) != from_port) is new_port


def test_speaking_tells_the_cluster_where_we_are(client: Client) -> None:
    tunnel = Tunnel(client.interface, client.peer)
    before = configuration(client.interface)
    run(["wg", "set", client.interface, "listen-port", "0"])
    tunnel.speak()
    here = f"127.0.0.1:{port(client.interface).strip()}"
    eventually(lambda: here in run(["wg", "show", client.cluster, "endpoints"]), timeout=3)  # its keepalive: 5 s
    assert configuration(client.interface) == before


def test_traffic_is_what_goes_through(client: Client) -> None:
    tunnel = Tunnel(client.interface, client.peer)
    run(["ip", "address", "add", "10.1.0.1/24", "dev", client.interface])
    sent, received = tunnel.traffic()
    run(["ping", "-c", "1", "-W", "1", "-s", "1000", "10.1.0.1"])  # its own address: nothing goes out
    assert tunnel.traffic()[0] - sent < 1000
    with pytest.raises(CommandError):
        run(["ping", "-c", "1", "-W", "1", "-s", "1000", "10.1.0.2"])  # nobody's, beyond
    assert tunnel.traffic()[0] - sent >= 1000
    assert tunnel.traffic()[1] == received


def test_what_is_not_there(client: Client) -> None:
    other = key()[1]
    with pytest.raises(CommandError, match=f"no peer {other}".replace("+", "[+]")):
        Tunnel(client.interface, other).peer()
    with pytest.raises(CommandError, match="wf-none"):
        Tunnel("wf-none", client.peer).peer()
    assert Tunnel("wf-none", client.peer).traffic() == (0, 0)
