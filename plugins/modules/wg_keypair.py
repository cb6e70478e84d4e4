#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Generate and keep WireGuard keys: documentation, arguments and results; the work is in module_utils."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wg_keypair
short_description: Generate and keep WireGuard keys
version_added: 0.1.0
description:
  - Creates the private keys of WireGuard identities, or preshared keys, and keeps them, one file per key.
    One task handles one key (O(path)) or thousands (O(directory) and O(names)).
  - A key that exists is never replaced unless O(regenerate=always). What can not be read as a key is never replaced
    or removed at all, because what it was is not known.
  - It is all or nothing. Keys are complete, protected and on disk before they get their names, and when one of them
    can not be, none of them is made.
  - A file holds the key in base64 and a line end, as C(wg genkey) writes it and C(wg set) reads it.
  - Two runs that work on the same directory wait for each other, and both report the same keys.
author:
  - Wirefleet contributors (@wirefleet)
requirements:
  - "For O(type=private): the Python library C(cryptography), or the command C(wg) of wireguard-tools"
options:
  path:
    description:
      - The file of one key, absolute.
    type: path
  directory:
    description:
      - The directory that holds the files of O(names), absolute.
    type: path
  names:
    description:
      - The identities whose keys lie in O(directory). The file of each is its name followed by O(suffix).
      - A name starts with no dot, and contains no C(/), no C(..) and no character that can not be printed.
    type: list
    elements: str
  suffix:
    description:
      - The ending of the file names of O(names).
    type: str
    default: .key
  state:
    description:
      - Whether the keys should be there.
      - V(absent) removes files that hold a key, and refuses what holds anything else.
    type: str
    choices: [present, absent]
    default: present
  type:
    description:
      - V(private) is an X25519 private key, which has a public key.
      - V(preshared) is a secret between two peers, 32 random bytes without a public key.
    type: str
    choices: [private, preshared]
    default: private
  regenerate:
    description:
      - V(never) keeps a key that exists.
      - V(always) replaces it, in every run. Use it in a task or play that rotates keys.
    type: str
    choices: [never, always]
    default: never
  backup:
    description:
      - Keep a key that is replaced or removed beside its file, under the file's name followed by the time in UTC,
        with the same protection.
    type: bool
    default: false
  expected_public_key:
    description:
      - The public key that O(path) is known to hold. A missing file, or one with another key, is then an error.
      - Give it wherever the identity is known already. A lost disk or a wrong mount then stops the run instead of
        making a new identity that no peer knows.
    type: str
  expected_public_keys:
    description:
      - Like O(expected_public_key) for O(names), a dictionary of name to public key.
      - One lost key stops the task for all of them. A null value means that the key is not known yet. Entries of
        other names are checked for form and otherwise ignored, so that the ledger of all identities can be given.
    type: dict
  owner:
    description:
      - The user that owns the files, by name or number. Also owns the directory if this task creates it.
    type: str
  group:
    description:
      - The group of the files, by name or number. Also of the directory if this task creates it.
    type: str
  mode:
    description:
      - The permissions of the files, in octal and quoted.
      - A new key gets V('0600') by default. An existing file keeps what it has unless O(mode) is given; one
        that everybody can reach is warned about either way.
    type: raw
  directory_mode:
    description:
      - The permissions of the directory, in octal and quoted.
      - A directory that this task creates gets V('0700') by default, one that exists keeps what it has.
    type: raw
  return_private:
    description:
      - Also return the keys themselves.
      - Use C(no_log) on the task, and do not print what it registers.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would change without changing it. The public key of a key still to be made is null.
    support: full
  diff_mode:
    description: Shows public keys, permissions and owners, never a key.
    support: full
  idempotence:
    description: A second run changes nothing, except with O(regenerate=always), whose purpose is change.
    support: partial
notes:
  - A path that is a symbolic link is refused. A directory that is one is followed only when its target belongs to root,
    to the user of this task or to O(owner), and nobody else can write to it.
  - In check mode a host without C(cryptography) and C(wg) is no error, since an earlier task may be going to
    install them. The public keys of existing keys are then null, and a warning says so.
"""

EXAMPLES = r"""
- name: Give this node its own key
  wirefleet.vpn.wg_keypair:
    path: /etc/wirefleet/keys/wf0.key
  register: node_key

- name: Make sure that a node that is known still is who it was
  wirefleet.vpn.wg_keypair:
    path: /etc/wirefleet/keys/wf0.key
    expected_public_key: "{{ ledger.nodes[inventory_hostname].public_key }}"

