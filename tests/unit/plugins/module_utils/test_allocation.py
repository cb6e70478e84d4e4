# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import copy
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils import _allocation
from ansible_collections.wirefleet.vpn.plugins.module_utils._allocation import AllocationError, Entry, allocate, usage
from hypothesis import given
from hypothesis import strategies as st

V4, V6 = "10.80.0.0/24", "fd00:80::/64"
DAY = [f"2026-11-{day:02}T00:00:00Z" for day in range(31)]  # DAY[22] is the 22nd


def run(
    names: list[str], networks: list[str] | None = None, *, ledger: Any = None, day: int = 22, **options: Any
) -> dict[str, Entry]:
    return allocate(names, networks or [V4, V6], ledger=ledger, now=DAY[day], **options)


def addresses(ledger: dict[str, Entry]) -> dict[str, list[str]]:
    return {name: entry["addresses"] for name, entry in ledger.items() if "released" not in entry}


# -- handing out ---------------------------------------------------------------------


def test_new_names_take_the_lowest_in_sorted_order() -> None:
    assert run(["carol", "alice", "bob"]) == {
        "alice": {"addresses": ["10.80.0.1", "fd00:80::1"]},
        "bob": {"addresses": ["10.80.0.2", "fd00:80::2"]},
        "carol": {"addresses": ["10.80.0.3", "fd00:80::3"]},
    }


def test_addresses_are_in_the_order_of_the_networks() -> None:
    first = run(["alice"], [V6, V4])
    assert first == {"alice": {"addresses": ["fd00:80::1", "10.80.0.1"]}}
    assert run(["alice"], [V4, V6], ledger=first) == {"alice": {"addresses": ["10.80.0.1", "fd00:80::1"]}}


@pytest.mark.parametrize(
    ("network", "hosts"),
    [
        ("192.0.2.0/29", [f"192.0.2.{n}" for n in range(1, 7)]),
        ("192.0.2.0/30", ["192.0.2.1", "192.0.2.2"]),
        ("192.0.2.0/31", ["192.0.2.0", "192.0.2.1"]),
        ("192.0.2.7/32", ["192.0.2.7"]),
        ("2001:db8::/126", ["2001:db8::1", "2001:db8::2", "2001:db8::3"]),
        ("2001:db8::/127", ["2001:db8::", "2001:db8::1"]),
        ("2001:db8::7/128", ["2001:db8::7"]),
    ],
)
def test_every_host_address_is_used_and_no_other(network: str, hosts: list[str]) -> None:
    names = [f"n{i}" for i in range(len(hosts))]
    assert [entry["addresses"] for entry in run(names, [network]).values()] == [[host] for host in hosts]
    with pytest.raises(AllocationError, match="is full: 2 of "):
        run([*names, "one", "two"], [network])


def test_exhaustion_says_what_is_missing_and_what_rests() -> None:
    first = run(["a", "b"], ["192.0.2.0/29"])
    with pytest.raises(AllocationError) as caught:
        run([f"n{i}" for i in range(6)], ["192.0.2.0/29"], ledger=first)
    assert str(caught.value) == "networks: 192.0.2.0/29 is full: 2 of 6 new addresses are missing (2 in quarantine)"


@pytest.mark.parametrize(
    ("reserved", "expected"),
    [
        (["10.80.0.1"], "10.80.0.2"),
        (["10.80.0.2"], "10.80.0.1"),
        (["10.80.0.0/28"], "10.80.0.16"),
        (["10.80.0.0/28", "10.80.0.16", "10.80.0.18"], "10.80.0.17"),
        (["10.80.0.2", "10.80.0.1", "10.80.0.0/31"], "10.80.0.3"),
        (["10.80.0.0", "10.80.0.255"], "10.80.0.1"),
        (["10.79.255.0/24", "10.81.0.0/16", "fd00:80::/96"], "10.80.0.1"),
    ],
)
def test_reserved_is_not_handed_out(reserved: list[str], expected: str) -> None:
    assert run(["alice"], [V4], reserved=reserved) == {"alice": {"addresses": [expected]}}


