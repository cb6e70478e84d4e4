# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import os

import pytest
from wirefleet.command import CommandError
from wirefleet_node import adopt as module
from wirefleet_node.adopt import HANDSHAKE_TIME, NEWS_TIME, Adoptions, Candidate, inner_address

KEY = "wD8mWjHnVd1sIuDJXRvSkhgPsd2ehLPkMR9wGwKkFlc="
OTHER = "8W3DSpjZQrzOc3DtvV7iK0HeJTQ7wZ1KUI/Id6uEsWo="
PROBE = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
SECRET = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U="

LB1, LB2 = "fd00:1::1", "fd00:1::2"


@pytest.mark.parametrize(
    ("networks", "address"),
    [
        (["10.80.0.5/32", "fd00:80::5/128"], "10.80.0.5"),
        (["fd00:80::5/128"], "fd00:80::5"),
        (["10.1.0.0/24", "10.80.0.5/32"], "10.80.0.5"),  # a gateway with a network behind it
        (["10.1.0.0/24"], None),
        ([], None),
    ],
)
def test_the_clients_own_address(networks: list[str], address: str | None) -> None:
    assert inner_address(networks) == address


class WireGuard:
    """Listings, and what was set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = {KEY: "10.80.0.5/32 fd00:80::5/128", OTHER: "fd00:80::6/128", PROBE: "10.80.0.2/32"}
        self.secrets = {KEY: SECRET, OTHER: "(none)"}
        self.handshakes: dict[str, str] = {}
        self.set: list[list[str]] = []
        self.read: list[str] = []
        self.nudged: list[str] = []
        self.broken = False
        monkeypatch.setattr(module, "run", self.run)
        monkeypatch.setattr(module, "nudge", lambda addresses, _mark: self.nudged.extend(addresses))

    def run(self, argv: list[str], descriptors: list[int] = []) -> str:  # noqa: B006 -- only read
        if argv[1] == "set":
            if self.broken:
                raise CommandError(argv, 1, "No such device")
            self.set.append(argv)
            self.read += [os.read(descriptor, 100).decode() for descriptor in descriptors]
            return ""
        listings = {
            "allowed-ips": self.allowed,
            "preshared-keys": self.secrets,
            "latest-handshakes": self.handshakes,
        }
        listing = listings[argv[3]]
        return "".join(f"{key}\t{value}\n" for key, value in listing.items())


@pytest.fixture
def wireguard(monkeypatch: pytest.MonkeyPatch) -> WireGuard:
    return WireGuard(monkeypatch)


def test_peers_are_removed_and_added_as_they_were_in_one_request(wireguard: WireGuard) -> None:
    adoptions = Adoptions("wg0", [PROBE], [4, 6])
    outcome = adoptions.adopt([Candidate(KEY, "198.51.100.1:5"), Candidate(OTHER, "[2001:db8::1]:6")], LB1)
    assert (outcome.adopting, outcome.refused) == ((KEY, OTHER), {})
    (command,) = wireguard.set
    secret = command.pop()
    assert secret != "preshared-key"
    text = " ".join([*command, secret])
    assert text.startswith(
        f"wg set wg0 peer {KEY} remove peer {KEY} endpoint 198.51.100.1:5 allowed-ips 10.80.0.5/32,fd00:80::5/128"
        " preshared-key /dev/fd/"
    )
    assert text.endswith(f"peer {OTHER} remove peer {OTHER} endpoint [2001:db8::1]:6 allowed-ips fd00:80::6/128")
    assert SECRET not in text
    assert wireguard.read == [f"{SECRET}\n"]
    assert wireguard.nudged == ["10.80.0.5", "fd00:80::6"]
    assert outcome.begun == {KEY, OTHER}


def test_no_descriptor_stays_open(wireguard: WireGuard) -> None:
    adoptions = Adoptions("wg0", [], [])
    before = len(os.listdir("/proc/self/fd"))
    adoptions.adopt([Candidate(KEY, "198.51.100.1:5")], LB1)
    wireguard.broken = True
    with pytest.raises(CommandError):
        adoptions.adopt([Candidate(KEY, "198.51.100.1:5")], LB1)
    assert len(os.listdir("/proc/self/fd")) == before
    assert wireguard.nudged == ["10.80.0.5"], "who was not added is not called"


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Candidate("unknown=", "198.51.100.1:5"), "unknown"),
        (Candidate(PROBE, "198.51.100.1:5"), "not a client"),
        (Candidate(OTHER, "[2001:db8::1]:5"), "unreachable"),
        (Candidate(OTHER, "127.0.0.1:5"), "comes over TCP"),
    ],
)
def test_who_is_not_a_client_here_or_can_not_be_reached_is_left_alone(
    wireguard: WireGuard, candidate: Candidate, reason: str
) -> None:
    outcome = Adoptions("wg0", [PROBE], [4]).adopt([candidate, Candidate(KEY, "198.51.100.1:5")], LB1)
    assert (outcome.adopting, outcome.refused) == ((KEY,), {candidate.public_key: reason})
    assert candidate.public_key not in wireguard.set[0]


def test_who_is_in_one_of_two_tunnels_is_adopted(wireguard: WireGuard) -> None:
    candidates = [
        Candidate(KEY, "198.51.100.1:5"),
        Candidate(OTHER, "198.51.100.2:5"),
        Candidate(PROBE, "198.51.100.3:5"),
    ]
    new = Adoptions("wg1", [PROBE], []).adopt(candidates, LB1)
    del wireguard.allowed[KEY]
    old = Adoptions("wg0", [PROBE], [], mark=51831).adopt(candidates, LB1)
    for outcome in (new.or_else(old), old.or_else(new)):
        assert (set(outcome.adopting), outcome.refused) == ({KEY, OTHER}, {PROBE: "not a client"})
        assert outcome.begun == {KEY, OTHER}
    assert [command[2] for command in wireguard.set] == ["wg1", "wg0"]


def test_a_client_that_was_revoked_does_not_come_back(wireguard: WireGuard) -> None:
    adoptions = Adoptions("wg0", [], [])
    adoptions.adopt([Candidate(KEY, "198.51.100.1:5")], LB1)
    del wireguard.allowed[KEY]
    assert adoptions.adopt([Candidate(KEY, "198.51.100.1:5")], LB1).refused == {KEY: "unknown"}
    assert len(wireguard.set) == 1


@pytest.mark.parametrize(
    ("balancer", "seconds", "handshake", "times"),
    [
        (LB2, HANDSHAKE_TIME - 0.1, "0", 1),  # it is under way
        (LB2, HANDSHAKE_TIME + 0.1, "1795000000", 1),  # it was made
        (LB2, HANDSHAKE_TIME + 0.1, "0", 2),  # it came to nothing
        (LB2, NEWS_TIME + 0.1, "1795000000", 2),  # the client has come and gone again
        (LB1, HANDSHAKE_TIME - 0.1, "1795000000", 2),  # who asks twice knows why
    ],
)
def test_a_second_balancers_request_is_done_already(
    wireguard: WireGuard, monkeypatch: pytest.MonkeyPatch, balancer: str, seconds: float, handshake: str, times: int
) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    adoptions = Adoptions("wg0", [], [])
    begun = adoptions.adopt([Candidate(KEY, "198.51.100.1:5")], LB1).begun
    assert begun == {KEY}
    now += seconds
    wireguard.handshakes[KEY] = handshake
    outcome = adoptions.adopt([Candidate(KEY, "198.51.100.1:5"), Candidate(OTHER, "198.51.100.2:5")], balancer)
    assert outcome.adopting == (KEY, OTHER)
    assert sum(command.count(KEY) for command in wireguard.set) == 2 * times, "removed and added"
    assert wireguard.nudged.count("10.80.0.5") == times
    assert outcome.begun == ({KEY, OTHER} if times > 1 else {OTHER})


def test_a_client_that_has_moved_meanwhile_is_adopted_where_it_is(wireguard: WireGuard) -> None:
    adoptions = Adoptions("wg0", [], [])
    adoptions.adopt([Candidate(KEY, "198.51.100.1:5")], LB1)
    adoptions.adopt([Candidate(KEY, "198.51.100.1:6")], LB2)
    assert len(wireguard.set) == 2
