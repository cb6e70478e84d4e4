# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The addresses that balancers share: what clients connect to (`vpn_vip`), and what nodes answer through
(`vpn_backend_vip`). Whichever balancer is active has both. Pure, and part of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

try:
    import netaddr
except ImportError:  # The plan says so before it comes here.
    netaddr = None

Sides = Mapping[str, Any]  # of a host: {"public": …, "backend": …}, each family -> {address, network, interface}

FAMILIES = {"ip": 4, "ip6": 6}
SIDES = {"public": "vpn_vip", "backend": "vpn_backend_vip"}


class Vips:
    """`mode`: who moves them, "vrrp" (keepalived), "external" (the operator's own means), or "none"."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.mode: str = settings["vip_mode"]
        self._given = {"public": settings["vip"], "backend": settings["backend_vip"]}
        self._malformed: list[str] = []
        self._vips = {side: self._read(side) for side in SIDES}

    def _read(self, side: str) -> dict[str, netaddr.IPNetwork]:
        """Family -> address with the prefix of its network."""
        read: dict[str, netaddr.IPNetwork] = {}
        given, variable = self._given[side], SIDES[side]
        for text in [given] if isinstance(given, str) else given:
            try:
                vip = netaddr.IPNetwork(str(text))
            except (netaddr.AddrFormatError, ValueError):
                vip = None
            if vip is None or "/" not in str(text) or (vip.size > 2 and vip.ip == vip.network):
                self._malformed.append(f"{variable}: {text!r} is no address with its prefix (such as 198.51.100.10/24)")
                continue
            family = next(family for family, version in FAMILIES.items() if version == vip.version)
            if family in read:
                self._malformed.append(f"{variable}: {text} is the second address of IPv{vip.version}; one is enough")
            read[family] = vip
        return read

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset(str(vip.ip) for vips in self._vips.values() for vip in vips.values())

    def public(self, family: str) -> str | None:
        return self._address("public", family)

    def backend(self, family: str) -> str | None:
        return self._address("backend", family)

    def _address(self, side: str, family: str) -> str | None:
        vip = self._vips[side].get(family)
        return str(vip.ip) if vip else None

    @property
    def backends(self) -> list[str]:
        """The backend's, of whichever family."""
        return [str(vip.ip) for vip in self._vips["backend"].values()]

    def sides(self) -> dict[str, Mapping[str, object]]:
        """What a family has to be in to be served: the variables that are set."""
        return {SIDES[side]: vips for side, vips in self._vips.items() if vips}

    def at(self, sides: Sides) -> list[dict[str, str]]:
        """What a balancer's keepalived holds while it is active, by backend first: {address with prefix, interface}."""
        if self.mode != "vrrp":
            return []
        held = {
            str(vip): {"address": str(vip), "interface": sides[side][family]["interface"]}
            for side in ("backend", "public")
            for family, vip in sorted(self._vips[side].items())
        }
        return list(held.values())  # a balancer with one network may have one address for both

    # -- what can not work ---------------------------------------------------------------------------------------------

    def problems(self, balancers: Sequence[str], translates: bool = False) -> Iterator[str]:
        """Of the variables themselves. With source NAT (`translates`) nodes can answer any balancer's own address."""
        yield from self._malformed
        if self._malformed:
            return
        public, backend = self._vips["public"], self._vips["backend"]
        several = f"haproxy_lbs has {len(balancers)} hosts ({', '.join(balancers)})"
        if self.mode == "none":
            if public or backend:
                listed = ", ".join(str(vip) for vips in (public, backend) for vip in vips.values())
                yield f"vpn_vip_mode is none, but vpn_vip or vpn_backend_vip have addresses ({listed})"
            elif len(balancers) > 1:
                yield f"{several}: they need addresses that one of them has at a time: set vpn_vip and vpn_backend_vip"
            return
        if self.mode == "vrrp" and not public:
            yield "vpn_vip_mode is vrrp, but vpn_vip is empty: name the address that clients connect to"
        if translates:
            return
        for family in sorted(public.keys() - backend.keys()):
            yield (
                f"vpn_vip: {public[family]} is IPv{FAMILIES[family]}, of which vpn_backend_vip has no address:"
                " nodes could not answer"
            )
        if self.mode == "external" and len(balancers) > 1 and not backend:
            yield f"{several}, and vpn_vip_mode is external: set vpn_backend_vip, through which nodes answer"

    def claimed(self, report: Mapping[str, Any], balancer: bool) -> Iterator[str]:
        """What a host has for itself. A balancer may hold such an address, beside one of its own."""
        for interface, families in report["interfaces"].items():
            for texts in families.values():
                for address in sorted(self.addresses.intersection(text.split("/")[0] for text in texts)):
                    what = f"{report['name']}: {address} on {interface} is {self._variable(address)}"
                    if not balancer:
                        yield f"{what}: take another one"
                    elif len(texts) == 1 and self.mode == "vrrp":
                        yield f"{what}, and the only address there: a balancer needs one of its own beside it"

    def misplaced(self, nodes: Mapping[str, Sides | None], balancers: Mapping[str, Sides | None]) -> Iterator[str]:
        """Of the variables and the hosts' own networks."""
        for name, sides in balancers.items():
            if sides and self.mode == "vrrp":
                for side in SIDES:
                    yield from self._outside(name, side, sides[side])
        for name, sides in nodes.items():
            if sides:
                yield from self._outside(name, "backend", sides["backend"])

    def _outside(self, name: str, side: str, own: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
        for family, vip in self._vips[side].items():
            if family not in own:
                yield f"{SIDES[side]}: {vip} is IPv{vip.version}, and {name} has no such address on its {side} side"
            elif str(vip.ip) == own[family]["address"]:
                yield f"{SIDES[side]}: {vip} is the own address of {name}"
            elif side == "public" and vip.size == 1:
                continue  # of no network: a floating address, which is routed here
            elif vip.ip not in netaddr.IPNetwork(own[family]["network"]):
                yield (
                    f"{SIDES[side]}: {vip} is not in {own[family]['network']}, the {side} network of {name}"
                    f" ({own[family]['interface']})"
                )

    def _variable(self, address: str) -> str:
        return next(
            SIDES[side] for side, vips in self._vips.items() if any(str(vip.ip) == address for vip in vips.values())
        )
