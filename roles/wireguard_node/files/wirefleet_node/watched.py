# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A file that Ansible replaces while the agent runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Content = TypeVar("Content")


class Watched(Generic[Content]):
    """What ``read`` makes of a file, made anew when the file is another one. ``read`` may raise; it is tried again."""

    def __init__(self, path: Path, read: Callable[[Path], Content]) -> None:
        self._path = path
        self._read = read
        self._seen: tuple[tuple[int, ...], Content] | None = None

    def get(self) -> Content:
        found = os.stat(self._path)
        signature = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._seen is None or self._seen[0] != signature:
            self._seen = None
            self._seen = (signature, self._read(self._path))
        return self._seen[1]
