#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of variables in the roles' READMEs, made from meta/argument_specs.yml and defaults/main.yml.

Without an argument it fails when a table is not current, with ``--write`` it makes it so.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]

BEGIN = "<!-- Variables, from meta/argument_specs.yml (make docs) -->"
END = "<!-- End of variables -->"
HEAD = ("| variable | type | default | meaning |", "|---|---|---|---|")

# V(value), O(option) … of Ansible's documentation; none of ours has a parenthesis inside. An option of another role has
# that before its name, which says it, too.
MARKUP = re.compile(r"\b(?:V|O|C|E|RV)\((?:[\w.]+#role:main:)?([^()]*)\)")


def code(text: str) -> str:
    """The text as Markdown's code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")


def meaning(option: Mapping[str, Any]) -> str:
    """Description and choices of an option, on one line."""
    description = option["description"]
    sentences = [description] if isinstance(description, str) else list(description)
    if option.get("choices"):
        sentences.append(f"One of {', '.join(f'V({choice})' for choice in option['choices'])}.")
    # Outside code, <tag> would be HTML.
    text = " ".join(" ".join(sentences).split()).replace("|", "\\|").replace("<", "&lt;")
    return MARKUP.sub(r"`\1`", text)


def default(option: Mapping[str, Any]) -> str:
    """What an option is when it is not given; empty where there is no such thing."""
    if option.get("required"):
        return "required"
    if "default" not in option:
        return ""
    value = option["default"]
    return code(value if isinstance(value, str) and value else json.dumps(value))


def rows(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A row for each option, followed by those of the options inside it."""
    for name, option in options.items():
        # What Ansible leaves to us to check, but has options, is a dictionary.
        elements = "dict" if "options" in option else option.get("elements")
        kind = f"{option['type']} of {elements}" if "elements" in option else option["type"]
        yield f"| {code(prefix + name)} | {kind} | {default(option)} | {meaning(option)} |"
        yield from rows(option.get("options", {}), f"{prefix}{name}{'[]' if option['type'] == 'list' else ''}.")


def with_table(role: Path) -> str:
    """The role's README with the table that it should have."""
    readme = (role / "README.md").read_text()
    options = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    # Some defaults can not stand in argument_specs (argument_specs.py says which).
    for name, value in (yaml.safe_load((role / "defaults/main.yml").read_text()) or {}).items():
        options.get(name, {}).setdefault("default", value)
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{role.name}/README.md has no lines {BEGIN!r} and {END!r}")
    return "\n".join((before + BEGIN, "", *HEAD, *rows(options), "", END + after))


def main() -> int:
    stale = {}
    for specs in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        role = specs.parents[1]
        text = with_table(role)
        if (role / "README.md").read_text() != text:
            stale[role / "README.md"] = text
    if "--write" in sys.argv[1:]:
        for readme, text in stale.items():
            readme.write_text(text)
        return 0
    for readme in stale:
        print(f"{readme.relative_to(ROOT)}: the table of variables is not current: make docs")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
