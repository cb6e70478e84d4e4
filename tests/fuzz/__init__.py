# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Inputs that nobody wrote. Make a checkout importable, as tests/unit/conftest.py does."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

sys.path[:0] = [str(path) for path in (REPOSITORY / ".collections", *sorted(REPOSITORY.glob("roles/*/files")))]
