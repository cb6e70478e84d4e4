# SPDX-License-Identifier: GPL-3.0-or-later
"""A Prometheus that somebody else runs is left alone, and gets files if it wants them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from traffic.hosts import Lab
from traffic.monitor import Monitor
from traffic.site import site_of_checkout

CONFIGURATION = "/etc/prometheus/prometheus.yml"
ELSEWHERE = "/etc/elsewhere"


@pytest.fixture(autouse=True)
def _foreign(monitor: Monitor) -> Iterator[None]:
    """Its configuration is somebody else's now. (Prometheus itself does not read it before it is told to.)"""
    monitor.host.check_output("cp -p %s /run/ours.yml && echo 'global: {}' > %s", CONFIGURATION, CONFIGURATION)
    yield
    monitor.host.check_output("cp -p /run/ours.yml %s && rm -rf %s", CONFIGURATION, ELSEWHERE)


def test_it_is_not_overwritten(lab: Lab) -> None:
    because = f"mon: {CONFIGURATION} was written by somebody else. Set vpn_monitor_install to false"
    site_of_checkout(lab.inventory, options=("--limit=mon",)).assert_refused(because)


def test_it_gets_files_that_it_can_use(lab: Lab, monitor: Monitor) -> None:
    variables = ("--extra-vars", f"vpn_monitor_install=false vpn_monitor_dir={ELSEWHERE}")
    run = site_of_checkout(lab.inventory, options=("--limit=mon", *variables))
    assert run.code == 0, run.output
    assert monitor.host.file(CONFIGURATION).content_string == "global: {}\n"
    # As Prometheus would put them together, from scrape_config_files.
    monitor.host.check_output(
        "(echo 'rule_files: [%s/rules.yml]'; cat %s/scrape.yml) > %s/all.yml && promtool check config %s/all.yml",
        *[ELSEWHERE] * 4,
    )
    assert len(monitor.host.check_output("ls %s/dashboards", ELSEWHERE).split()) == 4
