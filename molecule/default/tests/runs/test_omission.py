# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves out, or is somebody else's, stays as it is, or the run is refused. Nobody goes by omission."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from traffic.cluster import Cluster, peers
from traffic.hosts import Lab
from traffic.site import InfraRepository


@pytest.fixture
def inventory(lab: Lab, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """The lab's inventory with a mistake in it."""

    def with_mistake(mistake: Callable[[dict[str, Any]], object]) -> Path:
        copy = tmp_path / "inventory"
        shutil.copytree(lab.inventory, copy)
        tree = yaml.safe_load((copy / "hosts.yml").read_text())
        tree["all"]["vars"]["lab_directory"] = str(lab.directory)
        mistake(tree["all"]["children"])
        (copy / "hosts.yml").write_text(yaml.safe_dump(tree))
        return copy

    return with_mistake


def everybody(cluster: Cluster) -> dict[str, dict[str, str]]:
    """Each node's peers, by key."""
    return {name: peers(node, "allowed-ips") for name, node in cluster.nodes.items()}


def test_a_run_for_one_host_leaves_the_others_alone(lab: Lab, cluster: Cluster, infra: InfraRepository) -> None:
    before = everybody(cluster)
    infra.site(lab.inventory, options=("--limit", "lb1")).assert_unchanged()
    assert everybody(cluster) == before


@pytest.mark.parametrize(
    ("mistake", "options", "complaint"),
    [
        pytest.param(
            lambda groups: groups["wg_clients"]["hosts"].pop("c2"),
            (),
            "1 known client(s) are missing from the inventory and from vpn_clients: c2",
            id="a client is gone",
        ),
        pytest.param(
            lambda groups: groups["wg_clients"].pop("hosts"),
            (),
            "2 known client(s) are missing from the inventory and from vpn_clients: c1, c2",
            id="all are gone",
        ),
        pytest.param(
            lambda groups: groups["wg_clients"].pop("hosts"),
            ("--extra-vars", "vpn_max_removals=2"),
            "the inventory has no client at all",
            id="all are gone, and removals are allowed",
        ),
    ],
)
def test_a_client_that_is_missing_is_an_error(
    cluster: Cluster,
    infra: InfraRepository,
    inventory: Callable[[Callable[[dict[str, Any]], object]], Path],
    mistake: Callable[[dict[str, Any]], object],
    options: tuple[str, ...],
    complaint: str,
) -> None:
    before = everybody(cluster)
    run = infra.site(inventory(mistake), options=options)
    assert run.code != 0, run.output
    # However the terminal breaks the lines.
    assert complaint in run.said, run.output
    assert run.total("changed") == 0, run.output
    assert everybody(cluster) == before


@pytest.mark.parametrize(
    ("host", "interface", "variable"),
    [("n1", "vpn9", "vpn_interface"), ("lb1", "mesh9", "vpn_mesh_interface")],
    ids=["of a node", "of a mesh"],
)
def test_an_interface_of_somebody_else_is_refused(
    lab: Lab, infra: InfraRepository, host: str, interface: str, variable: str
) -> None:
    file = f"/etc/wireguard/{interface}.conf"
    lab.host(host).check_output(
        "umask 077; { echo [Interface]; echo PrivateKey = $(wg genkey); } > %s; md5sum %s > /run/before", file, file
    )
    run = infra.site(lab.inventory, options=("--extra-vars", f"{variable}={interface}"))
    run.assert_refused(f"Nothing was changed. {host}: {variable} is {interface}, which is not of the cluster default")
    lab.host(host).check_output("md5sum --check /run/before && rm %s /run/before", file)


def test_names_of_groups_in_the_inventory_are_refused(lab: Lab, infra: InfraRepository, tmp_path: Path) -> None:
    """The plays do not see them there."""
    groups = tmp_path / "groups.yml"
    groups.write_text("all: {vars: {vpn_balancers_group: lab_web}}")
    infra.site(lab.inventory, groups).assert_refused("Nothing was changed. lb1: it is in none of the groups")
