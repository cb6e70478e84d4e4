# SPDX-License-Identifier: GPL-3.0-or-later
"""What the first run left on disks: who has which secret, and who may read it."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from traffic.hosts import Lab

KEYS = "/etc/wirefleet/default/keys"
HELD = {
    "lb1": {"mesh", "probe"},
    "n1": {"mesh", "psk", "service"},
    "n2": {"mesh", "psk", "service"},
    "n3": {"mesh", "psk", "service"},
    "c1": {"client"},
    "c2": {"client"},
}


@pytest.mark.parametrize("name", HELD)
def test_a_host_has_only_the_keys_that_it_needs(lab: Lab, name: str) -> None:
    directory = lab.host(name).file(KEYS)
    assert set(directory.listdir()) == {f"{kind}.key" for kind in HELD[name]}
    assert (directory.user, directory.mode) == ("root", 0o700)


@pytest.mark.parametrize("name", HELD)
def test_secrets_are_for_root_only(lab: Lab, name: str) -> None:
    found = lab.host(name).check_output(
        f"find {KEYS} /etc/wireguard -type f '(' -not -user root -o -perm /077 ')'; find {KEYS} -type f | wc -l"
    )
    assert found == str(len(HELD[name]))


def test_every_host_made_a_key_of_its_own(lab: Lab) -> None:
    public = [
        lab.host(name).check_output(f"wg pubkey < {KEYS}/{kind}.key")
        for name, kinds in HELD.items()
        for kind in kinds - {"service", "psk"}
    ]
    assert len(set(public)) == len(public) == 7


def test_the_controller_keeps_the_ledger_and_the_clusters_own_secrets(lab: Lab) -> None:
    state = lab.directory / "state"
    modes = {str(path.relative_to(state)): path.stat().st_mode & 0o777 for path in state.rglob("*") if path.is_file()}
    assert modes.keys() == {"ledger.jsonl", "keys/service.key", "keys/psk.key"}
    assert modes["keys/service.key"] == modes["keys/psk.key"] == 0o600
    assert (state / "keys").stat().st_mode & 0o777 == 0o700


def test_no_hosts_private_key_reached_the_controller(lab: Lab) -> None:
    kept = "".join(path.read_text() for path in Path(lab.directory, "state").rglob("*") if path.is_file())
    for name, kinds in HELD.items():
        for kind in kinds - {"service", "psk"}:
            key = lab.host(name).check_output(f"cat {KEYS}/{kind}.key")
            # Not `key not in kept`: a failure would print the key.
            leaked = key in kept
            assert not leaked, f"the controller has {name}'s {kind}.key"
            assert len(base64.b64decode(key)) == 32


@pytest.mark.parametrize("name", HELD)
def test_no_secret_is_on_a_command_line(lab: Lab, name: str) -> None:
    secret = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
    own = lab.host(name).check_output("cat /etc/wirefleet/default/keys/*.key").split()
    seen = secret.findall(lab.host(name).check_output("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true"))
    leaks = len(set(own) & set(seen))
    assert leaks == 0
