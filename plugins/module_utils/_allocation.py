# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Who gets which address: (names, networks, ledger) -> ledger.

Whoever has an address keeps it, whatever else is added, removed or reordered; only a new name takes the lowest
free one. An address that was given up rests in quarantine, because firewall rules, logs and caches still mean its
former holder by it. Pure: no clock, no files, no Ansible. Linear in the number of names.

An entry of the ledger says

* `addresses`: one per network, in the order of the networks;
* `released`: only if the name is gone, since when its addresses are in quarantine;
* `former`: only if a name that is still there gave addresses up (an explicit one took their place), {address: since}.
  They rest under their own name, so no second name has to be invented for them.

and whatever else its author wrote there, which is kept as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import combinations, islice
from typing import Any, NamedTuple

from ansible_collections.wirefleet.vpn.plugins.module_utils._ledger import is_name

try:
    from netaddr import INET_PTON, AddrFormatError, IPAddress, IPNetwork, cidr_merge
except ImportError:
    HAS_NETADDR = False
else:
    HAS_NETADDR = True

Entry = dict[str, Any]

_BEYOND_ANY_ADDRESS = 1 << 128


class AllocationError(ValueError):
    """What can not be allocated; the message starts with the input at fault."""


def allocate(
    names: Iterable[str],
    networks: Iterable[str],
    *,
    ledger: Mapping[str, Mapping[str, Any]] | None = None,
    reserved: Iterable[str] = (),
    explicit: Mapping[str, Sequence[str]] | None = None,
    now: str,
    quarantine_days: float = 30,
) -> dict[str, Entry]:
    """Return the next ledger, sorted by name; nothing that was passed in is changed.

    `names`: whoever shall have addresses. `networks`: prefixes that do not overlap. `ledger`: what an earlier call
    returned. `reserved`: addresses and prefixes to keep free. `explicit`: addresses that a name shall have, at most
    one per network. `now`: ISO 8601 with its zone. Raises AllocationError.
    """
    if not HAS_NETADDR:
        raise AllocationError("the Python library netaddr is missing on the controller")
    clock = _Clock(now, quarantine_days)
    wanted = _names(names)
    pools = _pools(networks, reserved)
    pins = _pins(explicit or {}, wanted, pools)
    holdings = {name: _Holding.read(name, entry, pools, clock) for name, entry in _mapping("ledger", ledger or {})}

    for name, holding in holdings.items():
        if name not in wanted:
            holding.released = holding.released or clock.now
    holdings = {name: h for name, h in holdings.items() if h.released is None or clock.rests(h.released)}
    for name in wanted:
        holdings.setdefault(name, _Holding({}, [None] * len(pools))).released = None
    for name, places in pins.items():
        for index, number in places.items():
            holdings[name].move(index, number, clock)
    _claim(holdings, pins, pools)
    _hand_out(holdings, sorted(wanted), pools)
    return {name: holdings[name].entry(pools) for name in sorted(holdings)}


def usage(networks: Iterable[str], reserved: Iterable[str], entries: Iterable[Entry]) -> list[Entry]:
    """How full each network is: addresses that are `used`, `quarantined`, and there at all (`size`)."""
    pools = _pools(list(networks), list(reserved))
    used: list[IPAddress] = []
    quarantined: list[IPAddress] = []
    for entry in entries:
        addresses = map(IPAddress, entry.get("addresses", []))
        (quarantined if "released" in entry else used).extend(addresses)
        quarantined.extend(map(IPAddress, entry.get("former", {})))
    return [
        {
            "network": str(pool.network),
            "used": sum(address in pool for address in used),
            "quarantined": sum(address in pool for address in quarantined),
            "size": pool.size,
        }
        for pool in pools
    ]


class _Clock:
    """The one moment at which everything happens, and how long a quarantine lasts."""

    def __init__(self, now: str, quarantine_days: float) -> None:
        self.now = _moment("now", now)
        if isinstance(quarantine_days, bool) or not isinstance(quarantine_days, (int, float)):
            raise AllocationError(f"quarantine_days: has to be a number, not {quarantine_days!r}")
        if not 0 <= quarantine_days <= 36500:
            raise AllocationError(f"quarantine_days: has to be from 0 to 36500, not {quarantine_days!r}")
        self._quarantine = timedelta(days=quarantine_days)

    def rests(self, since: datetime) -> bool:
        """Whether what was released then is still in quarantine."""
        return self.now - since < self._quarantine


class _Claim(NamedTuple):
    """Whose an address is, or whose it was until `released`."""

    name: str
    released: datetime | None = None

    def __str__(self) -> str:
        if self.released is None:
            return f"held by {self.name!r}"
        return f"in quarantine since {_iso(self.released)} (it was held by {self.name!r})"