def test_a_reservation_of_quintillions_costs_nothing() -> None:
    ledger = run(["alice"], ["fd00::/48"], reserved=["fd00::/49"])
    assert addresses(ledger) == {"alice": ["fd00:0:0:8000::"]}


def test_a_reserved_broadcast_address_frees_nothing() -> None:
    with pytest.raises(AllocationError, match="is full: 1 of 3 "):
        run(["a", "b", "c"], ["192.0.2.0/30"], reserved=["192.0.2.3"])


@pytest.mark.parametrize("reserved", ["10.80.0.0/24", "10.0.0.0/8"])
def test_a_network_can_be_reserved_as_a_whole(reserved: str) -> None:
    with pytest.raises(AllocationError, match="is full: 1 of 1 "):
        run(["alice"], reserved=[reserved])


# -- quarantine ----------------------------------------------------------------------


def test_who_is_gone_leaves_its_addresses_in_quarantine() -> None:
    first = run(["alice", "bob"], day=1)
    second = run(["bob", "carol"], ledger=first, day=2)
    assert second == {
        "alice": {"addresses": ["10.80.0.1", "fd00:80::1"], "released": DAY[2]},
        "bob": {"addresses": ["10.80.0.2", "fd00:80::2"]},
        "carol": {"addresses": ["10.80.0.3", "fd00:80::3"]},
    }


@pytest.mark.parametrize(
    ("day", "expected"),
    [(11, ["10.80.0.3", "fd00:80::3"]), (12, ["10.80.0.1", "fd00:80::1"])],
    ids=["a day too early", "in time"],
)
def test_quarantine_ends(day: int, expected: list[str]) -> None:
    ledger = run(["bob"], ledger=run(["alice", "bob"], day=1), day=2)
    ledger = run(["bob", "carol"], ledger=ledger, day=day, quarantine_days=10)
    assert ledger["carol"]["addresses"] == expected
    assert ("alice" in ledger) is (day == 11)


def test_who_returns_in_time_gets_its_addresses_back() -> None:
    first = run(["alice", "bob"], day=1)
    gone = run(["bob"], ledger=first, day=2)
    assert run(["alice", "bob"], ledger=gone, day=20) == first


def test_the_time_of_release_does_not_move() -> None:
    gone = run([], ledger=run(["alice"], day=1), day=2)
    assert run([], ledger=gone, day=20) == gone


def test_without_quarantine_an_address_is_free_at_once() -> None:
    ledger = run(["bob"], ledger=run(["alice"]), quarantine_days=0)
    assert ledger == {"bob": {"addresses": ["10.80.0.1", "fd00:80::1"]}}


@pytest.mark.parametrize("now", ["2026-11-22T02:30:00+02:30", "2026-11-22T00:00:00.999Z", "2026-11-21T23:00:00-01:00"])
def test_times_are_written_in_utc(now: str) -> None:
    ledger = allocate([], [V4], ledger=run(["alice"]), now=now)
    assert ledger["alice"]["released"] == "2026-11-22T00:00:00Z"


# -- networks that change ------------------------------------------------------------


def test_an_added_network_serves_everybody() -> None:
    ledger = run(["a", "b"], [V4, V6], ledger=run(["b", "a"], [V4]))
    assert addresses(ledger) == {"a": ["10.80.0.1", "fd00:80::1"], "b": ["10.80.0.2", "fd00:80::2"]}


def test_renumbering_one_family_leaves_the_other() -> None:
    ledger = run(["b"], day=1)
    ledger = run(["a", "b"], ledger=ledger, day=2)
    ledger = run(["a", "b"], ["192.0.2.0/24", V6], ledger=ledger, day=3)
    assert ledger == {
        "a": {"addresses": ["192.0.2.1", "fd00:80::2"]},
        "b": {"addresses": ["192.0.2.2", "fd00:80::1"]},
    }


