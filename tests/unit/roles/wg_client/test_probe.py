# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import struct
import time

import pytest
from wirefleet.command import CommandError, run
from wirefleet_client import probe

from .conftest import PORT, Client

INITIATION = struct.pack("<II", 1, 0x11223344) + bytes(140)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (struct.pack("<III", 2, 7, 0x11223344) + bytes(80), True),
        (struct.pack("<II", 3, 0x11223344) + bytes(56), True),
        (struct.pack("<III", 2, 7, 0x11223345) + bytes(80), False),  # somebody else's
        (struct.pack("<III", 2, 0x11223344, 7) + bytes(80), False),
        (struct.pack("<III", 2, 7, 0x11223344), False),
        (struct.pack("<II", 4, 0x11223344) + bytes(24), False),
        (INITIATION, False),
        (b"", False),
    ],
)
def test_what_counts_as_an_answer(message: bytes, expected: bool) -> None:
    assert probe.answers(message, INITIATION) is expected


@pytest.mark.root
def test_an_answer_proves_that_udp_works_and_no_session_comes_of_it(client: Client) -> None:
    before = client.handshake(client.cluster), client.handshake(client.interface)
    time.sleep(1.1)  # handshakes are dated in whole seconds
    assert probe.works(client.probe, client.peer, ("127.0.0.1", PORT))
    assert (client.handshake(client.cluster), client.handshake(client.interface)) == before
    assert run(["wg", "show", client.probe, "peers"]) == "", "it leaves nothing behind"


@pytest.mark.root
def test_silence_and_a_closed_port_prove_nothing(client: Client) -> None:
    run(["wg", "set", client.cluster, "listen-port", str(PORT + 1)])
    assert not probe.works(client.probe, client.peer, ("127.0.0.1", PORT))
    assert not probe.works(client.probe, client.peer, ("192.0.2.1", PORT))  # no route


@pytest.mark.root
def test_a_server_of_another_key_does_not_answer(client: Client) -> None:
    run(["wg", "set", client.cluster, "private-key", "/dev/stdin"], stdin=run(["wg", "genkey"]))
    assert not probe.works(client.probe, client.peer, ("127.0.0.1", PORT))


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_an_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CommandError, match="wf-none"):
        probe.works("wf-none", "K", ("127.0.0.1", PORT))
