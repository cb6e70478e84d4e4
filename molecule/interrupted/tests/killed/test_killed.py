# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are killed anywhere lose nothing: no client, no address, no key, and no packets of anybody else."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from traffic.book import Book, device_key, handed_out
from traffic.cluster import Client
from traffic.figures import Figures
from traffic.hosts import Lab
from traffic.ping import Ping
from traffic.site import InfraRepository, Run

KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", random.randrange(10**6)))
SITE, CLIENTS = "wirefleet.vpn.site", "wirefleet.vpn.clients"
# Nobody touches the client and its session; the machine has other things to do, though.
LONGEST_SILENCE = 5.0
MOST_LOST = 0.01


class Devices:
    """`vpn_clients`, which changes with every run. Some devices have a key of their own, some get one made."""

    def __init__(self, file: Path, dice: random.Random, known: dict[str, dict[str, str]]) -> None:
        """`known`: those who are clients already, by name."""
        self.file, self._dice = file, dice
        self.all = dict(known)

    @property
    def present(self) -> set[str]:
        return {name for name, device in self.all.items() if "state" not in device}

    @property
    def absent(self) -> set[str]:
        return self.all.keys() - self.present

    @property
    def options(self) -> tuple[str, ...]:
        return ("--extra-vars", f"@{self.file}")

    def change(self) -> None:
        """Add some, remove one."""
        for _ in range(self._dice.randint(1, 3)):
            self.add()
        if len(self.present) > 4 and self._dice.random() < 0.6:
            self.all[self._dice.choice(sorted(self.present))]["state"] = "absent"
        self.write()

    def add(self) -> str:
        name = f"d{len(self.all):02}"
        own = {"public_key": device_key()} if self._dice.random() < 0.7 else {}
        self.all[name] = {"name": name, **own}
        return name

    def write(self) -> None:
        self.file.write_text(json.dumps({"vpn_clients": list(self.all.values())}))


@pytest.fixture(scope="module")
def dice(figures: Figures) -> random.Random:
    figures.add("killed: SEED", str(SEED))
    return random.Random(SEED)


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory, dice: random.Random, book: Book) -> Devices:
    return Devices(tmp_path_factory.mktemp("devices") / "clients.json", dice, book.devices())


def finished(infra: InfraRepository, lab: Lab, devices: Devices, playbook: str) -> Run:
    run = infra.play(playbook, lab.inventory, options=devices.options)
    assert run.code == 0, run.output
    return run


@pytest.fixture(scope="module")
def ordeal(
    lab: Lab,
    infra: InfraRepository,
    c1: Client,
    web: dict[int, str],
    book: Book,
    devices: Devices,
    dice: random.Random,
    figures: Figures,
) -> Ping:
    """Kill runs of both playbooks, each with other changes to make, wherever they are."""
    for _ in range(4):
        devices.add()
    devices.write()
    took: dict[str, float] = {}
    for playbook in (CLIENTS, SITE):
        begin = time.monotonic()
        finished(infra, lab, devices, playbook)
        took[playbook] = time.monotonic() - begin
    killed: list[str] = []
    with Ping(c1.host, web[4], interval=0.2) as ping:
        while len(killed) < KILLS:
            playbook = CLIENTS if dice.random() < 0.5 else SITE
            devices.change()
            before = book.peers(devices.absent)
            after = dice.uniform(0.5, 0.95 * took[playbook])
            run = infra.begin(playbook, lab.inventory, options=devices.options)
            time.sleep(after)
            was_running = run.kill()
            where = [line for line in run.output.splitlines() if line.startswith(("PLAY [", "TASK ["))]
            if not was_running:
                assert run.end().code == 0, run.output
                continue
            assert "fatal: " not in run.output, run.output
            killed.append(where[-1].strip(" *") if where else "before the first play")
            print(f"run {len(killed)}, killed after {after:.1f} s: {killed[-1]}")
            book.audit()
            for node, peers in book.peers(devices.absent).items():
                assert before[node].items() <= peers.items(), f"{node} has lost peers"
        for playbook in (CLIENTS, SITE):
            finished(infra, lab, devices, playbook)
    figures.add("killed: different tasks", len(set(killed)))
    figures.add("killed: pings lost", f"{ping.lost} of {ping.sent}")
    figures.add("killed: longest silence", ping.outage, "s")
    return ping


def test_everybody_is_there_with_the_address_and_key_of_before(ordeal: Ping, book: Book, devices: Devices) -> None:
    book.audit()
    book.assert_served(devices.present)


def test_a_key_that_was_made_is_handed_out(lab: Lab, ordeal: Ping, book: Book, devices: Devices) -> None:
    clients = book.clients()
    made = {name for name in devices.present if "public_key" not in devices.all[name]}
    assert made
    for name in made:
        assert handed_out(lab.directory / "state", name) == clients[name]["public_key"]


def test_who_was_not_concerned_lost_next_to_nothing(ordeal: Ping) -> None:
    assert ordeal.outage < LONGEST_SILENCE, str(ordeal)
    assert ordeal.lost <= MOST_LOST * ordeal.sent, str(ordeal)


def test_a_second_run_changes_nothing(lab: Lab, ordeal: Ping, infra: InfraRepository, devices: Devices) -> None:
    finished(infra, lab, devices, SITE).assert_unchanged()
