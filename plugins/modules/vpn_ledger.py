#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read and write the ledger at one place, so that of two controllers only one can win."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vpn_ledger
short_description: Read and write the ledger of a VPN cluster
version_added: 0.1.0
description:
  - The ledger says who holds which address and public key. It is a text file of one line per entry, which merges well
    in git, and lies in several places. Each place is read and written with this module.
  - A write is a compare-and-swap. It names the generation that this run has read at this place, and fails if another
    one is there by now.
  - A file that can not be understood is never overwritten. The error names the line at fault.
author:
  - Wirefleet contributors (@wirefleet)
options:
  path:
    description:
      - The file, absolute. A missing directory is created with mode 0700, the file gets mode 0600.
    type: path
    required: true
  cluster:
    description:
      - The name of the cluster. A ledger of another cluster is refused.
    type: str
    required: true
  state:
    description:
      - V(read) returns what is there.
      - V(present) makes it say O(text), or O(entries) and O(generation).
    type: str
    choices: [read, present]
    default: present
  entries:
    description:
      - All entries, in any order. Required for O(state=present) without O(text).
      - Each has a C(kind) (letters a to z), a C(name) that is unique within its kind, and optionally C(addresses),
        C(public_key) and C(released). Other keys are kept.
      - No address may be there twice, nor a public key within one kind, except for entries that are C(released).
    type: list
    elements: dict
  generation:
    description:
      - The generation that this run writes, from 1. Required for O(state=present) without O(text).
    type: int
  expect_generation:
    description:
      - The generation that this run has read at this place, 0 if there was none. Required for O(state=present).
    type: int
  as_text:
    description:
      - Whether O(state=read) returns RV(text) in place of RV(entries).
      - It is for ledgers that are passed on. Ansible needs seconds for ten thousand entries, and nothing for one text.
    type: bool
    default: false
  text:
    description: The whole ledger as it was read with O(as_text), or as a plan has it.
    type: str
attributes:
  check_mode:
    description: Says what would change, and finds conflicts and damage, without touching anything.
    support: full
  diff_mode:
    description: Shows the text of the ledger, which holds no secrets.
    support: full
  idempotence:
    description: A ledger that says the same already is left alone, whatever O(expect_generation) says.
    support: full
"""

EXAMPLES = r"""
- name: Read the ledger of this node
  wirefleet.vpn.vpn_ledger:
    path: /etc/wirefleet/default/ledger.jsonl
    cluster: default
    state: read
  register: found

- name: Add a client, unless somebody else has written since
  wirefleet.vpn.vpn_ledger:
    path: /etc/wirefleet/default/ledger.jsonl
    cluster: default
    entries: "{{ found.entries + [{'kind': 'client', 'name': 'alice', 'addresses': ['10.80.0.2']}] }}"
    generation: "{{ found.generation + 1 }}"
    expect_generation: "{{ found.generation }}"
"""

RETURN = r"""
present:
  description: Whether there is a ledger.
  returned: success
  type: bool
cluster:
  description: The name of the cluster.
  returned: success
  type: str
generation:
  description: The generation that is there now, 0 if there is no ledger; after a conflict, the one that was found.
  returned: success or conflict
  type: int
entries:
  description: The entries, sorted by kind and name.
  returned: O(state=read) without O(as_text)
  type: list
  elements: dict
text:
  description: The text of the ledger, its lines sorted, or nothing where there is no ledger.
  returned: O(state=read) with O(as_text)
  type: str
conflict:
  description: True if another generation was there than O(expect_generation). Nothing was written.
  returned: conflict
  type: bool
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wirefleet.vpn.plugins.module_utils._ledger import Ledger, LedgerError, parse, render


class Conflict(Exception):
    """Another generation is there than this run has read."""

    def __init__(self, found: int, expected: int) -> None:
        if found:
            what = f"somebody else wrote generation {found}; this run has read {expected or 'none'}"
        else:
            what = f"generation {expected}, which this run has read, is gone"
        super().__init__(f"{what}. Nothing was written: run again")
        self.found = found


