# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

from pathlib import Path

import pytest
from wirefleet_node import drain
from wirefleet_node.health import Drain


def test_order_and_withdrawal(tmp_path: Path) -> None:
    assert drain.read(tmp_path) is None
    order = drain.write(tmp_path, "alice", "new kernel")
    assert drain.read(tmp_path) == order
    assert (order.by, order.reason) == ("alice", "new kernel")
    assert (tmp_path / "drain").stat().st_mode & 0o777 == 0o644
    drain.remove(tmp_path)
    drain.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ('{"by": "bob", "since": "now", "reason": "r", "version": 2}', Drain("bob", "now", "r")),
        ('{"by": "bob"}', Drain("bob", "unknown")),
        ('{"by": null, "since": 5}', Drain("unknown", "5")),
        ("", drain.UNKNOWN),
        ("[]", drain.UNKNOWN),
        ("because", drain.UNKNOWN),
    ],
)
def test_any_flag_drains(tmp_path: Path, text: str, order: Drain) -> None:
    (tmp_path / "drain").write_text(text)
    assert drain.read(tmp_path) == order


def test_a_flag_that_can_not_be_read_drains(tmp_path: Path) -> None:
    (tmp_path / "drain").mkdir()
    assert drain.read(tmp_path) == drain.UNKNOWN


def test_a_failed_write_leaves_the_old_order(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        drain.write(tmp_path / "absent", "alice", "")
    (tmp_path / "drain").mkdir()
    with pytest.raises(IsADirectoryError):
        drain.write(tmp_path, "alice", "")
    assert [path.name for path in tmp_path.iterdir()] == ["drain"]
