# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody would have who took over a daemon. That they can do their work, all other tests show."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host
from traffic.cluster import Cluster
from traffic.hosts import Lab, until

DAEMONS = [("lb1", "wirefleet-steer"), ("n1", "wirefleet-node")]
EXPOSURE = 2.0  # of 10, by systemd-analyze's count
CAP_DAC_OVERRIDE, CAP_NET_ADMIN = 1 << 1, 1 << 12  # linux/capability.h; the former for wireguard-go's control socket
SECRETS = "/etc/wirefleet/default/keys/* /etc/wirefleet/default/ledger.jsonl /etc/wireguard/*"

pytestmark = pytest.mark.parametrize(("name", "unit"), DAEMONS)


def process(host: Host, unit: str) -> str:
    return host.check_output("systemctl show --property MainPID --value %s", unit)


def test_systemd_finds_little_exposed(lab: Lab, name: str, unit: str) -> None:
    report = lab.host(name).check_output("systemd-analyze security --no-pager %s", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", report)
    assert found, report
    assert float(found[1]) <= EXPOSURE, report


def test_it_is_nobody_with_one_capability(lab: Lab, name: str, unit: str) -> None:
    host = lab.host(name)
    status = host.check_output("cat /proc/%s/status", process(host, unit))
    field = dict(line.split(":\t", 1) for line in status.splitlines())
    assert host.check_output("id -un %s", field["Uid"].split("\t")[0]) == "wirefleet"
    for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(field[kind], 16) & ~CAP_DAC_OVERRIDE == CAP_NET_ADMIN
    assert field["NoNewPrivs"] == "1"


def test_it_sees_no_secret_on_the_disk(lab: Lab, name: str, unit: str) -> None:
    """Not even with CAP_DAC_OVERRIDE: root himself finds nothing where the daemon is."""
    host = lab.host(name)
    count = f"cat {SECRETS} /etc/shadow 2> /dev/null | wc --bytes"
    assert int(host.check_output("sh -c %s", count)) > 0
    assert host.check_output("nsenter --target %s --mount sh -c %s", process(host, unit), count) == "0"


def test_it_can_change_no_file_but_its_own(lab: Lab, name: str, unit: str) -> None:
    host = lab.host(name)
    write = "touch /etc/x /usr/x /var/lib/wirefleet/default/x /root/x 2>&1 | grep -c 'Read-only\\|denied'"
    assert host.check_output("nsenter --target %s --mount sh -c %s", process(host, unit), write) == "4"


def test_what_belonged_to_root_is_its_own_after_a_start(cluster: Cluster, lab: Lab, name: str, unit: str) -> None:
    """As after an upgrade from a daemon that was root."""
    if unit != "wirefleet-steer":
        pytest.skip("it writes nothing")
    host = lab.host(name)
    host.check_output("chown --recursive root: /run/wirefleet-steer && systemctl restart wirefleet-steer")
    begin = int(host.check_output("date +%s"))
    memory = host.file("/run/wirefleet-steer/clients.json")
    until("it remembers its clients", 30, lambda: int(memory.mtime.timestamp()) >= begin)
    assert host.check_output("find /run/wirefleet-steer -not -user wirefleet") == ""
    for node in cluster.nodes:
        cluster.wait(node, "up")