def test_a_network_that_grows_or_shrinks_keeps_who_still_fits() -> None:
    ledger = run(["b", "c"], explicit={"b": ["10.80.0.128"], "c": ["10.80.0.200"]})
    assert addresses(run(["a", "b", "c"], ["10.80.0.0/16"], ledger=ledger)) == {
        "a": ["10.80.0.1"],
        "b": ["10.80.0.128"],
        "c": ["10.80.0.200"],
    }
    # 10.80.0.128 is the network address now.
    assert addresses(run(["a", "b", "c"], ["10.80.0.128/25"], ledger=ledger)) == {
        "a": ["10.80.0.129"],
        "b": ["10.80.0.130"],
        "c": ["10.80.0.200"],
    }


def test_two_networks_that_become_one_leave_one_address_each() -> None:
    ledger = run(["a", "b"], ["10.80.0.0/25", "10.80.0.128/25"])
    assert run(["a", "b", "c"], [V4], ledger=ledger) == {
        "a": {"addresses": ["10.80.0.1"], "former": {"10.80.0.129": DAY[22]}},
        "b": {"addresses": ["10.80.0.2"], "former": {"10.80.0.130": DAY[22]}},
        "c": {"addresses": ["10.80.0.3"]},
    }


def test_an_address_that_is_written_twice_counts_once() -> None:
    ledger = {"a": {"addresses": ["fd00:80::7", "fd00:80:0::7"]}}
    assert run(["a"], [V6], ledger=ledger) == {"a": {"addresses": ["fd00:80::7"]}}


# -- explicit addresses --------------------------------------------------------------


def test_explicit_addresses_come_before_free_ones() -> None:
    ledger = run(["a", "b", "c"], explicit={"c": ["10.80.0.1"], "b": ["fd00:80:0::77", "10.80.0.9"]})
    assert addresses(ledger) == {
        "a": ["10.80.0.2", "fd00:80::1"],
        "b": ["10.80.0.9", "fd00:80::77"],
        "c": ["10.80.0.1", "fd00:80::2"],
    }


def test_moving_to_an_explicit_address_leaves_the_old_one_in_quarantine() -> None:
    first = run(["a"], day=1)
    moved = run(["a", "b"], ledger=first, day=2, explicit={"a": ["10.80.0.9"]})
    assert moved == {
        "a": {"addresses": ["10.80.0.9", "fd00:80::1"], "former": {"10.80.0.1": DAY[2]}},
        "b": {"addresses": ["10.80.0.2", "fd00:80::2"]},
    }
    # Later runs leave it there, with and without the explicit address, until its time has come.
    assert run(["a", "b"], ledger=moved, day=3, explicit={"a": ["10.80.0.9"]}) == moved
    assert run(["a", "b"], ledger=moved, day=3) == moved
    assert run(["a", "b", "c"], ledger=moved, day=12, quarantine_days=10) == {
        "a": {"addresses": ["10.80.0.9", "fd00:80::1"]},
        "b": {"addresses": ["10.80.0.2", "fd00:80::2"]},
        "c": {"addresses": ["10.80.0.1", "fd00:80::3"]},
    }


def test_moving_back_ends_the_quarantine() -> None:
    first = run(["a"], [V4], day=1)
    moved = run(["a"], [V4], ledger=first, day=2, explicit={"a": ["10.80.0.9"]})
    assert run(["a"], [V4], ledger=moved, day=3, explicit={"a": ["10.80.0.1"]}) == {
        "a": {"addresses": ["10.80.0.1"], "former": {"10.80.0.9": DAY[3]}}
    }


def test_two_names_can_swap_only_without_quarantine() -> None:
    first = run(["a", "b"], [V4])
    swap = {"a": ["10.80.0.2"], "b": ["10.80.0.1"]}
    with pytest.raises(AllocationError, match=r"explicit: 10\.80\.0\.2 of 'a' is in quarantine since .* held by 'b'"):
        run(["a", "b"], [V4], ledger=first, explicit=swap)
    assert addresses(run(["a", "b"], [V4], ledger=first, explicit=swap, quarantine_days=0)) == swap


