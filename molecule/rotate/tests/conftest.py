# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host
from traffic.cluster import Cluster, reaches
from traffic.hosts import Lab, until
from traffic.pair import Pair
from traffic.site import InfraRepository, Play, Run

SERVED_SECONDS = 30


@pytest.fixture(scope="session")
def pair(lab: Lab) -> Pair:
    """Client c1 comes over IPv4, c2 over IPv6."""
    return Pair(lab)


@pytest.fixture(scope="session")
def cluster(lab: Lab, pair: Pair) -> Cluster:
    """As the balancer sees it that is active at first."""
    return Cluster(lab, nodes=["n1", "n2", "n3"], clients=["c1", "c2"], balancer=pair.roles()[0])


@pytest.fixture(scope="session")
def phone(lab: Lab) -> Host:
    """Alice's device, of which the inventory knows a name."""
    return lab.host("phone")


@pytest.fixture(scope="session")
def conf(lab: Lab) -> Path:
    """What Alice gets for it."""
    return lab.directory / "state" / "handouts" / "alice" / "vpn.conf"


@pytest.fixture(scope="session")
def connect(phone: Host, conf: Path, web: dict[int, str]) -> Callable[[], None]:
    """Import the hand-out, as its owner does."""

    def connect() -> None:
        phone.run("systemctl stop wg-quick@vpn")
        phone.check_output(
            "umask 077; printf %%s %s > /etc/wireguard/vpn.conf; systemctl start wg-quick@vpn", conf.read_text()
        )
        until("the phone is served", SERVED_SECONDS, lambda: reaches(phone, f"http://{web[4]}/"))

    return connect


@pytest.fixture
def play(lab: Lab, infra: InfraRepository, tmp_path: Path) -> Play:
    """Run a playbook with variables; those who are `gone` are out of the inventory, and others are `besides` it."""

    def run(
        name: str,
        gone: tuple[str, ...] = (),
        besides: tuple[Path, ...] = (),
        options: tuple[str, ...] = (),
        **variables: str,
    ) -> Run:
        extra = [*options, *(f"--extra-vars={name}={value}" for name, value in variables.items())]
        inventory = lab.inventory
        if gone:
            inventory = tmp_path / "infra"
            inventory.mkdir(exist_ok=True)
            hosts = yaml.safe_load((lab.inventory / "hosts.yml").read_text())
            for group in hosts["all"]["children"].values():
                for host in gone:
                    group["hosts"].pop(host, None)
            hosts["all"]["vars"]["lab_directory"] = str(lab.directory)
            (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
            for part in ("group_vars", "host_vars"):
                if not (inventory / part).exists():
                    (inventory / part).symlink_to(lab.inventory / part)
        return infra.play(f"wirefleet.vpn.{name}", inventory, *besides, options=tuple(extra))

    return run
