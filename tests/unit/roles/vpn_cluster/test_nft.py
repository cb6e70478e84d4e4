# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import select
import socket
import subprocess
from pathlib import Path

import pytest
from wirefleet import nft
from wirefleet.command import CommandError

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network")]


def test_table_present_wants_family_and_whole_name() -> None:
    nft.apply("table inet wirefleet {}")
    assert nft.table_present("inet", "wirefleet")
    assert not nft.table_present("inet", "wire")
    assert not nft.table_present("ip", "wirefleet")


def test_a_script_is_one_transaction() -> None:
    with pytest.raises(CommandError, match="Error"):
        nft.apply("table inet good {}\ndelete table inet absent\n")
    assert not nft.table_present("inet", "good")


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "node.nft"
    path.write_text("table inet wirefleet {}\n")
    nft.load(path)
    assert nft.table_present("inet", "wirefleet")


def test_watch_wakes_select_on_a_flush() -> None:
    nft.apply("table inet wirefleet {}")
    watch = nft.RulesetWatch()
    try:
        assert not watch.drain()
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        assert select.select([watch], [], [], 1)[0] == [watch]
        assert watch.drain()
        assert not watch.drain()
    finally:
        watch.close()


def test_watch_takes_an_overflow_for_a_change() -> None:
    watch = nft.RulesetWatch()
    try:
        watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        nft.apply("".join(f"table inet t{i} {{}}\n" for i in range(200)))
        assert watch.drain()
        assert not watch.drain()
    finally:
        watch.close()
