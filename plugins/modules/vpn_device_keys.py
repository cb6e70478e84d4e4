# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of this name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vpn_device_keys
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Make key pairs for devices that bring none
description:
  - Makes a private key on the controller for each device that has no public key yet, neither of its own nor in the
    ledger, and keeps it there until M(wirefleet.vpn.vpn_handouts) has handed it out.
  - It comes before the ledger and the nodes learn of the public key, so no interruption loses a key that they know.
  - Checks before what could keep the hand-outs from being written.
attributes:
  check_mode:
    description: Says which devices would get a key.
    support: full
  diff_mode:
    description: There is nothing to show but secrets.
    support: none
options:
  directory:
    description: Directory of these keys on the controller.
    type: path
    required: true
  clients:
    description: All items of C(vpn_clients), which have been checked.
    type: list
    elements: dict
    required: true
  ledger:
    description: Entries of the newest ledger.
    type: list
    elements: dict
    required: true
  only:
    description: Names of the devices to look at; empty means all.
    type: list
    elements: str
    default: []
  rekey:
    description: Make another key for those of O(only) that have one.
    type: bool
    default: false
  keep_keys:
    description: Whether keys are kept after they were handed out, which takes O(vault_password_file).
    type: bool
    default: false
  terminal:
    description: Whether QR codes are going to be printed, which takes O(only).
    type: bool
    default: false
  tunnel:
    description: What the tunnel is called on devices.
    type: str
    required: true
  vault_password_file:
    description: Encrypt the keys with the password of this file; empty means that they are protected by their mode.
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: Make keys for devices that bring none
  wirefleet.vpn.vpn_device_keys:
    directory: "{{ inventory_dir }}/keys/devices"
    clients: "{{ vpn_clients }}"
    ledger: "{{ ledger.entries }}"
    tunnel: vpn
"""

RETURN = r"""
names:
  description: The devices that got a key, or have one that was made by an interrupted run.
  returned: success
  type: list
  elements: str
public_keys:
  description: Their public keys by name. In check mode only those that are there already.
  returned: success
  type: dict
"""
