# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the old server goes on; a new device connects with its hand-out, until it is removed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host
from traffic.cluster import fetch, peers, reaches
from traffic.hosts import Lab, until
from traffic.qr import decoded
from traffic.site import InfraRepository, Run

GREETING = "wirefleet lab: private web server"
PLAYBOOK = "wirefleet.vpn.clients"
HANDSHAKE_SECONDS = 60
ALICE = {"owner": "Alice <alice@example.com>"}


def describe(lab: Lab, **clients: dict[str, object]) -> None:
    """Write small files, as people do."""
    for name, client in clients.items():
        (lab.directory / "clients" / f"{name}.yml").write_text(yaml.safe_dump(client))


@pytest.fixture(scope="module")
def handed_out(lab: Lab, infra: InfraRepository) -> Run:
    describe(lab, alice=ALICE)
    run = infra.play(PLAYBOOK, lab.inventory)
    assert run.code == 0, run.output
    return run


@pytest.fixture(scope="module")
def conf(lab: Lab, handed_out: Run) -> Path:
    return lab.directory / "state" / "handouts" / "alice" / "vpn.conf"


def test_the_old_servers_client_goes_on_as_it_was(phone: Host, web: dict[int, str]) -> None:
    until(
        "the cluster answers the client of the old server",
        HANDSHAKE_SECONDS,
        lambda: phone.run("curl --silent --max-time 2 http://%s/", web[4]).succeeded,
    )
    assert GREETING in fetch(phone, f"http://[{web[6]}]/")
    phone.check_output("systemctl stop wg-quick@old")  # the next device has the same routes


def test_what_can_not_be_is_refused_all_at_once(lab: Lab, infra: InfraRepository) -> None:
    describe(
        lab,
        bad=[  # type: ignore[arg-type]
            {"name": "../alice", "public_key": "x"},
            {"name": "bob\nAllowedIPs = 0.0.0.0/0"},
            {"name": "carol", "public_key": "short", "adresses": ["10.80.0.9"]},
        ],
    )
    try:
        run = infra.play(PLAYBOOK, lab.inventory)
    finally:
        (lab.directory / "clients" / "bad.yml").unlink()
    run.assert_refused("Nothing was changed. ")
    said = run.said
    for complaint in (
        "'../alice' is no usable name",
        "AllowedIPs = 0.0.0.0/0' is no usable name",
        "(carol): 'adresses': there is no such key",
        "(carol): public_key: a WireGuard key has 44 characters",
    ):
        assert complaint in said, run.output


def test_a_run_that_leaves_a_node_out_is_refused(lab: Lab, infra: InfraRepository) -> None:
    run = infra.play(PLAYBOOK, lab.inventory, options=("--limit", "n1"))
    run.assert_refused("--limit leaves out n2")


def test_a_hand_out_is_for_one_pair_of_eyes(conf: Path, handed_out: Run) -> None:
    assert sorted(path.name for path in conf.parent.iterdir()) == ["vpn.conf", "vpn.html", "vpn.png", "vpn.svg"]
    assert {path.stat().st_mode & 0o777 for path in conf.parent.iterdir()} == {0o600}
    assert conf.parent.stat().st_mode & 0o777 == 0o700
    secrets = [line.split(" = ")[1] for line in conf.read_text().splitlines() if line.startswith(("Private", "Pre"))]
    assert len(secrets) == 2
    assert not any(secret in handed_out.output for secret in secrets)


def test_tools_that_are_not_ours_read_it(conf: Path) -> None:
    stripped = subprocess.run(["wg-quick", "strip", conf], check=True, capture_output=True, text=True).stdout
    assert "PresharedKey" in stripped
    assert decoded(conf.with_suffix(".png").read_bytes()) == conf.read_text()


def test_its_device_connects(conf: Path, phone: Host, web: dict[int, str]) -> None:
    phone.check_output(
        "umask 077; printf %%s %s > /etc/wireguard/vpn.conf; systemctl start wg-quick@vpn", conf.read_text()
    )
    until("the private web server answers", HANDSHAKE_SECONDS, lambda: reaches(phone, f"http://{web[4]}/"))
    assert GREETING in fetch(phone, f"http://{web[4]}/")
    assert GREETING in fetch(phone, f"http://[{web[6]}]/")


def test_a_second_run_changes_nothing(lab: Lab, infra: InfraRepository, conf: Path) -> None:
    # Delivered, and taken away: it is not missed.
    conf.unlink()
    infra.play(PLAYBOOK, lab.inventory).assert_unchanged()
    assert not conf.exists()


def test_who_is_removed_is_heard_no_more(lab: Lab, infra: InfraRepository, phone: Host, web: dict[int, str]) -> None:
    key = phone.check_output("wg show vpn public-key")
    assert all(key in peers(lab.host(node), "allowed-ips") for node in ("n1", "n2"))
    describe(lab, alice={**ALICE, "state": "absent"})
    run = infra.play(PLAYBOOK, lab.inventory)
    assert run.code == 0, run.output
    assert not any(key in peers(lab.host(node), "allowed-ips") for node in ("n1", "n2"))
    assert not reaches(phone, f"http://{web[4]}/")
    assert not (lab.directory / "state" / "handouts" / "alice").exists()
