# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers that know nothing of each other, and runs that do only a part of the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from traffic.book import Book, device_key, handed_out
from traffic.hosts import Lab, until
from traffic.site import BackgroundRun, InfraRepository, Run

SITE, CLIENTS = "wirefleet.vpn.site", "wirefleet.vpn.clients"
LOST_ON_A_NODE = "somebody else wrote generation"
OVERTAKEN = "another run has written generation"
LOST_BEFORE = "known client(s) are missing from the inventory"
BEGIN_SECONDS = 600

Devices = dict[str, dict[str, str]]


class Controller:
    """A checkout of somebody's: the collection, devices, and what it remembers of the cluster."""

    def __init__(self, lab: Lab, infra: InfraRepository, directory: Path) -> None:
        self._lab, self._infra, self._variables = lab, infra, directory / "variables.json"
        self.state = directory / "state"
        self.devices: Devices = {}

    def has(self, *devices: Devices) -> Controller:
        self.devices = {name: device for some in devices for name, device in some.items()}
        return self

    def begin(self, *options: str, playbook: str = SITE) -> BackgroundRun:
        variables = {"vpn_clients": list(self.devices.values()), "vpn_state_dir": str(self.state)}
        self._variables.write_text(json.dumps(variables))
        return self._infra.begin(
            playbook, self._lab.inventory, options=("--extra-vars", f"@{self._variables}", *options)
        )

    def run(self, *options: str, playbook: str = SITE) -> Run:
        return self.begin(*options, playbook=playbook).end()


def device(name: str) -> Devices:
    return {name: {"name": name, "public_key": device_key()}}


@pytest.fixture(scope="module")
def both(book: Book) -> Devices:
    """What both controllers have from the beginning."""
    return book.devices() | device("alice") | device("bob")


@pytest.fixture(scope="module")
def controllers(
    lab: Lab, infra: InfraRepository, tmp_path_factory: pytest.TempPathFactory, both: Devices
) -> tuple[Controller, Controller]:
    first, second = (Controller(lab, infra, tmp_path_factory.mktemp(name)) for name in ("first", "second"))
    run = first.has(both).run()
    assert run.code == 0, run.output
    return first, second


@pytest.mark.usefixtures("controllers")
def test_who_was_there_stays(both: Devices, book: Book) -> None:
    book.audit()
    book.assert_served(both)


def test_two_add_clients_at_once(controllers: tuple[Controller, Controller], both: Devices, book: Book) -> None:
    """One of them is first. The other one is told, changes nothing, and gets there once it knows of both."""
    mine, theirs = device("carol"), device("dave")
    first, second = controllers[0].has(both, mine), controllers[1].has(both, theirs)
    going = {first: first.begin(), second: second.begin()}
    runs = {controller: run.end() for controller, run in going.items()}
    losers = [controller for controller, run in runs.items() if run.code]
    assert len(losers) == 1, "\n".join(run.output for run in runs.values())
    told = runs[losers[0]].said
    assert LOST_ON_A_NODE in told or LOST_BEFORE in told, told
    assert runs[losers[0]].total("changed") == 0, told
    book.audit()
    book.assert_served({*both, *(mine if losers == [second] else theirs)})

    # Its inventory has not heard of the other one's client, and may not remove it.
    run = losers[0].run()
    assert run.code, run.output
    assert LOST_BEFORE in run.said, run.output
    assert run.total("changed") == 0, run.output

    run = losers[0].has(both, mine, theirs).run()
    assert run.code == 0, run.output
    book.audit()
    book.assert_served({*both, *mine, *theirs})


@pytest.fixture
def everybody(controllers: tuple[Controller, Controller], book: Book) -> Devices:
    """The devices that the cluster has, as the last test left them."""
    found = book.devices()
    for controller in controllers:
        controller.has(found)
    return found


def test_a_run_that_was_overtaken_stops(
    controllers: tuple[Controller, Controller], everybody: Devices, book: Book
) -> None:
    """It has planned without the other one's client, and would take it off the nodes."""
    slow, fast = controllers
    mine, theirs = device("erin"), device("frank")
    going = slow.has(everybody, mine).begin()
    try:
        until("it begins with the nodes", BEGIN_SECONDS, lambda: "PLAY [Set up the nodes" in going.output, pause=0.05)
        going.halt()
        run = fast.has(everybody, mine, theirs).run()
        assert run.code == 0, run.output
        book.assert_served({*everybody, *mine, *theirs})
    finally:
        going.go_on()
    run = going.end()
    assert run.code, run.output
    assert OVERTAKEN in run.said, run.output
    book.audit()
    book.assert_served({*everybody, *mine, *theirs})


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--check", "--diff"), id="a check"),
        pytest.param(("--limit", "n2"), id="one node"),
        pytest.param(("--limit", "lb1,c1"), id="no node"),
        pytest.param(("--tags", "peers"), id="a tag"),
        pytest.param(("--tags", "packages"), id="a tag that peers do not have"),
        pytest.param(("--skip-tags", "peers"), id="all but a tag"),
    ],
)
def test_a_part_of_a_run_loses_nobody(
    controllers: tuple[Controller, Controller], everybody: Devices, book: Book, options: tuple[str, ...]
) -> None:
    """With a client to add, and those of the parts before: whoever was there stays."""
    before = book.peers(set())
    run = controllers[0].has(everybody, device(f"part{len(everybody)}")).run(*options)
    assert run.code == 0, run.output
    book.audit()
    for node, peers in book.peers(set()).items():
        assert before[node].items() <= peers.items(), f"{node} has lost peers:\n{run.output}"


def test_a_whole_run_does_the_rest(controllers: tuple[Controller, Controller], everybody: Devices, book: Book) -> None:
    run = controllers[1].has(everybody).run()
    assert run.code == 0, run.output
    book.audit()
    book.assert_served(everybody)


# Two runs of one controller, or of one directory that two share.


def test_a_key_that_a_run_has_made_is_not_removed_by_another(
    controllers: tuple[Controller, Controller], everybody: Devices, book: Book
) -> None:
    """Which began without the device, and removes keys that no node knows."""
    controller = controllers[0]
    going = controller.has(everybody, {"grace": {"name": "grace"}}).begin(playbook=CLIENTS)
    try:
        until("a key is made", BEGIN_SECONDS, (controller.state / "keys/devices/grace.new").exists, pause=0.05)
        going.halt()
        run = controller.has(everybody).run(playbook=CLIENTS)
        assert run.code == 0, run.output
    finally:
        going.go_on()
    run = going.end()
    assert run.code == 0, run.output
    book.audit()
    assert handed_out(controller.state, "grace") == book.devices()["grace"]["public_key"]


def test_a_hand_out_is_not_removed_by_a_run_that_was_overtaken(
    controllers: tuple[Controller, Controller], everybody: Devices, book: Book
) -> None:
    controller = controllers[0]
    going = controller.has(everybody).begin(playbook=CLIENTS)
    last = "Wait until the node says that it is healthy"
    try:
        until("both nodes have its peers", BEGIN_SECONDS, lambda: going.output.count(f"{last}]") == 2, pause=0.05)
        going.halt()
        run = controller.has(everybody, {"heidi": {"name": "heidi"}}).run(playbook=CLIENTS)
        assert run.code == 0, run.output
    finally:
        going.go_on()
    run = going.end()
    assert run.code, run.output
    assert OVERTAKEN in run.said, run.output
    assert handed_out(controller.state, "heidi") == book.devices()["heidi"]["public_key"]
