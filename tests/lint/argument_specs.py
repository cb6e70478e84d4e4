#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the roles' defaults, argument_specs and uses agree? Prints what does not, and fails.

For every role: each variable of defaults/main.yml is documented in meta/argument_specs.yml with the same default, each
documented default exists, no required option has a default, and every variable is used somewhere in the collection.
A default that is a template of something else than text stands in defaults/main.yml only: Ansible's documentation takes
none that is not of the option's type. (The READMEs' tables show it.)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXTUAL = ("str", "path")


def problems(role: Path, sources: str) -> list[str]:
    """What is wrong with one role; `sources`: the text of everything that may use a variable."""
    defaults: dict[str, Any] = yaml.safe_load((role / "defaults/main.yml").read_text()) or {}
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    found = []
    for name in sorted(defaults.keys() | specs.keys()):
        spec = specs.get(name)
        if spec is None:
            found.append(f"{name} has a default, but is not in argument_specs")
            continue
        if spec.get("required") and name in defaults:
            found.append(f"{name} is required and has a default")
        computed = "{{" in str(defaults.get(name)) and spec.get("elements", spec.get("type")) not in TEXTUAL
        if computed and "default" in spec:
            found.append(f"{name}: argument_specs can not have a template as the default of something else than text")
        elif computed:
            pass
        elif ("default" in spec) != (name in defaults):
            found.append(f"{name} has a default in only one of defaults and argument_specs")
        elif name in defaults and spec["default"] != defaults[name]:
            found.append(f"{name}: the default is {defaults[name]!r}, argument_specs say {spec['default']!r}")
        if not re.search(rf"\b{name}\b", sources):
            found.append(f"{name} is never used")
        prefix = "vpn_" if role.name == "vpn_cluster" else f"{role.name}_"
        if not name.startswith(prefix):
            found.append(f"{name} does not start with {prefix}")
        if not spec.get("description") or not spec.get("type"):
            found.append(f"{name} has no description or no type")
    return [f"{role.name}: {text}" for text in found]


def main() -> int:
    roles = sorted(path.parent.parent for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
    users = [
        path
        for pattern in ("roles/*/tasks/*", "roles/*/templates/*", "roles/*/vars/*", "roles/*/handlers/*", "playbooks/*")
        for path in ROOT.glob(pattern)
        if path.is_file()
    ]
    sources = "\n".join(path.read_text() for path in users)
    # A default that is built from another variable uses it.
    sources += "\n".join(
        line.partition(":")[2] for role in roles for line in (role / "defaults/main.yml").read_text().splitlines()
    )
    found = [text for role in roles for text in problems(role, sources)]
    missing = sorted({path.name for path in (ROOT / "roles").iterdir()} - {role.name for role in roles})
    found += [f"{name}: has no meta/argument_specs.yml" for name in missing]
    print("\n".join(found) or f"{len(roles)} roles: defaults and argument_specs agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