- name: Keys for all devices, in one task
  wirefleet.vpn.wg_keypair:
    directory: /var/lib/wirefleet/devices
    names: "{{ devices | map(attribute='name') }}"
    expected_public_keys: "{{ ledger.devices }}"
  register: device_keys

- name: A preshared key for each of them
  wirefleet.vpn.wg_keypair:
    directory: /var/lib/wirefleet/devices
    names: "{{ devices | map(attribute='name') }}"
    suffix: .psk
    type: preshared

- name: Rotate one key, and keep the old one
  wirefleet.vpn.wg_keypair:
    path: /etc/wirefleet/keys/wf0.key
    regenerate: always
    backup: true
"""

RETURN = r"""
path:
  description: The file of the key.
  returned: O(path) is given
  type: str
  sample: /etc/wirefleet/keys/wf0.key
public_key:
  description:
    - The public key. Null for a preshared key, for a key that is absent, and in check mode for one still to be made.
  returned: O(path) is given
  type: str
  sample: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=
private_key:
  description: The key itself, null where there is none.
  returned: O(path) and O(return_private=true) are given
  type: str
backup_file:
  description: The file that keeps the old key.
  returned: O(path) is given, and a key was kept
  type: str
  sample: /etc/wirefleet/keys/wf0.key.20261122T172302.123456Z
paths:
  description: Name to file.
  returned: O(names) are given
  type: dict
  sample: {alice-phone: /var/lib/wirefleet/devices/alice-phone.key}
public_keys:
  description: Name to public key. Null as with RV(public_key).
  returned: O(names) are given
  type: dict
  sample: {alice-phone: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=}
private_keys:
  description: Name to the key itself, null where there is none.
  returned: O(names) and O(return_private=true) are given
  type: dict
backup_files:
  description: Name to the file that keeps the old key, for those that were kept.
  returned: O(names) are given
  type: dict
changed_names:
  description: The names whose key, or its protection, was or would be changed.
  returned: O(names) are given
  type: list
  elements: str
  sample: [alice-phone]
"""

import grp
import os
import pwd
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wirefleet.vpn.plugins.module_utils._key_directory import Attributes, KeyStoreError
from ansible_collections.wirefleet.vpn.plugins.module_utils._key_store import (
    Entry,
    KeyFile,
    KeyStore,
    Request,
    file_names,
)
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import (
    BackendError,
    Derive,
    KeyFormatError,
    find_backend,
    validate_key,
)

ARGUMENT_SPEC = {
    "path": {"type": "path"},
    "directory": {"type": "path"},
    "names": {"type": "list", "elements": "str"},
    "suffix": {"type": "str", "default": ".key"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "type": {"type": "str", "choices": ["private", "preshared"], "default": "private"},
    "regenerate": {"type": "str", "choices": ["never", "always"], "default": "never"},
    "backup": {"type": "bool", "default": False},
    "expected_public_key": {"type": "str", "no_log": False},
    "expected_public_keys": {"type": "dict", "no_log": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
    "directory_mode": {"type": "raw"},
    "return_private": {"type": "bool", "default": False, "no_log": False},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_one_of=[("path", "directory")],
        mutually_exclusive=[("path", "directory"), ("path", "expected_public_keys"), ("names", "expected_public_key")],
        required_together=[("directory", "names")],
        supports_check_mode=True,
    )
    try:
        request = build_request(module)
        store = KeyStore(request, choose_backend(module, request))
        entries = store.execute(check_mode=module.check_mode)
    except (KeyStoreError, BackendError) as error:
        module.fail_json(msg=str(error))
    for warning in store.warnings:
        module.warn(warning)
    module.exit_json(**build_result(module, store, entries))


def build_request(module: AnsibleModule) -> Request:
    params = module.params
    directory, files = locate(params)
    return Request(
        directory=directory,
        files=files,
        preshared=params["type"] == "preshared",
        present=params["state"] == "present",
        rotate=params["regenerate"] == "always",
        backup=params["backup"],
        expected=expected_keys(params, files),
        attributes=Attributes(
            mode=octal("mode", params["mode"]),
            uid=number_of(module, "owner", lambda name: pwd.getpwnam(name).pw_uid),
            gid=number_of(module, "group", lambda name: grp.getgrnam(name).gr_gid),
        ),
        directory_mode=octal("directory_mode", params["directory_mode"]),
    )


def locate(params: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The directory, and name to file name in it; with `path`, the file's name is the only identity's name."""
    option = "directory" if params["path"] is None else "path"
    path = params[option]
    if not os.path.isabs(path) or "\0" in path:
        raise KeyStoreError(f"{option}: {path!r} is not an absolute path")
    if option == "directory":
        return path.rstrip("/") or "/", file_names(params["names"], params["suffix"])
    directory, file = os.path.split(path)
    if file in ("", ".", ".."):
        raise KeyStoreError(f"path: {path!r} does not name a file")
    return directory, {file: file}