@pytest.mark.parametrize(
    ("explicit", "message"),
    [
        ({"b": ["10.80.0.1"]}, "explicit: 10.80.0.1 of 'b' is held by 'a'"),
        (
            {"b": ["10.80.0.3"]},
            "explicit: 10.80.0.3 of 'b' is in quarantine since 2026-11-02T00:00:00Z (it was held by 'gone')",
        ),
        ({"a": ["10.80.0.9"], "b": ["10.80.0.9"]}, "explicit: 10.80.0.9 of 'b' is held by 'a'"),
        ({"b": ["10.80.0.99"]}, "explicit: 10.80.0.99 of 'b' is reserved:"),
        ({"b": ["192.0.2.1"]}, "explicit: 'b': 192.0.2.1 is no host address of 10.80.0.0/24, fd00:80::/64"),
        ({"b": ["10.80.0.0"]}, "explicit: 'b': 10.80.0.0 is no host address of "),
        ({"b": ["10.80.0.255"]}, "explicit: 'b': 10.80.0.255 is no host address of "),
        ({"b": ["fd00:80::"]}, "explicit: 'b': fd00:80:: is no host address of "),
        ({"b": ["10.80.0.8", "10.80.0.9"]}, "explicit: 'b': has two addresses in 10.80.0.0/24"),
        ({"b": ["10.80.0.8/24"]}, "explicit: 'b': '10.80.0.8/24' is no address"),
        ({"b": ["10.80.8"]}, "explicit: 'b': '10.80.8' is no address"),
        ({"b": [8]}, "explicit: 'b': 8 is no address"),
        ({"b": "10.80.0.8"}, "explicit: 'b': has to be a list, not '10.80.0.8'"),
        ({"x": ["10.80.0.8"]}, "explicit: 'x' is not among the names"),
        (["a"], "explicit: has to be a mapping, not ['a']"),
    ],
)
def test_explicit_conflicts_are_named(explicit: Any, message: str) -> None:
    ledger = run(["a", "b"], ledger=run(["a", "b", "gone"], day=1), day=2)
    with pytest.raises(AllocationError) as caught:
        run(["a", "b"], ledger=ledger, explicit=explicit, reserved=["10.80.0.96/28"])
    assert str(caught.value).startswith(message)


def test_reserving_an_address_that_somebody_holds_is_refused_until_it_moves() -> None:
    first = run(["a", "b"], [V4])
    with pytest.raises(AllocationError, match=r"ledger: 10\.80\.0\.2 of 'b' is reserved: give it another explicit"):
        run(["a", "b"], [V4], ledger=first, reserved=["10.80.0.2"])
    moved = run(["a", "b"], [V4], ledger=first, reserved=["10.80.0.2"], explicit={"b": ["10.80.0.9"]})
    assert addresses(moved) == {"a": ["10.80.0.1"], "b": ["10.80.0.9"]}
    # Who is gone holds nothing any more.
    assert "b" in run(["a"], [V4], ledger=first, reserved=["10.80.0.2"])


# -- what else an entry says ---------------------------------------------------------


