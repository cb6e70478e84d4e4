# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The role's files as it writes them, and promtool to judge them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[4]
ROLE = REPOSITORY / "roles/vpn_monitor"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
CLUSTER = {"vpn_cluster": "default", "__vpn_suffix": "", "ansible_managed": "Managed"}


def promtool(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False)


def rules(**changes: str) -> str:
    """The alert rules. Their template has markers of its own, since alerts have templates, too."""
    header, text = (ROLE / "templates/rules.yml.j2").read_text().split("\n", 1)
    assert header.startswith("#jinja2:")
    environment = jinja2.Environment(
        variable_start_string="[%", variable_end_string="%]", undefined=jinja2.StrictUndefined
    )
    environment.filters["comment"] = "# {}".format
    return environment.from_string(text).render(**{**DEFAULTS, **CLUSTER, **changes})


@pytest.fixture(scope="session")
def rule_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules with all defaults."""
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(rules())
    return path


@pytest.fixture(scope="session")
def alerts(rule_file: Path) -> dict[str, dict[str, Any]]:
    """The rules by their names."""
    (group,) = yaml.safe_load(rule_file.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}
