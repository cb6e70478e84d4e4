# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of this name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vpn_handouts
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Write what people get for their devices
description:
  - Writes a WireGuard configuration, its QR code (PNG and SVG) and a page with instructions for each device, into a
    directory of the device's name below O(directory). Modes are 0600 and 0700. A C(.gitignore) keeps them out of git.
  - A device whose public key was given gets a configuration without a private key, and no QR code.
  - Only what is missing or differs is written. A hand-out that was taken away counts as delivered and is not written
    again, unless it is named in O(only).
  - The hand-outs of devices that are no clients any more are removed.
requirements:
  - the Python library C(segno) on the controller
attributes:
  check_mode:
    description: Says which hand-outs would be written.
    support: full
  diff_mode:
    description: There is nothing to show but secrets.
    support: none
options:
  directory:
    description: Directory of the hand-outs on the controller.
    type: path
    required: true
  key_directory:
    description: Where M(wirefleet.vpn.vpn_device_keys) keeps the private keys.
    type: path
    required: true
  template:
    description: Template of the page.
    type: path
    required: true
  clients:
    description: All items of C(vpn_clients), which have been checked.
    type: list
    elements: dict
    required: true
  ledger:
    description: Entries of the ledger. Nodes have the peers that it names by now.
    type: list
    elements: dict
    required: true
  only:
    description: Names of the devices to write for; empty means all.
    type: list
    elements: str
    default: []
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  seed:
    description: The cluster's seed of pre-shared keys.
    type: str
    required: true
  service_public_key:
    description: Public key of the service.
    type: str
    required: true
  endpoint:
    description: Name or address that clients connect to.
    type: str
    required: true
  port:
    description: UDP port that clients connect to.
    type: int
    required: true
  mtu:
    description: MTU of the tunnel in bytes.
    type: int
    required: true
  routes:
    description: Networks that a device reaches through the tunnel, if it says nothing else.
    type: list
    elements: str
    required: true
  dns:
    description: Name servers and search domains of a device that says nothing else.
    type: list
    elements: str
    default: []
  tunnel:
    description: What the tunnel is called on devices, and the files are called here.
    type: str
    required: true
  keep_keys:
    description: Keep private keys after they were handed out.
    type: bool
    default: false
  terminal:
    description: Print the QR codes of O(only) on the screen.
    type: bool
    default: false
  vault_password_file:
    description: Encrypt all of these files with the password of this file; empty means not to.
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: Write the hand-outs
  wirefleet.vpn.vpn_handouts:
    directory: "{{ inventory_dir }}/handouts"
    key_directory: "{{ inventory_dir }}/keys/devices"
    template: handout.html.j2
    clients: "{{ vpn_clients }}"
    ledger: "{{ ledger.entries }}"
    cluster: default
    seed: "{{ psk_seed }}"
    service_public_key: "{{ service_key | wirefleet.vpn.public_key }}"
    endpoint: vpn.example.com
    port: 51820
    mtu: 1420
    routes: [10.20.0.0/16]
    tunnel: vpn
  no_log: true
"""

RETURN = r"""
written:
  description: Devices whose hand-outs were written.
  returned: success
  type: list
  elements: str
removed:
  description: Devices whose hand-outs were removed.
  returned: success
  type: list
  elements: str
outdated:
  description: Devices that were handed out something else, and whose private keys are not kept.
  returned: success
  type: list
  elements: str
"""
