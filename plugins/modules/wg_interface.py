#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation and dispatch; the work is in module_utils/_wg_interface.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wg_interface
short_description: Apply a WireGuard interface's configuration without dropping a session
version_added: 0.1.0
description:
  - Makes a WireGuard interface run as a C(wg-quick) file says, and stay so after a reboot.
  - The file is compared with what is I(live), not with the file before. Where nothing differs, nothing is run.
  - Only what differs is changed, with C(wg set) and C(wg addconf), and addresses, MTU and routes with C(ip). Sessions
    go on. A staged copy is validated first, the result is verified afterwards, and when that fails what was live is put
    back.
  - What only C(wg-quick up) can change (V(DNS), V(Table), V(PreUp), V(PostUp), a default route in V(AllowedIPs))
    restarts the interface, which RV(restarted) tells.
attributes:
  check_mode:
    support: full
    description: Predicts, also on a host that has no WireGuard yet. Nothing is written, not even a staged copy.
  diff_mode:
    support: full
    description: Shows the file with every private and preshared key hidden, and whether it changed.
  idempotent:
    support: full
    description: A second run does nothing.
  platform:
    platforms: linux
    support: full
    description: For Linux hosts with C(wg), C(wg-quick) and C(ip).
options:
  name:
    description:
      - The interface, 1 to 15 letters, digits, V(_), V(.) or V(-), the first a letter, a digit or V(_).
      - Its file is C(/etc/wireguard/NAME.conf), the only place where C(wg-quick@NAME) looks.
    type: str
    required: true
  config:
    description:
      - The complete text of the C(wg-quick) file. Required with O(state=up), unused otherwise.
      - Refused before anything is touched if a key is missing or invalid, a peer or one of its prefixes is there twice,
        a line is unknown, or V(SaveConfig) is on. Messages name the line.
      - Without V(ListenPort) the live port is kept. Without V(MTU) the live MTU is kept.
      - V(Endpoint) is set for a new peer, and where the previous file said something else. A peer that roamed stays
        where it is.
    type: str
  private_key_path:
    description:
      - A key file on the host, as M(wirefleet.vpn.wg_keypair) keeps it, whose key is put into O(config), which then
        must not have one. So the key of a host never leaves it.
      - In check mode the file may be missing.
    type: path
  state:
    description:
      - V(up) applies O(config), and starts the interface if it is down.
      - V(down) stops it, V(absent) also disables the unit and removes the file.
    type: str
    choices: [up, down, absent]
    default: up
  enabled:
    description:
      - Whether C(wg-quick@NAME) is started at boot. V(false) disables it also with O(state=down).
      - Without systemd this has no meaning.
    type: bool
    default: true
  implementation:
    description:
      - V(auto) leaves the choice to C(wg-quick), which takes the kernel's WireGuard wherever there is one, and else
        C(wireguard-go) or what C(WG_QUICK_USERSPACE_IMPLEMENTATION) names.
      - V(kernel) fails, before anything is touched, where the kernel has none, and restarts an interface that runs
        in userspace.
    type: str
    choices: [auto, kernel]
    default: auto
  allow_key_change:
    description:
      - Let O(config) bring another private key than the interface (or, while it is down, its file) has.
      - Every peer knows the interface by its public key, so another one by mistake would cut all of them off.
    type: bool
    default: false
  expired_peers:
    description:
      - Public keys of peers that stay in the file, and that the interface shall not have.
      - For peers that something else on the host removes at their time, such as the agent of a node. Who expires is no
        change of the configuration then.
    type: list
    elements: str
    default: []
notes:
  - Without systemd (no C(/run/systemd/system)) the module runs C(wg-quick up) and C(wg-quick down) itself.
  - Two runs on one host wait for each other.
  - Removing a prefix removes its route only if the previous file or a live peer had it; routes of others stay.
  - A restart runs C(wg-quick down) with the old file, so that its hooks undo what they did, then C(systemctl restart).
seealso:
  - module: wirefleet.vpn.wg_keypair
author:
  - Wirefleet contributors (@wirefleet)
"""

EXAMPLES = r"""
- name: Apply the interface that clients connect to
  wirefleet.vpn.wg_interface:
    name: wg0
    config: "{{ lookup('ansible.builtin.template', 'wg0.conf.j2') }}"

- name: Insist on the kernel's WireGuard
  wirefleet.vpn.wg_interface:
    name: wg0
    config: "{{ wg0_config }}"
    implementation: kernel

