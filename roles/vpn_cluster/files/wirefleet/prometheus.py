# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """How often values were observed, by size: ``bounds`` are the upper ends of the buckets, the last has none."""

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass
class Metric:
    """One metric family; a counter's name ends in ``_total``. Samples are suffix of the name, labels and value."""

    name: str
    help: str
    kind: str = "gauge"
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> Metric:
        self.samples.append(("", labels, value))
        return self

    def add_histogram(self, histogram: Histogram, **labels: str) -> Metric:
        totals = list(accumulate(histogram.counts))
        for bound, total in zip((*map(_number, histogram.bounds), "+Inf"), totals):
            self.samples.append(("_bucket", {**labels, "le": bound}, total))
        self.samples += [("_sum", labels, histogram.sum), ("_count", labels, totals[-1])]
        return self


def render(metrics: Iterable[Metric]) -> str:
    """Return the exposition; a metric without samples is left out."""
    lines: list[str] = []
    for metric in metrics:
        if metric.samples:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
            lines += [
                f"{metric.name}{suffix}{_labels(labels)} {_number(value)}" for suffix, labels, value in metric.samples
            ]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    pairs = [f'{name}="{_escape(value)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    """Whole numbers in full: byte counters exceed what a float's short form shows."""
    return str(int(value)) if value == int(value) else repr(value)
