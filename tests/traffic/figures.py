# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, in the order in which it was, over all of a scenario's runs of pytest."""

from __future__ import annotations

import json
from pathlib import Path


class Figures:
    """Kept beside the lab, so that they end with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, what: str, value: float | str, unit: str = "") -> None:
        self._values[what] = f"{value:.2f} {unit}" if isinstance(value, float) else f"{value} {unit}".rstrip()
        self._path.write_text(json.dumps(self._values, indent=2) + "\n")

    def table(self) -> list[str]:
        width = max(map(len, self._values), default=0)
        return [f"{what:{width}}  {value}" for what, value in self._values.items()]