def load(path: str, cluster: str) -> Ledger | None:
    """Return the ledger, or None where there is none. Raises LedgerError and OSError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    try:
        ledger = parse(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LedgerError(f"line {line}: not UTF-8") from None
    if ledger.cluster != cluster:
        raise LedgerError(f"belongs to the cluster {ledger.cluster!r}, not to {cluster!r}")
    return ledger


def differs(current: Ledger | None, wanted: Ledger, expected: int) -> bool:
    """Whether there is something to write. Raises Conflict if there is, but over what this run has not read."""
    if current == wanted:
        return False
    found = current.generation if current else 0
    if found != expected:
        raise Conflict(found, expected)
    return True


def store(path: str, wanted: Ledger, expected: int) -> None:
    """Write the ledger, unless there is another generation than the expected one by now."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with locked(f"{path}.lock"):
        if differs(load(path, wanted.cluster), wanted, expected):
            replace(path, render(wanted).encode())


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock file of this path. Its holder removes it, so that it never ends up in somebody's repository."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever waited may have got the lock of a file that is removed by now, and protects nothing.
            if is_open_as(descriptor, path):
                try:
                    yield
                finally:
                    os.unlink(path)
                return
        finally:
            os.close(descriptor)


def is_open_as(descriptor: int, path: str) -> bool:
    """Whether this path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def replace(path: str, data: bytes) -> None:
    """Put a complete file in place of the old one; after a crash there is one or the other."""
    directory = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    # The new name is on disk only when its directory is.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(module: AnsibleModule) -> dict[str, object]:
    """state=read: what is there."""
    cluster = module.params["cluster"]
    ledger = load(module.params["path"], cluster)
    result: dict[str, object] = {
        "changed": False,
        "present": ledger is not None,
        "cluster": cluster,
        "generation": ledger.generation if ledger else 0,
    }
    if module.params["as_text"]:
        result["text"] = render(ledger) if ledger else ""
    else:
        result["entries"] = list(ledger.entries) if ledger else []
    return result


def asked_for(module: AnsibleModule) -> Ledger:
    """The ledger that this run wants. Raises LedgerError."""
    cluster, text = module.params["cluster"], module.params["text"]
    if not text:
        return Ledger(cluster, module.params["generation"], tuple(module.params["entries"]))
    wanted = parse(text)
    if wanted.cluster != cluster:
        raise LedgerError(f"text: belongs to the cluster {wanted.cluster!r}, not to {cluster!r}")
    return wanted


def present(module: AnsibleModule) -> dict[str, object]:
    """state=present: make it say what this run wants."""
    path, cluster, expected = (module.params[key] for key in ("path", "cluster", "expect_generation"))
    wanted = asked_for(module)
    current = load(path, cluster)
    changed = differs(current, wanted, expected)
    if changed and not module.check_mode:
        store(path, wanted, expected)
    result: dict[str, object] = {
        "changed": changed,
        "present": True,
        "cluster": cluster,
        "generation": wanted.generation,
    }
    if module._diff:
        result["diff"] = {
            "before_header": path,
            "before": render(current) if current else "",
            "after_header": path,
            "after": render(wanted),
        }
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "cluster": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["read", "present"], "default": "present"},
            "entries": {"type": "list", "elements": "dict"},
            "generation": {"type": "int"},
            "expect_generation": {"type": "int"},
            "as_text": {"type": "bool", "default": False},
            "text": {"type": "str"},
        },
        mutually_exclusive=[("text", "entries"), ("text", "generation")],
        supports_check_mode=True,
    )
    # Not required_if, which takes null for a value: a null must never become an empty ledger.
    needed = ("expect_generation",) if module.params["text"] else ("entries", "generation", "expect_generation")
    missing = [key for key in needed if module.params[key] is None]
    if missing and module.params["state"] == "present":
        module.fail_json(msg=f"state=present needs {', '.join(missing)}")
    path = module.params["path"]
    if not os.path.isabs(path):
        module.fail_json(msg=f"path: {path!r} is not absolute")
    # What gets replaced is the file, and not a symbolic link to it.
    module.params["path"] = os.path.realpath(path)
    try:
        result = read(module) if module.params["state"] == "read" else present(module)
    except Conflict as conflict:
        module.fail_json(msg=f"{path}: {conflict}", conflict=True, generation=conflict.found)
    except LedgerError as error:
        module.fail_json(msg=f"{path}: {error}")
    except OSError as error:
        module.fail_json(msg=f"{path}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
