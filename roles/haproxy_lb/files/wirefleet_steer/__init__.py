# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The balancer's daemon: makes the kernel's steering table follow what HAProxy says about the nodes.

A node's state on its way: ``haproxy`` (what is reported) -> ``decide`` (what it means) -> ``elements`` (what the table
``steer.nft`` has to hold) -> ``kernel`` (what it holds). ``decide``, ``wheel`` and ``elements`` are pure.
"""