def test_other_keys_are_carried_and_nothing_is_changed_in_place() -> None:
    ledger = {"a": {"addresses": ["10.80.0.7"], "public_key": "A", "note": {"x": [1]}}, "b": {"id": 3}}
    before = copy.deepcopy(ledger)
    assert run(["b"], [V4], ledger=ledger) == {
        "a": {"addresses": ["10.80.0.7"], "public_key": "A", "note": {"x": [1]}, "released": DAY[22]},
        "b": {"addresses": ["10.80.0.1"], "id": 3},
    }
    assert ledger == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": "alice"}, "names: has to be a list, not 'alice'"),
        ({"names": None}, "names: has to be a list, not None"),
        ({"names": ["a", "a"]}, "names: 'a' is there twice"),
        ({"names": [""]}, "names: '' is no usable name"),
        ({"names": ["a\nb"]}, "names: 'a\\nb' is no usable name"),
        ({"names": [7]}, "names: 7 is no usable name"),
        ({"networks": V4}, "networks: has to be a list, not '10.80.0.0/24'"),
        ({"networks": ["10.80.0.0"]}, "networks: '10.80.0.0' is no network (such as 10.80.0.0/16 or fd00:80::/48)"),
        ({"networks": ["10.80.0.0/33"]}, "networks: '10.80.0.0/33' is no network"),
        ({"networks": ["vpn/8"]}, "networks: 'vpn/8' is no network"),
        ({"networks": [8]}, "networks: 8 is no network"),
        ({"networks": ["10.80.0.1/24"]}, "networks: 10.80.0.1/24 has host bits set; the network is 10.80.0.0/24"),
        ({"networks": ["10.80.0.0/25", "10.80.0.0/16"]}, "networks: 10.80.0.0/25 and 10.80.0.0/16 overlap"),
        ({"networks": [V4, V6, V4]}, "networks: 10.80.0.0/24 and 10.80.0.0/24 overlap"),
        ({"reserved": "10.80.0.1"}, "reserved: has to be a list, not '10.80.0.1'"),
        ({"reserved": ["x"]}, "reserved: 'x' is no address or network"),
        ({"reserved": ["10.80.0.1/24"]}, "reserved: 10.80.0.1/24 has host bits set"),
        ({"now": "yesterday"}, "now: 'yesterday' is no time such as 2026-11-22T00:00:00Z"),
        ({"now": "2026-11-22T00:00:00"}, "now: '2026-11-22T00:00:00' is no time"),
        ({"now": None}, "now: None is no time"),
        ({"quarantine_days": "30"}, "quarantine_days: has to be a number, not '30'"),
        ({"quarantine_days": True}, "quarantine_days: has to be a number, not True"),
        ({"quarantine_days": -1}, "quarantine_days: has to be from 0 to 36500, not -1"),
        ({"quarantine_days": float("nan")}, "quarantine_days: has to be from 0 to 36500, not nan"),
        ({"ledger": ["a"]}, "ledger: has to be a mapping, not ['a']"),
        ({"ledger": {"a": "10.80.0.1"}}, "ledger: 'a': has to be a mapping, not '10.80.0.1'"),
        ({"ledger": {"": {}}}, "ledger: '' is no usable name"),
        ({"ledger": {"a": {"addresses": "10.80.0.1"}}}, "ledger: 'a': addresses: has to be a list, not '10.80.0.1'"),
        ({"ledger": {"a": {"addresses": ["x"]}}}, "ledger: 'a': 'x' is no address"),
        ({"ledger": {"a": {"released": "x"}}}, "ledger: 'a': 'x' is no time"),
        ({"ledger": {"a": {"former": ["10.80.0.1"]}}}, "ledger: 'a': former: has to be a mapping, not ['10.80.0.1']"),
        ({"ledger": {"a": {"former": {"10.80.0.1": 7}}}}, "ledger: 'a': 7 is no time"),
        (
            {"ledger": {"a": {"addresses": ["fd00:80::1"]}, "b": {"addresses": ["fd00:80:0::1"]}}},
            "ledger: fd00:80::1 of 'b' is in quarantine since 2026-11-22T00:00:00Z (it was held by 'a')",
        ),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AllocationError) as caught:
        allocate(**{"names": [], "networks": [V4, V6], "now": DAY[22], **arguments})
    assert str(caught.value).startswith(message)


def test_usage_counts_what_is_held_what_rests_and_what_there_is() -> None:
    entries = [
        {"addresses": ["10.80.0.1", "fd00:80::1"], "former": {"10.80.0.9": DAY[1]}},
        {"addresses": ["10.80.0.2"], "released": DAY[1]},
        {"addresses": ["192.0.2.1"]},
        {},
    ]
    assert usage(["10.80.0.0/28", V6], ["10.80.0.0/30", "192.0.2.0/24"], entries) == [
        {"network": "10.80.0.0/28", "used": 1, "quarantined": 2, "size": 11},
        {"network": "fd00:80::/64", "used": 1, "quarantined": 0, "size": 2**64 - 1},
    ]


