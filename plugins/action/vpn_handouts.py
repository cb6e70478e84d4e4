# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Write what people get for their devices, on the controller; see the module's documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.wirefleet.vpn.plugins.module_utils._devices import name_servers, tunnel_routes
from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import endpoint, preshared_key
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._device_keys import DeviceKeys
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._handout import Device, Page, Service
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._handouts import Handouts
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._secret_files import SecretFileError, SecretFiles


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True},
                "key_directory": {"type": "path", "required": True, "no_log": False},
                "template": {"type": "path", "required": True},
                "clients": {"type": "list", "elements": "dict", "required": True},
                "ledger": {"type": "list", "elements": "dict", "required": True},
                "only": {"type": "list", "elements": "str", "default": []},
                "cluster": {"type": "str", "required": True},
                "seed": {"type": "str", "required": True, "no_log": True},
                "service_public_key": {"type": "str", "required": True},
                "endpoint": {"type": "str", "required": True},
                "port": {"type": "int", "required": True},
                "mtu": {"type": "int", "required": True},
                "routes": {"type": "list", "elements": "str", "required": True},
                "dns": {"type": "list", "elements": "str", "default": []},
                "tunnel": {"type": "str", "required": True},
                "keep_keys": {"type": "bool", "default": False, "no_log": False},
                "terminal": {"type": "bool", "default": False},
                "vault_password_file": {"type": "path", "default": "", "no_log": False},
            }
        )
        try:
            return self._hand_out(options, self._task.check_mode)
        except SecretFileError as error:
            raise AnsibleActionFail(str(error)) from None
        except OSError as error:
            raise AnsibleActionFail(f"{error.filename}: {error.strerror}") from None

    def _hand_out(self, options: Mapping[str, Any], check: bool) -> dict[str, Any]:
        files = SecretFiles(options["vault_password_file"], self._loader)
        keys = DeviceKeys(Path(options["key_directory"]), files)
        service = Service(
            public_key=options["service_public_key"],
            endpoint=endpoint(options["endpoint"], options["port"]),
            mtu=options["mtu"],
            tunnel=options["tunnel"],
        )
        page = Page(Path(options["template"]).read_text())
        handouts = Handouts(Path(options["directory"]), files, keys, service, page, options["keep_keys"])
        known = {
            entry["name"]: entry
            for entry in options["ledger"]
            if entry["kind"] == "client" and entry.get("public_key") and "released" not in entry
        }
        only = options["only"]
        outcome = handouts.write(
            [
                _device(item, known[item["name"]], options)
                for item in sorted(options["clients"], key=lambda item: item["name"])
                # Who is suspended could not connect.
                if item["name"] in known and item.get("state") != "suspended" and (not only or item["name"] in only)
            ],
            only,
            check,
        )
        if not only:
            outcome.removed = handouts.clear(known, check)
            if not check:
                keys.discard_unknown({name: entry["public_key"] for name, entry in known.items()})
        if outcome.outdated:
            Display().warning(
                "handed out before what they say changed, and their private keys are not kept: "
                f"{', '.join(outcome.outdated)}. Change these devices by hand, or make new key pairs with"
                " -e client=NAME -e vpn_handout_rekey=true"
            )
        if options["terminal"] and not check:
            for name in only:
                _print(name, handouts)
        return {
            "changed": bool(outcome.written or outcome.removed),
            "written": outcome.written,
            "removed": outcome.removed,
            "outdated": outcome.outdated,
        }


def _device(item: Mapping[str, Any], entry: Mapping[str, Any], options: Mapping[str, Any]) -> Device:
    client = {
        "public_key": entry["public_key"],
        "preshared": item.get("psk") is not False,
        "psk_mask": item.get("psk_mask"),
        "psk_renewals": entry.get("psk_renewals"),
    }
    return Device(
        name=item["name"],
        owner=item.get("owner") or "",
        addresses=entry["addresses"],
        public_key=entry["public_key"],
        own_key=bool(item.get("public_key")),
        preshared_key=preshared_key(options["seed"], options["cluster"], item["name"], client),
        routes=tunnel_routes(item, options["routes"]),
        dns=name_servers(item, options["dns"]),
    )


def _print(name: str, handouts: Handouts) -> None:
    """Show a QR code on the screen, and on the screen only: no log of Ansible's gets it."""
    code = handouts.qr_code(name)
    shown = code.terminal() if code else "its owner has its private key, and so there is no QR code"
    Display().display(f"{name}:\n{shown}", screen_only=True)
