# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import pytest
from wirefleet.log import event, recent


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "event=state"),
        ({"node": "n2", "weight": 5}, "event=state node=n2 weight=5"),
        ({"reason": "no response in 1.0s"}, 'event=state reason="no response in 1.0s"'),
        ({"reason": 'say "no"'}, 'event=state reason="say \\"no\\""'),
        ({"reason": "two\nlines"}, 'event=state reason="two\\nlines"'),
        ({"reason": ""}, 'event=state reason=""'),
        ({"reason": None, "node": "n1"}, "event=state node=n1"),
        ({"name": "dns"}, "event=state name=dns"),
    ],
)
def test_one_line_with_fields(capsys: pytest.CaptureFixture[str], fields: dict[str, object], line: str) -> None:
    event("state", **fields)
    assert capsys.readouterr().err == line + "\n"


def test_the_last_ones_are_kept() -> None:
    for number in range(60):
        event("state", number=number, reason=None)
    assert len(recent) == 50
    assert (recent[-1].name, recent[-1].fields) == ("state", {"number": "59"})
