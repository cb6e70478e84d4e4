# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.wirefleet.vpn.plugins.lookup.template import Shared

REPOSITORY = Path(__file__).resolve().parents[4]
TEMPLATE = """\
{{ ansible_managed | comment }}
{% if name %}
hello {{ name }} and {{ also }}, {{ list[0].x }} of {{ template_path | basename }}
{% endif %}
"""


def test_it_renders_as_ansibles_own(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "greeting.j2").write_text(TEMPLATE)
    lookup = "{{ lookup('%s', 'greeting.j2', template_vars={'also': 'bob'}) }}"
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {
            "name": "{{ 'alice' }}",
            "list": [{"x": 1}],
            "ours": lookup % "wirefleet.vpn.template",
            "core": lookup % "ansible.builtin.template",
        },
        "tasks": [
            {"ansible.builtin.copy": {"content": "{{ [ours, core] | to_json }}", "dest": str(tmp_path / "rendered")}}
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-c", "local", tmp_path / "play.yml"],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".collections"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
        check=True,
        timeout=60,
    )
    ours, core = json.loads((tmp_path / "rendered").read_text())
    assert ours == core
    assert "hello alice and bob, 1 of greeting.j2\n" in ours


def test_variables_are_copied_but_not_what_is_in_them() -> None:
    variables = Shared(clients=[{"name": "alice"}])
    copied = copy.deepcopy(variables)
    assert type(copied) is dict
    assert copied["clients"] is variables["clients"]
    copied["template_path"] = "x"
    assert "template_path" not in variables
