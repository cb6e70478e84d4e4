# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The keeper of a client's kill switch: rules that are flushed come back at once."""

from __future__ import annotations

__version__ = "0.1.0"
