# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

from wirefleet_steer.history import INTERVAL, SAMPLES, History


def test_samples_are_taken_at_intervals() -> None:
    history = History()
    for now, count in ((0.0, 1), (INTERVAL / 2, 2), (INTERVAL, 3)):
        history.follow({"n1": count}, now)
    assert history.of("n1") == [1, 3]
    assert history.of("n2") == [0, 0]


def test_the_oldest_are_forgotten() -> None:
    history = History()
    for sample in range(SAMPLES + 1):
        history.follow({"n1": sample}, sample * INTERVAL)
    assert history.of("n1") == list(range(1, SAMPLES + 1))
