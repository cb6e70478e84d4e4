# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Ask a daemon of the cluster; see the module's documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._daemon import Unanswered, ask


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, options = self.validate_argument_spec({"argv": {"type": "list", "elements": "str", "required": True}})
        try:
            return {"changed": False, "answer": ask(self, options["argv"]), "problem": None}
        except Unanswered as error:
            return {"changed": False, "answer": None, "problem": str(error)}
