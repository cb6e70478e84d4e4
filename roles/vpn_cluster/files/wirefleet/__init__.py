# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What wirefleet's daemons have in common. Standard library only; I/O lives here, decisions live in the daemons."""

from __future__ import annotations

__version__ = "0.1.0"
