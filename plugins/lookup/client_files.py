# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup client_files: the clients that a directory of small YAML files describes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: client_files
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Read clients from a directory of YAML files
description:
  - Each file C(*.yml) or C(*.yaml) holds one client, or a list of them, with the keys of an item of C(vpn_clients).
  - One without C(name) is called as its file. Nothing in these files is a template.
  - All that can not be read is reported at once, by file and line.
options:
  _terms:
    description: The directories. An empty name is none.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
- name: Show who is there
  ansible.builtin.debug:
    msg: "{{ query('wirefleet.vpn.client_files', '/srv/vpn/clients') | map(attribute='name') }}"
"""

RETURN = r"""
_raw:
  description: The clients, by the names of their files.
  type: list
  elements: dict
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

# A hundred bytes for each of ten thousand clients, several times over.
LIMIT = 4 * 1024 * 1024
SafeLoader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ClientFileError(Exception):
    """What is wrong with a file."""


class LookupModule(LookupBase):
    def run(
        self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """See DOCUMENTATION."""
        clients: list[dict[str, Any]] = []
        problems = []
        for directory in filter(None, terms):
            if not Path(directory).is_dir():
                raise AnsibleLookupError(f"client_files: {directory} is no directory")
            for path in sorted(p for p in Path(directory).iterdir() if p.suffix in (".yml", ".yaml")):
                try:
                    clients.extend(read(path))
                except ClientFileError as error:
                    problems.append(f"{path}: {error}")
        if problems:
            raise AnsibleLookupError(f"client_files: {' | '.join(problems)}")
        return clients


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The clients of one file. Raises ClientFileError."""
    try:
        size = path.stat().st_size
        if size > LIMIT:
            raise ClientFileError(f"has {size} bytes, more than the {LIMIT} of any list of clients")
        content = yaml.load(path.read_bytes(), Loader=SafeLoader)
    except OSError as error:
        raise ClientFileError(str(error.strerror)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ClientFileError(f"{where}no YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise ClientFileError("is nested too deep") from None
    items = (
        content if isinstance(content, list) else [{"name": path.stem, **content}] if _is_client(content) else [None]
    )
    for number, item in enumerate(items, 1):
        if not _is_client(item):
            raise ClientFileError(f"item {number} is no client, which is a mapping such as {{name: alice-phone}}")
        yield item


def _is_client(item: object) -> bool:
    return isinstance(item, dict) and all(isinstance(key, str) for key in item)