def test_a_controller_without_netaddr_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_allocation, "HAS_NETADDR", False)
    with pytest.raises(AllocationError, match="netaddr is missing on the controller"):
        run([])


# -- whatever happens ----------------------------------------------------------------

NETWORKS = ["10.80.0.0/26", "fd00:80::/122"]
QUARANTINE = 3

everybody = [f"n{i}" for i in range(12)]
# One change after the other: who shall be there, in any order, and how many days have gone by since.
histories = st.lists(
    st.tuples(st.lists(st.sampled_from(everybody), unique=True), st.integers(min_value=0, max_value=4)), max_size=12
)


@given(histories)
def test_nobody_is_ever_renumbered(history: list[tuple[list[str], int]]) -> None:
    today = datetime(2026, 11, 22, tzinfo=timezone.utc)
    ledger: dict[str, Entry] = {}
    gone_on: dict[str, tuple[str, datetime]] = {}  # address -> who gave it up, and when
    for names, days in history:
        today += timedelta(days=days)
        now = today.isoformat()
        before, ledger = ledger, allocate(names, NETWORKS, ledger=ledger, now=now, quarantine_days=QUARANTINE)
        there, was_there = addresses(ledger), addresses(before)

        assert set(there) == set(names)
        for name in set(there) & set(was_there):
            assert there[name] == was_there[name]
        for name in set(was_there) - set(there):
            gone_on.update(dict.fromkeys(was_there[name], (name, today)))
        for name in set(there) - set(was_there):
            for address in there[name]:
                holder, when = gone_on.get(address, (name, today))
                assert holder == name or today - when >= timedelta(days=QUARANTINE)
            came_back = before.get(name)
            if came_back and today - gone_on[came_back["addresses"][0]][1] < timedelta(days=QUARANTINE):
                assert there[name] == came_back["addresses"]

        used = [address for entry in ledger.values() for address in entry["addresses"]]
        assert len(used) == len(set(used)) == 2 * len(ledger)
        for entry in ledger.values():
            for address, network in zip(entry["addresses"], NETWORKS):
                assert ip_address(address) in ip_network(network)
        # A second run changes nothing, and the order of names means nothing.
        again = {"ledger": ledger, "now": now, "quarantine_days": QUARANTINE}
        assert allocate(names, NETWORKS, **again) == ledger
        assert allocate(names[::-1], NETWORKS, **{**again, "ledger": before}) == ledger


@given(st.dictionaries(st.sampled_from(everybody), st.integers(1, 40)), st.sets(st.integers(1, 30)))
def test_reservations_are_kept_and_explicit_addresses_honoured_or_refused(
    pins: dict[str, int], reserved: set[int]
) -> None:
    free = [f"10.80.0.{number}" for number in range(1, 63) if number not in reserved]
    first = allocate(everybody, NETWORKS, reserved=[f"10.80.0.{number}" for number in reserved], now=DAY[1])
    assert [first[name]["addresses"][0] for name in sorted(everybody)] == free[: len(everybody)]

    explicit = {name: [f"10.80.0.{number}"] for name, number in pins.items()}
    holders = {entry["addresses"][0]: name for name, entry in first.items()}
    asked_twice = len(set(pins.values())) < len(pins)
    if asked_twice or any(holders.get(address, name) != name for name, [address] in explicit.items()):
        with pytest.raises(AllocationError, match=r"^explicit: "):
            allocate(everybody, NETWORKS, ledger=first, explicit=explicit, now=DAY[2])
        return
    for name, entry in allocate(everybody, NETWORKS, ledger=first, explicit=explicit, now=DAY[2]).items():
        old, unrelated = first[name]["addresses"]
        new = explicit.get(name, [old])[0]
        assert entry["addresses"] == [new, unrelated]
        assert entry.get("former", {}) == ({} if new == old else {old: DAY[2]})
