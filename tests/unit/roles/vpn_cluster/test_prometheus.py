# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

from wirefleet.prometheus import Histogram, Metric, render


def test_exposition() -> None:
    metrics = [
        Metric("up", "It runs.").add(1, node="n1"),
        Metric("bytes_total", "Bytes.", "counter").add(2**53 + 1).add(0.5, path='a"b\\c\nd'),
        Metric("empty", "Nothing to say."),
    ]
    assert render(metrics) == (
        "# HELP up It runs.\n"
        "# TYPE up gauge\n"
        'up{node="n1"} 1\n'
        "# HELP bytes_total Bytes.\n"
        "# TYPE bytes_total counter\n"
        "bytes_total 9007199254740993\n"
        'bytes_total{path="a\\"b\\\\c\\nd"} 0.5\n'
    )


def test_truth_is_a_number() -> None:
    assert "ok 1\n" in render([Metric("ok", "Fine.").add(True)])


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram([0.5, 1, 10])
    for value in (0.25, 1, 1.5, 99):
        histogram.observe(value)
    assert render([Metric("took_seconds", "Time.", "histogram").add_histogram(histogram, cause="drain")]) == (
        "# HELP took_seconds Time.\n"
        "# TYPE took_seconds histogram\n"
        'took_seconds_bucket{cause="drain",le="0.5"} 1\n'
        'took_seconds_bucket{cause="drain",le="1"} 2\n'
        'took_seconds_bucket{cause="drain",le="10"} 3\n'
        'took_seconds_bucket{cause="drain",le="+Inf"} 4\n'
        'took_seconds_sum{cause="drain"} 101.75\n'
        'took_seconds_count{cause="drain"} 4\n'
    )
