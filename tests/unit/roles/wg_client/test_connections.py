# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from wirefleet_client.connections import established


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_is_seen_while_it_lasts(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2]) as connection, listener.accept()[0] as accepted:
            port = f":{connection.getsockname()[1]:04X}"
            assert any(end.endswith(port) for end in established(os.getuid()))
            assert not any(end.endswith(port) for end in established(os.getuid() + 1))
            # The other side ends it: what is left is of no use.
            accepted.close()
            assert not any(end.endswith(port) for end in established(os.getuid()))


def test_a_host_may_have_no_ipv6(tmp_path: Path) -> None:
    header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "   0: 0100007F:C3A1 0A09C6C6:01BB 01 00000000:00000000 00:00000000 00000000   998        0 1 1 0 20 4 30\n"
    (tmp_path / "tcp").write_text(header + row)
    assert established(998, tmp_path) == {"0100007F:C3A1"}
