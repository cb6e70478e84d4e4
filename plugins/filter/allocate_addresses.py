# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter allocate_addresses: give every name its addresses, and let it keep them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: allocate_addresses
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Give every name its addresses, and let it keep them
description:
  - Takes the names that shall have addresses and the ledger of an earlier run, and returns the next ledger.
  - No order, addition or removal of names ever changes somebody else's address. New names take, in sorted order, the
    lowest free host address of each network.
  - A name that is gone stays in the ledger with C(released), and its addresses are not used again before
    O(quarantine_days) have passed. If it returns before, it gets them back. Afterwards the entry disappears.
  - The result depends on the input only. There is no clock inside and nothing is stored.
positional: _input, networks
requirements:
  - netaddr (Python library, on the controller)
options:
  _input:
    description: The names, each once, in any order. Any text without control characters is a name.
    type: list
    elements: str
    required: true
  networks:
    description:
      - Networks such as V(10.80.0.0/16) and V(fd00:80::/48). They must not overlap.
      - Each name gets one address in each network.
      - In a network that was added, everybody gets an address. Addresses outside of all networks are dropped, so that
        renumbering one family leaves the other as it is.
    type: list
    elements: str
    required: true
  ledger:
    description: The value that this filter returned for the previous run. Further keys of an entry are kept.
    type: dict
    default: {}
  reserved:
    description:
      - Addresses and networks that are not handed out.
      - It is an error if somebody holds one of them, because two would use one address then.
    type: list
    elements: str
    default: []
  explicit:
    description:
      - Addresses that a name shall have, at most one per network, by name. Networks without one are served as usual.
      - It is an error if somebody else holds the address, or held it and it is still in quarantine.
      - If the name had another address, that one goes into quarantine, under C(former) of its entry.
    type: dict
    default: {}
  now:
    description: The current time in ISO 8601 with its zone, such as V(2026-11-22T00:00:00Z).
    type: str
    required: true
  quarantine_days:
    description: How long an address rests before somebody else may get it, in days.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: Give three clients an address in each family
  ansible.builtin.set_fact:
    clients: "{{ ['alice', 'bob', 'carol'] | wirefleet.vpn.allocate_addresses(
      ['10.80.0.0/16', 'fd00:80::/48'], now='2026-11-22T00:00:00Z') }}"
# alice: {addresses: ['10.80.0.1', 'fd00:80::1']}
# bob: {addresses: ['10.80.0.2', 'fd00:80::2']}
# carol: {addresses: ['10.80.0.3', 'fd00:80::3']}

- name: A day later bob is gone, and a gateway needs a certain address
  ansible.builtin.set_fact:
    clients: "{{ ['alice', 'carol', 'gateway'] | wirefleet.vpn.allocate_addresses(
      ['10.80.0.0/16', 'fd00:80::/48'], ledger=clients, explicit={'gateway': ['10.80.1.1']},
      now='2026-11-23T00:00:00Z') }}"
# alice: {addresses: ['10.80.0.1', 'fd00:80::1']}
# bob: {addresses: ['10.80.0.2', 'fd00:80::2'], released: '2026-11-23T00:00:00Z'}
# carol: {addresses: ['10.80.0.3', 'fd00:80::3']}
# gateway: {addresses: ['10.80.1.1', 'fd00:80::4']}
"""

RETURN = r"""
_value:
  description:
    - The next ledger, an entry by name.
    - C(addresses) are in the order of O(networks). C(released) is there only if the name is gone. C(former) is there
      only if the name gave addresses up that are still in quarantine, with the time by address.
  type: dict
  sample:
    alice:
      addresses: ["10.80.0.1", "fd00:80::1"]
    bob:
      addresses: ["10.80.0.2", "fd00:80::2"]
      released: "2026-11-23T00:00:00Z"
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.module_utils._allocation import AllocationError, Entry, allocate


def allocate_addresses(
    names: Iterable[str],
    networks: Iterable[str],
    ledger: Mapping[str, Mapping[str, Any]] | None = None,
    reserved: Iterable[str] = (),
    explicit: Mapping[str, Sequence[str]] | None = None,
    *,
    now: str,
    quarantine_days: float = 30,
) -> dict[str, Entry]:
    """See DOCUMENTATION."""
    try:
        return allocate(
            names,
            networks,
            ledger=ledger,
            reserved=reserved,
            explicit=explicit,
            now=now,
            quarantine_days=quarantine_days,
        )
    except AllocationError as error:
        raise AnsibleFilterError(f"allocate_addresses: {error}") from None


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"allocate_addresses": allocate_addresses}
