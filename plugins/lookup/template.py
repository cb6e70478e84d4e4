# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup template: Ansible's own, without its copy of all variables down to the last client."""

from __future__ import annotations

DOCUMENTATION = r"""
name: template
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Render a template, however much there is in the variables
description:
  - Does what P(ansible.builtin.template#lookup) does, which it runs.
  - That one copies all variables with all that is in them before it renders. With ten thousand clients among them this
    takes seconds for each template and host. Here the template gets the variables themselves, and must not change them.
options:
  _terms:
    description: The templates, found where P(ansible.builtin.template#lookup) finds them.
    type: list
    elements: str
    required: true
notes:
  - Takes the options of P(ansible.builtin.template#lookup), such as C(template_vars).
"""

EXAMPLES = r"""
- name: Apply an interface
  wirefleet.vpn.wg_interface:
    name: wg0
    config: "{{ lookup('wirefleet.vpn.template', 'wg0.conf.j2') }}"
"""

RETURN = r"""
_raw:
  description: The rendered templates.
  type: list
  elements: raw
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase


class Shared(dict[str, Any]):
    """Variables that share what is in them with their copy."""

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        # A plain one: Jinja takes no other.
        return dict(self)


class LookupModule(LookupBase):
    def run(self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """See DOCUMENTATION."""
        template = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
        found: list[Any] = template.run(terms, variables=Shared(variables or {}), **kwargs)
        return found