def expected_keys(params: dict[str, Any], files: dict[str, str]) -> dict[str, str]:
    if params["path"] is not None:
        option, known = "expected_public_key", dict.fromkeys(files, params["expected_public_key"])
    else:
        option, known = "expected_public_keys", params["expected_public_keys"] or {}
    known = {str(name): key for name, key in known.items() if key is not None}
    if known and params["type"] == "preshared":
        raise KeyStoreError(f"{option}: a preshared key has no public key")
    for name, key in known.items():
        try:
            known[name] = validate_key(str(key))
        except KeyFormatError as error:
            raise KeyStoreError(f"{option}: {name!r}: {error}") from None
    return known


def octal(option: str, value: Any) -> int | None:
    """Permissions from octal text, or from the number that YAML makes of unquoted 0600."""
    if value is None:
        return None
    try:
        mode = value if isinstance(value, int) else int(str(value), 8)
    except ValueError:
        mode = -1
    if isinstance(value, bool) or not 0 <= mode <= 0o7777:
        raise KeyStoreError(f"{option}: {value!r} is not an octal number like '0600'")
    return mode


def number_of(module: AnsibleModule, option: str, lookup: Callable[[str], int]) -> int | None:
    """The number of the user or group that `option` names."""
    name = module.params[option]
    if name is None or name.isdecimal():
        return None if name is None else int(name)
    try:
        return lookup(name)
    except KeyError:
        if not module.check_mode:
            raise KeyStoreError(f"{option}: there is no {name!r} on this host") from None
        # An earlier task may be going to create it.
        module.warn(f"{option}: there is no {name!r} on this host yet")
        return None


def choose_backend(module: AnsibleModule, request: Request) -> Derive | None:
    """What computes public keys; None where none is needed or, in check mode, none is there yet."""
    try:
        return None if request.preshared else find_backend()
    except BackendError as error:
        if request.present or request.expected:
            if not module.check_mode:
                raise
            module.warn(f"public keys of existing keys are unknown and were not compared: {error}")
        return None


def build_result(module: AnsibleModule, store: KeyStore, entries: list[Entry]) -> dict[str, Any]:
    directory = store.request.directory
    result: dict[str, Any] = {"changed": store.directory_changed or any(entry.changed for entry in entries)}
    if module._diff:
        result["diff"] = build_diff(store, entries)
    if module.params["path"] is not None:
        (entry,) = entries
        result["path"] = os.path.join(directory, entry.file)
        result["public_key"] = entry.public_key
        if entry.backup:
            result["backup_file"] = os.path.join(directory, entry.backup)
        if module.params["return_private"]:
            result["private_key"] = entry.private_key
        return result
    result["paths"] = {entry.name: os.path.join(directory, entry.file) for entry in entries}
    result["public_keys"] = {entry.name: entry.public_key for entry in entries}
    result["backup_files"] = {entry.name: os.path.join(directory, entry.backup) for entry in entries if entry.backup}
    result["changed_names"] = [entry.name for entry in entries if entry.changed]
    if module.params["return_private"]:
        result["private_keys"] = {entry.name: entry.private_key for entry in entries}
    return result


def build_diff(store: KeyStore, entries: list[Entry]) -> dict[str, dict[str, Any]]:
    changed = [entry for entry in entries if entry.changed]
    return {
        "before": {entry.file: describe(entry.before) for entry in changed},
        "after": {entry.file: describe(entry.after) for entry in changed},
    }


def describe(key: KeyFile | None) -> dict[str, Any] | None:
    if key is None:
        return None
    mode, uid, gid = key.attributes.mode, key.attributes.uid, key.attributes.gid
    return {"public_key": key.public_key, "mode": f"{mode:04o}", "owner": uid, "group": gid}


if __name__ == "__main__":
    main()
