# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The watcher of a managed client: chooses between UDP and TCP, and lets no broken path wait for WireGuard's timers."""

from __future__ import annotations

__version__ = "0.1.0"