@dataclass
class _Pool:
    """The host addresses of one network as numbers, from `first` to `last`, and who has which."""

    network: IPNetwork
    # Sorted ranges, both ends inclusive, apart from each other; each lies in the network, or covers it.
    reserved: list[tuple[int, int]]
    claims: dict[int, _Claim] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.version: int = self.network.version
        self.first, self.last = self.network.first, self.network.last
        # Not for hosts: network and broadcast address, and the subnet-router anycast address (RFC 4291, 2.6.1).
        # Point-to-point networks have none of them (RFC 3021, RFC 6164).
        if self.network.size > 2:
            self.first += 1
            if self.version == 4:
                self.last -= 1

    def __contains__(self, address: IPAddress) -> bool:
        return address.version == self.version and self.first <= int(address) <= self.last

    def claim(self, source: str, number: int, claim: _Claim) -> None:
        other = self.claims.setdefault(number, claim)
        if other is not claim:
            raise AllocationError(f"{source}: {self.text(number)} of {claim.name!r} is {other}")
        if claim.released is None and self._is_reserved(number):
            raise AllocationError(
                f"{source}: {self.text(number)} of {claim.name!r} is reserved:"
                " give it another explicit address, or do not reserve this one"
            )

    def _is_reserved(self, number: int) -> bool:
        before = bisect_right(self.reserved, (number, _BEYOND_ANY_ADDRESS))
        return before > 0 and number <= self.reserved[before - 1][1]

    def free(self) -> Iterator[int]:
        """The free addresses, lowest first: one walk serves all who lack one."""
        number = self.first
        for low, high in (*self.reserved, (self.last + 1, self.last + 1)):
            yield from (n for n in range(number, low) if n not in self.claims)
            number = high + 1

    def text(self, number: int) -> str:
        return str(IPAddress(number, self.version))

    @property
    def size(self) -> int:
        """How many addresses there are to give."""
        taken = sum(min(high, self.last) - max(low, self.first) + 1 for low, high in self.reserved)
        return self.last - self.first + 1 - taken


@dataclass
class _Holding:
    """What one name holds: an address per pool or None, and the addresses that it gave up."""

    carried: Entry
    numbers: list[int | None]
    released: datetime | None = None
    former: dict[tuple[int, int], datetime] = field(default_factory=dict)  # (index of the pool, number) -> since

    @classmethod
    def read(cls, name: str, entry: Any, pools: Sequence[_Pool], clock: _Clock) -> _Holding:
        """Read an entry of the ledger. Addresses outside of all networks are dropped: their network is gone."""
        _check_name("ledger", name)
        where = f"ledger: {name!r}"
        carried = dict(_mapping(where, entry))
        holding = cls(carried, [None] * len(pools))
        if "released" in carried:
            holding.released = _moment(where, carried.pop("released"))
        for address in _list(f"{where}: addresses", carried.pop("addresses", [])):
            for index, number in _places(where, address, pools):
                if holding.numbers[index] is None:
                    holding.numbers[index] = number
                elif holding.numbers[index] != number:  # two networks became one
                    holding.give_up(index, number, clock)
        for address, since in _mapping(f"{where}: former", carried.pop("former", {})):
            released = _moment(where, since)
            for place in _places(where, address, pools):
                if clock.rests(released):
                    holding.former[place] = released
        return holding

    def move(self, index: int, number: int, clock: _Clock) -> None:
        """Take this address in place of the one of the same pool, which goes into quarantine."""
        old, self.numbers[index] = self.numbers[index], number
        self.former.pop((index, number), None)
        if old is not None and old != number:
            self.give_up(index, old, clock)

    def give_up(self, index: int, number: int, clock: _Clock) -> None:
        if clock.rests(clock.now):
            self.former[index, number] = clock.now

    def entry(self, pools: Sequence[_Pool]) -> Entry:
        """Write the entry of the ledger."""
        entry = dict(self.carried)
        entry["addresses"] = [pools[i].text(number) for i, number in enumerate(self.numbers) if number is not None]
        if self.released is not None:
            entry["released"] = _iso(self.released)
        if self.former:
            entry["former"] = {pools[i].text(number): _iso(since) for (i, number), since in sorted(self.former.items())}
        return entry


def _claim(holdings: Mapping[str, _Holding], pins: Mapping[str, Mapping[int, int]], pools: Sequence[_Pool]) -> None:
    """Enter in the pools what is held and what rests, explicit addresses last: theirs is the blame for a conflict."""
    for name, holding in holdings.items():
        claim = _Claim(name, holding.released)
        for index, number in enumerate(holding.numbers):
            if number is not None and index not in pins.get(name, ()):
                pools[index].claim("ledger", number, claim)
        for (index, number), since in holding.former.items():
            pools[index].claim("ledger", number, _Claim(name, since))
    for name, places in pins.items():
        for index, number in places.items():
            pools[index].claim("explicit", number, _Claim(name))


