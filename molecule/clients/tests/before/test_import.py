# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that stands alone is read, and left as it is; then its operator stops it."""

from __future__ import annotations

import yaml
from testinfra.host import Host
from traffic.hosts import Lab, until
from traffic.site import InfraRepository

HANDSHAKE_SECONDS = 30


def test_the_client_has_the_old_server(phone: Host) -> None:
    until("the old server answers", HANDSHAKE_SECONDS, lambda: phone.run("ping -c 1 -W 2 10.80.0.1").succeeded)


def test_another_port_is_refused(lab: Lab, infra: InfraRepository) -> None:
    run = infra.play("wirefleet.vpn.import", lab.inventory, options=("--extra-vars", "vpn_port=51830"))
    run.assert_refused("it listens on 51820, and vpn_port is 51830: clients know only one")


def test_its_clients_are_taken_over(lab: Lab, infra: InfraRepository) -> None:
    run = infra.play("wirefleet.vpn.import", lab.inventory)
    assert run.code == 0, run.output
    secrets = lab.host("lb1").check_output("cat /etc/wireguard/private.key /etc/wireguard/preshared.key").split()
    assert not any(secret in run.output for secret in secrets)
    assert (lab.directory / "state" / "keys" / "service.key").read_text().strip() == secrets[0]
    (client,) = yaml.safe_load((lab.directory / "clients" / "imported-lb1.yml").read_text())
    assert client["name"] == "old-phone"
    assert client["addresses"] == ["10.80.7.7", "fd00:80::77"]
    assert secrets[1] not in client.values()


def test_once_more_changes_nothing(lab: Lab, infra: InfraRepository) -> None:
    infra.play("wirefleet.vpn.import", lab.inventory).assert_unchanged()


def test_nothing_was_changed_there(lab: Lab, phone: Host) -> None:
    phone.check_output("ping -c 1 -W 2 10.80.0.1")
    # What its operator does next.
    lab.host("lb1").check_output("systemctl disable --now wg-quick@wg0 && mv /etc/wireguard/wg0.conf /root/")
