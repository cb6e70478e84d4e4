# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Molecule scenarios measure with: a lab's hosts, its cluster, and traffic through it."""
