# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Make key pairs for devices that bring none, on the controller; see the module's documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.wirefleet.vpn.plugins.module_utils._devices import lacking_key
from ansible_collections.wirefleet.vpn.plugins.plugin_utils import _handout
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._device_keys import DeviceKeys
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._secret_files import SecretFileError, SecretFiles

# What names of tunnels Android, Linux and Windows all take.
TUNNEL = re.compile(r"[A-Za-z0-9_=+.-]{1,15}")


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True, "no_log": False},
                "clients": {"type": "list", "elements": "dict", "required": True},
                "ledger": {"type": "list", "elements": "dict", "required": True},
                "only": {"type": "list", "elements": "str", "default": []},
                "rekey": {"type": "bool", "default": False},
                "keep_keys": {"type": "bool", "default": False, "no_log": False},
                "terminal": {"type": "bool", "default": False},
                "tunnel": {"type": "str", "required": True},
                "vault_password_file": {"type": "path", "default": "", "no_log": False},
            }
        )
        try:
            problems = list(_problems(options))
            if problems:
                raise AnsibleActionFail(f"Nothing was changed. {' | '.join(problems)}")
            files = SecretFiles(options["vault_password_file"], self._loader)
            keys = DeviceKeys(Path(options["directory"]), files)
            known = {
                entry["name"]: entry["public_key"]
                for entry in options["ledger"]
                if entry["kind"] == "client" and entry.get("public_key")
            }
            names = lacking_key(options["clients"], options["ledger"], options["only"], options["rekey"])
            prepared = keys.prepare(names, known, self._task.check_mode)
        except SecretFileError as error:
            raise AnsibleActionFail(str(error)) from None
        except OSError as error:
            raise AnsibleActionFail(f"{error.filename}: {error.strerror}") from None
        return {
            "changed": bool(names),
            "names": names,
            "public_keys": {name: key for name, key in prepared.items() if key},
        }


def _problems(options: Mapping[str, Any]) -> list[str]:
    """Why no hand-out could be written, or not as it is asked for."""
    problems = []
    if not _handout.HAS_SEGNO:
        problems.append("the Python library segno, which makes QR codes, is missing on the controller")
    if not TUNNEL.fullmatch(options["tunnel"]):
        problems.append(
            f"vpn_handout_tunnel: {options['tunnel']!r} is no name that all devices take: 1 to 15 of"
            " letters, digits and _ = + . -"
        )
    if options["keep_keys"] and not options["vault_password_file"]:
        problems.append("vpn_handout_keep_keys keeps devices' private keys, and needs vpn_handout_vault_password_file")
    for variable in ("rekey", "terminal"):
        if options[variable] and not options["only"]:
            problems.append(f"vpn_handout_{variable}: which device? Name it with -e client=NAME")
    items = {item["name"]: item for item in options["clients"]}
    for name in options["only"]:
        if name not in items or items[name].get("state") == "absent":
            problems.append(f"client={name}: vpn_clients has no such device")
        elif options["rekey"] and items[name].get("public_key"):
            problems.append(f"{name}: brings a public_key of its own, whose owner makes a new one")
    return problems