def _hand_out(holdings: Mapping[str, _Holding], names: Sequence[str], pools: Sequence[_Pool]) -> None:
    """Give the lowest free address of each pool to the names that have none there."""
    for index, pool in enumerate(pools):
        lacking = [name for name in names if holdings[name].numbers[index] is None]
        found = list(islice(pool.free(), len(lacking)))
        if len(found) < len(lacking):
            resting = sum(claim.released is not None for claim in pool.claims.values())
            raise AllocationError(
                f"networks: {pool.network} is full: {len(lacking) - len(found)} of {len(lacking)} new addresses"
                f" are missing ({resting} in quarantine)"
            )
        for name, number in zip(lacking, found):
            holdings[name].numbers[index] = number


def _names(names: Iterable[str]) -> set[str]:
    wanted: set[str] = set()
    for name in _list("names", names):
        _check_name("names", name)
        if name in wanted:
            raise AllocationError(f"names: {name!r} is there twice")
        wanted.add(name)
    return wanted


def _pools(networks: Iterable[str], reserved: Iterable[str]) -> list[_Pool]:
    prefixes = [_network("networks", text) for text in _list("networks", networks)]
    for one, other in combinations(prefixes, 2):
        if one in other or other in one:
            raise AllocationError(f"networks: {one} and {other} overlap")
    taken = cidr_merge([_network("reserved", text, or_address=True) for text in _list("reserved", reserved)])
    return [
        _Pool(
            prefix, [(r.first, r.last) for r in taken if r.version == prefix.version and (r in prefix or prefix in r)]
        )
        for prefix in prefixes
    ]


def _pins(explicit: Mapping[str, Any], wanted: set[str], pools: Sequence[_Pool]) -> dict[str, dict[int, int]]:
    """The explicit addresses as {name: {index of the pool: number}}."""
    pins: dict[str, dict[int, int]] = {}
    for name, addresses in _mapping("explicit", explicit):
        if name not in wanted:
            raise AllocationError(f"explicit: {name!r} is not among the names")
        places = pins.setdefault(name, {})
        where = f"explicit: {name!r}"
        for address in _list(where, addresses):
            found = _places(where, address, pools)
            if not found:
                raise AllocationError(f"{where}: {address} is no host address of {_joined(pools)}")
            for index, number in found:
                if places.setdefault(index, number) != number:
                    raise AllocationError(f"{where}: has two addresses in {pools[index].network}")
    return pins


def _places(where: str, address: Any, pools: Sequence[_Pool]) -> list[tuple[int, int]]:
    """Where an address belongs: [(index of the pool, number)], or nothing if it is a host address of none."""
    try:
        if not isinstance(address, str):
            raise ValueError
        parsed = IPAddress(address, flags=INET_PTON)
    except (AddrFormatError, ValueError):
        raise AllocationError(f"{where}: {address!r} is no address") from None
    return [(index, int(parsed)) for index, pool in enumerate(pools) if parsed in pool]


def _network(what: str, text: Any, or_address: bool = False) -> IPNetwork:
    try:
        if not isinstance(text, str) or not (or_address or "/" in text):
            raise ValueError
        network = IPNetwork(text)
    except (AddrFormatError, ValueError):
        kind = "address or network" if or_address else "network (such as 10.80.0.0/16 or fd00:80::/48)"
        raise AllocationError(f"{what}: {text!r} is no {kind}") from None
    if network.ip != network.network:
        raise AllocationError(f"{what}: {text} has host bits set; the network is {network.cidr}")
    return network


def _joined(pools: Sequence[_Pool]) -> str:
    return ", ".join(str(pool.network) for pool in pools) or "any network (there is none)"


def _moment(where: str, text: Any) -> datetime:
    try:
        # Python reads the Z only from 3.11 on.
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            raise ValueError
    except (AttributeError, ValueError):
        raise AllocationError(f"{where}: {text!r} is no time such as 2026-11-22T00:00:00Z") from None
    return moment.astimezone(timezone.utc).replace(microsecond=0)


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_name(where: str, name: Any) -> None:
    if not is_name(name):
        raise AllocationError(
            f"{where}: {name!r} is no usable name: a string that is not empty and has no control characters"
        )


def _list(where: str, value: Any) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise AllocationError(f"{where}: has to be a list, not {value!r}")
    return list(value)


def _mapping(where: str, value: Any) -> Iterable[tuple[Any, Any]]:
    if not isinstance(value, Mapping):
        raise AllocationError(f"{where}: has to be a mapping, not {value!r}")
    return value.items()
