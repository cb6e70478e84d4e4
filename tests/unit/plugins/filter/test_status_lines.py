# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter import cluster_report, status_lines

report = cluster_report.FilterModule().filters()["cluster_report"]
lines = status_lines.FilterModule().filters()["status_lines"]


def test_a_report_is_laid_out() -> None:
    dead = {"answer": None, "problem": "can not be reached"}
    made = report({"n1": dead}, {"lb1": dead}, cluster="site", collection="0.1.0")
    assert lines(made)[0] == "Cluster site: no balancer was asked, or answered."


def test_only_a_report_can_be_laid_out() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^status_lines: expected"):
        lines(["n1"])
