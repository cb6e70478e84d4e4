# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Make a checkout importable: the collection under its full name, and the daemons as the hosts see them."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[2]

sys.path[:0] = [str(path) for path in (REPOSITORY / ".collections", *sorted(REPOSITORY.glob("roles/*/files")))]

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