- name: Rotate the interface's key, on purpose
  wirefleet.vpn.wg_interface:
    name: wg0
    config: "{{ wg0_config }}"
    allow_key_change: true

- name: Remove the interface
  wirefleet.vpn.wg_interface:
    name: wg0
    state: absent
"""

RETURN = r"""
public_key:
  description: The interface's public key. Null where a check-mode run found nothing to compute it with.
  returned: with O(state=up)
  type: str
  sample: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
peers:
  description: Public keys of the live peers that are concerned, at most 100 of each kind.
  returned: success
  type: dict
  contains:
    added:
      description: Peers that the interface did not have. All of them, when it was down.
      type: list
      elements: str
    removed:
      description: Peers that the interface has no more.
      type: list
      elements: str
    changed:
      description: Peers with another preshared key, prefix, keepalive or endpoint.
      type: list
      elements: str
peer_counts:
  description: How many peers each kind has in all.
  returned: success
  type: dict
  sample: {added: 1, removed: 0, changed: 0}
restarted:
  description: Whether the interface had to go down and up again, which ends its sessions.
  returned: success
  type: bool
actions:
  description:
    - "What was done, in order: V(file), V(start), V(sync), V(mtu), V(link), V(address), V(route), V(restart), V(stop),
      V(mode), V(enable), V(disable)."
  returned: success
  type: list
  elements: str
  sample: [sync, address, file]
"""

import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import generate_private_key, validate_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_interface import Interface, InterfaceError, Outcome

SHOWN_PEERS = 100

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "config": {"type": "str", "no_log": True},
    "private_key_path": {"type": "path", "no_log": False},
    "state": {"type": "str", "choices": ["up", "down", "absent"], "default": "up"},
    "enabled": {"type": "bool", "default": True},
    "implementation": {"type": "str", "choices": ["auto", "kernel"], "default": "auto"},
    "allow_key_change": {"type": "bool", "default": False, "no_log": False},
    "expired_peers": {"type": "list", "elements": "str", "default": []},
}


def apply(params: dict, check_mode: bool) -> Outcome:
    interface = Interface(params["name"], check_mode=check_mode)
    if params["state"] != "up":
        return interface.down(enabled=params["enabled"], remove=params["state"] == "absent")
    text = params["config"]
    if params["private_key_path"]:
        text = with_private_key(text, Path(params["private_key_path"]), may_be_missing=check_mode)
    return interface.up(
        text,
        enabled=params["enabled"],
        require_kernel=params["implementation"] == "kernel",
        allow_key_change=params["allow_key_change"],
        expired=params["expired_peers"],
    )


def with_private_key(text: str, path: Path, *, may_be_missing: bool) -> str:
    """Put the key of the file `path` into the [Interface] section of a wg-quick file."""
    if re.search(r"^\s*PrivateKey\s*=", text, re.MULTILINE | re.IGNORECASE):
        raise InterfaceError("config has a PrivateKey, and private_key_path is given: only one of them can be right")
    try:
        key = validate_key(path.read_text().strip())
    except FileNotFoundError:
        if not may_be_missing:
            raise InterfaceError(f"{path}: there is no such key file") from None
        key = generate_private_key()
    except (OSError, ValueError) as error:
        raise InterfaceError(f"{path}: {error}") from None
    return re.sub(r"^\[Interface\][ \t]*$", f"[Interface]\nPrivateKey = {key}", text, count=1, flags=re.MULTILINE)


def as_result(outcome: Outcome) -> dict:
    peers = vars(outcome.peers)
    return {
        "changed": outcome.changed,
        "public_key": outcome.public_key,
        "peers": {kind: keys[:SHOWN_PEERS] for kind, keys in peers.items()},
        "peer_counts": {kind: len(keys) for kind, keys in peers.items()},
        "restarted": outcome.restarted,
        "actions": outcome.actions,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC, required_if=[("state", "up", ["config"])], supports_check_mode=True
    )
    try:
        outcome = apply(module.params, module.check_mode)
    except (InterfaceError, OSError) as error:
        module.fail_json(msg=str(error))
    for warning in outcome.warnings:
        module.warn(warning)
    result = as_result(outcome)
    # Two copies of the file: at 10,000 peers some megabytes that nobody asked for.
    if module._diff:
        file = f"/etc/wireguard/{module.params['name']}.conf"
        result["diff"] = {
            "before": outcome.before,
            "after": outcome.after,
            "before_header": file,
            "after_header": file,
        }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
