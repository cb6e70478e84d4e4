# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter ledger_entries: the entries of a ledger's text."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ledger_entries
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Read the entries of a ledger's text
description:
  - Returns the entries of a ledger that M(wirefleet.vpn.vpn_ledger) read as text.
positional: _input, name
options:
  _input:
    description: The text of the ledger, empty where there is none.
    type: str
    required: true
  name:
    description: Whose entries, of whatever kind. Everybody's by default.
    type: str
"""

EXAMPLES = r"""
- name: Show what the ledger knows of this host
  ansible.builtin.debug:
    msg: "{{ found.text | wirefleet.vpn.ledger_entries(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The entries, sorted by kind and name.
  type: list
  elements: dict
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._ledger import LedgerError, parse


def entries(text: str, name: str | None = None) -> list[dict[str, Any]]:
    """See DOCUMENTATION."""
    if not text:
        return []
    try:
        return [entry for entry in parse(text).entries if name in (None, entry["name"])]
    except LedgerError as error:
        raise AnsibleFilterError(f"ledger_entries: {error}") from None


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"ledger_entries": entries}
