# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What the tests need of ansible-core, for each version that the collection supports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ansible.module_utils import basic
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

try:  # since 2.19
    from ansible.module_utils.testing import patch_module_args
    from ansible.template import trust_as_template
except ImportError:

    @contextmanager
    def patch_module_args(args: dict[str, Any] | None = None) -> Iterator[None]:
        document = json.dumps({"ANSIBLE_MODULE_ARGS": args or {}}).encode()
        with mock.patch.object(basic, "_ANSIBLE_ARGS", document):
            yield

    def trust_as_template(value: str) -> str:
        return value


def template(text: str, variables: dict[str, Any]) -> Any:
    """What Ansible makes of a template, as a task's or a role's."""
    return Templar(DataLoader(), variables=variables).template(trust_as_template(text))


__all__ = ["patch_module_args", "template"]
