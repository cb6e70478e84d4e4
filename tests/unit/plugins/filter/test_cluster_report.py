# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter import cluster_report

report = cluster_report.FilterModule().filters()["cluster_report"]
DEAD = {"answer": None, "problem": "can not be reached"}


def test_hosts_that_do_not_answer_are_in_the_table() -> None:
    made = report({"n1": DEAD}, {"lb1": DEAD}, cluster="site", collection="0.1.0")
    assert (made["cluster"], list(made["nodes"]), list(made["balancers"])) == ("site", ["n1"], ["lb1"])


def test_an_answer_of_another_shape_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^cluster_report: an answer is not understood: KeyError: 'daemon'"):
        report({}, {"lb1": {"answer": {"nodes": []}, "problem": None}}, cluster="site", collection="0.1.0")
