# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""From settings, what the hosts report and the ledger to one plan that every role renders from.

Pure: no clock, no network, no Ansible. Whatever can not work is found here, before anything is changed,
and all at once that does not follow from something else: `PlanError.problems` has one line for each, naming host,
variable and value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.wirefleet.vpn.plugins.module_utils import _access as access
from ansible_collections.wirefleet.vpn.plugins.module_utils import _devices
from ansible_collections.wirefleet.vpn.plugins.module_utils._allocation import AllocationError, allocate, usage
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import KeyFormatError, validate_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import host_prefix
from ansible_collections.wirefleet.vpn.plugins.module_utils._vips import FAMILIES, SIDES, Vips

try:
    import netaddr
except ImportError:  # Documentation is read without it, too; `build_plan` tells who needs it.
    netaddr = None

Entry = dict[str, Any]
Key = tuple[str, str]  # (kind, name)

# A name ends up in file names, comments of wg-quick files and HAProxy server lines.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")
NAME_RULE = "letters, digits and _ . @ -, at most 63"
CLIENT_STATES = ("present", "suspended", "absent")
RETURN_PATHS = ("nat", "routed")
FORWARDING = ("direct", "snat")


class PlanError(ValueError):
    """What can not work; `problems` holds one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def build_plan(
    settings: Mapping[str, Any], reports: Sequence[Mapping[str, Any]], ledger: Sequence[Entry], now: str
) -> dict[str, Any]:
    """Return the plan of the cluster.

    `settings`: the vpn_* variables without their prefix, plus the member lists `nodes`, `balancers`, `monitors` and
    `managed_clients`, those who are `leaving` (and in none of these), and the clients with `renewed_psks`.
    `reports`: one per host that this run reached (see `host_report`); a host that is not among them is known from the
    ledger or left out as pending. `ledger`: the entries of the newest ledger. `now`: ISO 8601 in UTC.
    """
    if netaddr is None:
        raise PlanError(["the controller's Python has no library netaddr (pip install netaddr)"])
    return _Planner(settings, reports, ledger, now).plan()


def host_report(
    name: str,
    facts: Mapping[str, Any],
    keys: Mapping[str, str | None],
    hints: Mapping[str, Any],
    own_interfaces: Iterable[str] = (),
) -> dict[str, Any]:
    """What the planner needs of one host: its addresses by interface, public keys and the operator's hints.

    `own_interfaces`: names of tunnels that we made; they are no candidates for the underlay.
    """
    skipped = {"lo", *own_interfaces}
    interfaces: dict[str, dict[str, list[str]]] = {}
    for interface in sorted(facts.get("interfaces") or []):
        if interface in skipped or re.fullmatch(r"wfp([0-9a-f]{6}-)?\d+", interface):
            continue
        # Ansible spells the names of facts without dashes, but leaves the dots of VLANs.
        details = facts.get(interface.replace("-", "_")) or {}
        v4 = [details["ipv4"]] if details.get("ipv4") else []
        v4 += details.get("ipv4_secondaries") or []
        v6 = [a for a in details.get("ipv6") or [] if a.get("scope") == "global"]
        found = {
            "ip": [f"{a['address']}/{a.get('prefix') or a['netmask']}" for a in v4],
            "ip6": [f"{a['address']}/{a['prefix']}" for a in v6],
        }
        if found["ip"] or found["ip6"]:
            interfaces[interface] = found
    return {
        "name": name,
        "interfaces": interfaces,
        "keys": {kind: key for kind, key in keys.items() if key},
        "hints": {k: v for k, v in hints.items() if v},
    }


class _Planner:
    def __init__(
        self, settings: Mapping[str, Any], reports: Sequence[Mapping[str, Any]], ledger: Sequence[Entry], now: str
    ) -> None:
        self.settings = settings
        self.reports = {report["name"]: report for report in reports}
        self.known: dict[Key, Entry] = {(e["kind"], e["name"]): dict(e) for e in ledger}
        self.now = now
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.vips = Vips(settings)

    def plan(self) -> dict[str, Any]:
        self._check_settings()
        clients = self._clients()
        self._stop_on_problems()
        for name, report in self.reports.items():
            self.problems += self.vips.claimed(report, name in self.settings["balancers"])
        self._stop_on_problems()
        underlay = {name: self._node_underlay(name) for name in self.settings["nodes"]}
        balancers = {name: self._balancer_underlay(name) for name in self.settings["balancers"]}
        self._stop_on_problems()
        # With source NAT, nodes may be behind routers.
        self.problems += self.vips.misplaced({} if self._translates else underlay, balancers)
        self._check_overlaps(clients, underlay, balancers)
        self._stop_on_problems()
        entries = self._entries(clients, underlay, balancers)
        self._stop_on_problems()
        return self._describe(clients, underlay, balancers, entries)

    def _stop_on_problems(self) -> None:
        if self.problems:
            raise PlanError(self.problems)

    def _live(self, kind: str, name: str) -> Entry:
        """The ledger's entry of somebody who is not removed, or an empty one."""
        entry = self.known.get((kind, name), {})
        return {} if entry.get("released") else entry

    # -- settings -----------------------------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        nodes, balancers = self.settings["nodes"], self.settings["balancers"]
        if not nodes:
            self.problems.append("no WireGuard node: the inventory group 'wireguard_nodes' is empty")
        self.problems += self.vips.problems(balancers, self._translates)
        for host in sorted(set(nodes) & set(balancers)):
            self.problems.append(
                f"{host}: is in wireguard_nodes and in haproxy_lbs, but a balancer steers packets that it forwards,"
                " and those for a node on the same host are not forwarded: use two hosts"
            )
        groups = (("wireguard_nodes", nodes), ("haproxy_lbs", balancers), ("vpn_monitors", self.settings["monitors"]))
        for group, hosts in groups:
            self.problems += [
                f"{group}: {host!r} is no usable name ({NAME_RULE})" for host in hosts if not NAME.fullmatch(host)
            ]
        for variable in ("client_networks", "mesh_networks", "public_networks", "backend_networks", "routes"):
            for value in self.settings[variable]:
                self._network(f"vpn_{variable}", value)
        if complaint := _devices.dns_problem(self.settings["client_dns"]):
            self.problems.append(f"vpn_client_dns: {complaint}")
        if not self.settings["client_networks"]:
            self.problems.append("vpn_client_networks is empty: name at least one network, such as 10.80.0.0/16")
        if not self.settings["mesh_networks"]:
            self.problems.append("vpn_mesh_networks is empty: name one network, such as fd77:6972:6566::/64")
        if self.settings["return_path"] not in RETURN_PATHS:
            self.problems.append(
                f"vpn_return_path: {self.settings['return_path']!r} is none of {', '.join(RETURN_PATHS)}"
            )
        if self.settings["forwarding"] not in FORWARDING:
            self.problems.append(f"vpn_forwarding: {self.settings['forwarding']!r} is none of {', '.join(FORWARDING)}")
        elif self._translates and self.settings["return_path"] == "routed":
            self.problems.append(
                "vpn_forwarding is snat and vpn_return_path is routed, which needs what snat does without: that packets"
                " with clients' addresses pass between nodes and balancers. Set vpn_return_path to nat"
            )
        ports = [int(self.settings["port"]), int(self.settings["mesh_port"])]
        for variable, port in zip(("vpn_port", "vpn_mesh_port"), ports):
            if not 1 <= port <= 65535:
                self.problems.append(f"{variable}: {port} is not a port (1 to 65535)")
        if ports[0] == ports[1]:
            self.problems.append(f"vpn_port and vpn_mesh_port are both {ports[0]}: they need two ports")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,14}", self.settings["cluster"]):
            self.problems.append(
                f"vpn_cluster: {self.settings['cluster']!r} has to be 1 to 15 of a-z, 0-9 and '-' (it names units)"
            )
        if not re.fullmatch(r"[^\s\[\]#]+", self.settings["endpoint"]):
            self.problems.append(f"vpn_endpoint: {self.settings['endpoint']!r} is no host name or address")

    @property
    def _translates(self) -> bool:
        """Whether nodes get clients' packets from the balancers' addresses, and need no way to any other."""
        return bool(self.settings["forwarding"] == "snat")

    def _network(self, variable: str, value: object) -> None:
        try:
            access.network(value)
        except ValueError as error:
            self.problems.append(f"{variable}: {error}")

    # -- clients ------------------------------------------------------------------------------------------------------

    def _clients(self) -> dict[str, Entry]:
        """Whoever shall be a client, or is suspended: name -> {public_key or None, explicit addresses, psk, terms}."""
        wanted: dict[str, Entry] = {}
        named: set[str] = set()
        for name in self.settings["managed_clients"]:
            client = {
                "name": name,
                "public_key": self.reports.get(name, {}).get("keys", {}).get("client"),
                "addresses": self.settings["client_addresses"].get(name),
                "state": self.settings["client_states"].get(name),
                "expires": self.settings["client_expires"].get(name),
                "groups": self.settings["client_groups"].get(name),
                "networks": self.settings["client_sites"].get(name),
            }
            self._add_client("wg_clients", client, wanted, named)
        for index, client in enumerate(self.settings["clients"]):
            if isinstance(client, Mapping) and client.get("name"):
                self._add_client(f"vpn_clients[{index}]", client, wanted, named)
            else:
                self.problems.append(f"vpn_clients[{index}]: has no name")
        self._check_removals(wanted, named)
        self._check_returns()
        self._check_sites(wanted)
        reachable = self._reachable(wanted) if not self.problems else []
        self.problems += access.check(self.settings["access"], self.settings["access_default"], named, reachable)
        return wanted

    def _add_client(self, where: str, client: Mapping[str, Any], wanted: dict[str, Entry], named: set[str]) -> None:
        name, state = str(client["name"]), client.get("state") or "present"
        if not NAME.fullmatch(name):
            self.problems.append(f"{where}: {_devices.shown(name)} is no usable name ({NAME_RULE})")
            return
        where = f"{where} ({name})"
        if name in named:
            self.problems.append(f"{where}: the name is taken by another client")
            return
        named.add(name)
        managed = name in self.settings["managed_clients"]
        if not managed:
            self.problems += [f"{where}: {problem}" for problem in _devices.problems(client)]
        if state not in CLIENT_STATES:
            self.problems.append(f"{where}: state {_devices.shown(state)} is none of {', '.join(CLIENT_STATES)}")
        elif state != "absent":
            # A device that brings no key has one that was made for it, in this run or before.
            known = self.settings["device_keys"].get(name) or self._live("client", name).get("public_key")
            key = client.get("public_key") or known
            try:
                key = validate_key(str(key)) if key else None
            except KeyFormatError as error:
                self.problems.append(f"{where}: public_key: {error}")
            wanted[name] = {
                "public_key": key,
                "explicit": client.get("addresses") or [],
                "preshared": client.get("psk") is not False,
                "psk_mask": client.get("psk_mask"),
                "suspended": state == "suspended",
                **self._terms(where, client, is_new=not known),
            }

    def _terms(self, where: str, client: Mapping[str, Any], is_new: bool) -> Entry:
        """What is agreed with a client: {expires (seconds since the epoch, or None), groups, networks behind it}."""
        terms: Entry = {"expires": None, "groups": [], "networks": []}
        readers = {
            "expires": access.expiry,
            "groups": access.groups,
            "networks": access.networks,
        }
        for term, read in readers.items():
            try:
                if client.get(term):
                    terms[term] = read(client[term])
            except ValueError as error:
                self.problems.append(f"{where}: {term}: {error}")
        if is_new and terms["expires"] is not None and terms["expires"] <= self._now_seconds():
            self.problems.append(f"{where}: expires: {client['expires']} is over, and the client is new")
        return terms

    def _now_seconds(self) -> int:
        return access.expiry(self.now)

    def _check_sites(self, clients: Mapping[str, Entry]) -> None:
        """Networks behind clients are reached through routes, which have to be theirs alone."""
        if self.settings["return_path"] != "routed":
            self.problems += [
                f"client {name}: networks: {', '.join(client['networks'])} can be reached in routed mode only, and"
                f" vpn_return_path is {self.settings['return_path']}"
                for name, client in clients.items()
                if client["networks"]
            ]
        if self.problems:
            return
        routes = [netaddr.IPNetwork(route) for route in self.settings["routes"]]
        for text, site in self._sites(clients):
            self.problems += [
                f"{text}: takes in {route} of vpn_routes, which is elsewhere"
                for route in routes
                if route.version == site.version and route in site
            ]

    def _sites(self, clients: Mapping[str, Entry]) -> list[tuple[str, netaddr.IPNetwork]]:
        """The networks behind clients, each with its name for messages."""
        return [
            (f"networks {network} of client {name}", netaddr.IPNetwork(network))
            for name, client in sorted(clients.items())
            for network in client["networks"]
        ]

    def _reachable(self, clients: Mapping[str, Entry]) -> list[netaddr.IPNetwork]:
        """Where clients may go at all."""
        return [netaddr.IPNetwork(r) for r in self.settings["routes"]] + [site for _text, site in self._sites(clients)]

    def _check_removals(self, wanted: Mapping[str, Entry], named: set[str]) -> None:
        """Nothing disappears by omission, unless the operator said how much may."""
        most = int(self.settings["max_removals"])
        gone = self._gone("client", named)
        if len(gone) > most:
            self.problems.append(
                f"{len(gone)} known client(s) are missing from the inventory and from vpn_clients: {_shorten(gone)}."
                " Remove a client with state: absent (wg_client_state for a host), or allow it for this run with"
                f" -e vpn_max_removals={len(gone)} (now {most})"
            )
        elif gone and not wanted:
            self.problems.append(
                f"the inventory has no client at all, but the ledger knows {_shorten(gone)}: this looks like an empty"
                " or broken inventory source. Remove the last clients with state: absent"
            )
        for kind, group, members in (
            ("node", "wireguard_nodes", self.settings["nodes"]),
            ("probe", "haproxy_lbs", self.settings["balancers"]),
            ("monitor", "vpn_monitors", self.settings["monitors"]),
        ):
            gone = self._gone(kind, members)
            if len(gone) > most:
                self.problems.append(
                    f"{len(gone)} known host(s) are missing from {group}: {_shorten(gone)}. If they shall leave the"
                    f" cluster, allow it for this run with -e vpn_max_removals={len(gone)} (now {most})"
                )

    def _check_returns(self) -> None:
        """A host that was decommissioned and is still in the inventory would get keys again by the next run."""
        self.problems += [
            f"{name}: was decommissioned ({entry['released']}) and is still in {group}: take it out, or let it"
            f' join anew with -e \'{{"vpn_replaced_hosts": ["{name}"]}}\''
            for kind, group, names in (
                ("node", "wireguard_nodes", self.settings["nodes"]),
                ("probe", "haproxy_lbs", self.settings["balancers"]),
            )
            for name in names
            if (entry := self.known.get((kind, name), {})).get("decommissioned") and entry.get("released")
            if name not in self.settings["replaced_hosts"]
        ]

    def _gone(self, kind: str, present: Iterable[str]) -> list[str]:
        """Whom the ledger knows, but nobody names any more."""
        known = {name for (of, name), entry in self.known.items() if of == kind and not entry.get("released")}
        return sorted(known.difference(present, self.settings["leaving"]))

    # -- addresses of the hosts on their networks ---------------------------------------------------------------------

    def _node_underlay(self, name: str) -> Entry | None:
        report = self.reports.get(name)
        if report is None:
            return self._live("node", name).get("underlay")
        backend = self._select(report, "backend", "wireguard_node_backend_addresses", exclude=())
        if not backend:
            return None
        return {"backend": backend}

    def _balancer_underlay(self, name: str) -> Entry | None:
        report = self.reports.get(name)
        if report is None:
            return self._live("probe", name).get("underlay")
        public_networks = self.settings["public_networks"]
        backend = self._select(report, "backend", "haproxy_lb_backend_addresses", exclude=public_networks)
        public = self._select(
            report, "public", "haproxy_lb_public_addresses", exclude=self.settings["backend_networks"]
        )
        if not backend or not public:
            return None
        return {"backend": backend, "public": public, **self._snat_underlay(report)}

    def _snat_underlay(self, report: Mapping[str, Any]) -> Entry:
        """The addresses that the operator has chosen for a balancer's packets to nodes, if any."""
        hint = "haproxy_lb_snat_addresses"
        if not report["hints"].get(hint):
            return {}
        if not self._translates:
            self.warnings.append(f"{report['name']}: {hint} has no use, because vpn_forwarding is direct")
            return {}
        return {"snat": sorted(self._hinted(report, hint, shared=self.vips.backends))}

    def _select(
        self, report: Mapping[str, Any], purpose: str, hint: str, exclude: Iterable[str]
    ) -> dict[str, Entry] | None:
        """The address of a host for a purpose, for each family that has one: {family: {address, prefix, interface}}.

        The operator's own list wins, then the cluster's networks, then the only interface there is. Two candidates are
        an error that names both: a guess here would be an outage later.
        """
        variable = f"vpn_{purpose}_networks"
        problems_before = len(self.problems)
        explicit = self._hinted(report, hint)
        if len(self.problems) > problems_before:
            return None
        networks = [netaddr.IPNetwork(n) for n in self.settings[f"{purpose}_networks"]]
        excluded = [] if networks else [netaddr.IPNetwork(n) for n in exclude]
        chosen: dict[str, Entry] = {}
        for family in FAMILIES:
            candidates = []
            for interface, addresses in report["interfaces"].items():
                for text in addresses[family]:
                    network = netaddr.IPNetwork(text)
                    if str(network.ip) in self.vips.addresses:
                        continue  # a balancer has it just now
                    if explicit:
                        fits = str(network.ip) in explicit
                    elif networks:
                        fits = any(network.ip in n for n in networks)
                    else:
                        fits = not any(network.ip in n for n in excluded)
                    if fits:
                        candidates.append(
                            {"address": str(network.ip), "network": str(network.cidr), "interface": interface}
                        )
            if len(candidates) > 1:
                listed = ", ".join(f"{c['address']} on {c['interface']}" for c in candidates)
                self.problems.append(
                    f"{report['name']}: which {purpose} address? Candidates: {listed}. "
                    + (f"{hint} can name one of them" if explicit else f"Set {variable}, or {hint} for this host")
                )
            elif candidates:
                chosen[family] = candidates[0]
        if not chosen and len(self.problems) == problems_before:
            where = f"in {', '.join(map(str, networks))}" if networks else "on any interface"
            self.problems.append(f"{report['name']}: has no {purpose} address {where}: check {variable} or set {hint}")
        return chosen or None

    def _hinted(self, report: Mapping[str, Any], hint: str, shared: Iterable[str] = ()) -> set[str]:
        """The addresses that the operator chose for a host. It has to have all of them, but those that are `shared`."""
        given = report["hints"].get(hint, [])
        present = {
            str(netaddr.IPNetwork(text).ip)
            for sides in report["interfaces"].values()
            for f in FAMILIES
            for text in sides[f]
        }
        hinted = set()
        for text in [given] if isinstance(given, str) else given:
            try:
                address = str(netaddr.IPAddress(text))
            except (netaddr.AddrFormatError, ValueError, TypeError):
                self.problems.append(f"{report['name']}: {hint}: {text!r} is no address")
                continue
            if address not in present.union(shared):
                self.problems.append(f"{report['name']}: {hint}: {address} is not on this host")
            hinted.add(address)
        return hinted

    def _families(
        self,
        underlay: Mapping[str, Entry | None],
        balancers: Mapping[str, Entry | None],
        sites: Sequence[str],
    ) -> list[str]:
        """The families in which a packet can go all the way: balancer's public side, its backend, and every node."""
        sides = {f"node {n}": u["backend"] for n, u in underlay.items() if u}
        for name, side in balancers.items():
            if side:
                sides[f"balancer {name} (public)"] = side["public"]
                sides[f"balancer {name} (backend)"] = side["backend"]
        sides.update(self.vips.sides())
        families = []
        for family, version in FAMILIES.items():
            lacking = [where for where, addresses in sides.items() if family not in addresses]
            if not lacking:
                families.append(family)
            elif len(lacking) < len(sides):
                self.warnings.append(f"IPv{version} is not served: no address at {', '.join(lacking)}")
        if not families:
            listed = "; ".join(
                f"{where} has {' and '.join(f'IPv{FAMILIES[family]}' for family in addresses)}"
                for where, addresses in sides.items()
            )
            self.problems.append(f"no address family is common to all nodes and both sides of the balancer: {listed}")
        elif self.settings["return_path"] == "routed":
            self._check_return_path(families, sides, "vpn_client_networks has", self.settings["client_networks"])
            self._check_return_path(families, sides, "a client has networks", sites)
        return families

    def _check_return_path(
        self, families: Iterable[str], sides: Mapping[str, Mapping[str, Entry]], what: str, networks: Iterable[str]
    ) -> None:
        """Packets for clients come back over the backend: from the balancer to each node, in the clients' families."""
        for text in networks:
            family = _family(text)
            lacking = [where for where, addresses in sides.items() if family not in addresses]
            if family not in families:
                self.problems.append(
                    f"vpn_return_path is routed and {what} {text}, but there is no"
                    f" IPv{FAMILIES[family]} address at {', '.join(lacking)}"
                )

    def _check_overlaps(
        self,
        clients: Mapping[str, Entry],
        underlay: Mapping[str, Entry | None],
        balancers: Mapping[str, Entry | None],
    ) -> None:
        named = [(f"vpn_client_networks {n}", netaddr.IPNetwork(n)) for n in self.settings["client_networks"]]
        named += [(f"vpn_mesh_networks {n}", netaddr.IPNetwork(n)) for n in self.settings["mesh_networks"]]
        named += self._sites(clients)
        ours = len(named)
        attached: dict[str, str] = {}
        for name, sides in (*underlay.items(), *balancers.items()):
            for side in SIDES:
                for address in (sides or {}).get(side, {}).values():
                    attached.setdefault(address["network"], f"{address['network']} ({name}, {address['interface']})")
        named += [(text, netaddr.IPNetwork(network)) for network, text in sorted(attached.items())]
        for index, (text, network) in enumerate(named[:ours]):
            for other_text, other in named[index + 1 :]:
                if access.overlap(network, other):
                    self.problems.append(f"networks overlap: {text} and {other_text}")

    # -- the ledger ---------------------------------------------------------------------------------------------------

    def _entries(
        self,
        clients: Mapping[str, Entry],
        underlay: Mapping[str, Entry | None],
        balancers: Mapping[str, Entry | None],
    ) -> dict[Key, Entry]:
        """The ledger's entries after this run: addresses for all who may have one, and what was learned of them."""
        inner = [f"client {n}" for n, c in clients.items() if c["public_key"]]
        inner += [f"node {n}" for n, sides in underlay.items() if sides]
        inner += [f"probe {n}" for n, sides in balancers.items() if sides]
        members = {n for n, sides in (*underlay.items(), *balancers.items()) if sides}
        mesh = [f"mesh {n}" for n in members.union(self.settings["monitors"])]
        explicit = {f"client {n}": c["explicit"] for n, c in clients.items() if c["public_key"] and c["explicit"]}
        entries = self._allocate(inner, "client_networks", explicit, ("client", "node", "probe"))
        entries.update(self._allocate(mesh, "mesh_networks", {}, ("mesh",)))
        self._remember_departures(entries)
        for (kind, name), entry in entries.items():
            if entry.get("released"):
                continue
            entry.pop("decommissioned", None)
            if kind == "client":
                entry["public_key"] = clients[name]["public_key"]
                if name in self.settings["renewed_psks"]:
                    entry["psk_renewals"] = entry.get("psk_renewals", 0) + 1
            elif kind in ("mesh", "probe"):
                key = self.reports.get(name, {}).get("keys", {}).get(kind) or entry.get("public_key")
                entry.pop("public_key", None)
                if key:
                    entry["public_key"] = key
            if kind in ("node", "probe"):
                entry["underlay"] = (underlay if kind == "node" else balancers)[name]
        self._number_nodes(entries)
        # Monitors have no address but that of the mesh; their own entries keep them from being forgotten.
        entries.update({("monitor", n): {"kind": "monitor", "name": n} for n in self.settings["monitors"]})
        self._check_keys(entries)
        return entries

    def _remember_departures(self, entries: dict[Key, Entry]) -> None:
        """Hosts that were decommissioned are known as such until they join anew, however short their addresses rest."""
        present = {"node": self.settings["nodes"], "probe": self.settings["balancers"]}
        for (kind, name), known in self.known.items():
            leaves = known.get("decommissioned") or name in self.settings["leaving"]
            if kind in present and leaves and name not in present[kind]:
                left = {term: value for term, value in known.items() if term not in ("addresses", "former", "underlay")}
                left = entries.setdefault((kind, name), {**left, "released": known.get("released", self.now)})
                left["decommissioned"] = True

    def _allocate(
        self, names: Iterable[str], networks: str, explicit: Mapping[str, list[str]], kinds: Sequence[str]
    ) -> dict[Key, Entry]:
        held = {f"{kind} {name}": entry for (kind, name), entry in self.known.items() if kind in kinds}
        try:
            allocated = allocate(
                sorted(names),
                [str(n) for n in self.settings[networks]],
                ledger=held,
                reserved=[str(r) for r in self.settings["reserved_addresses"]],
                explicit=explicit,
                now=self.now,
                quarantine_days=int(self.settings["quarantine_days"]),
            )
        except AllocationError as error:
            source, text = str(error).split(":", 1)
            variables = {
                "networks": f"vpn_{networks}",
                "reserved": "vpn_reserved_addresses",
                "explicit": "addresses in vpn_clients or wg_client_addresses",
                "quarantine_days": "vpn_quarantine_days",
            }
            self.problems.append(f"{variables.get(source, source)}:{text}")
            return {}
        entries: dict[Key, Entry] = {}
        for label, entry in allocated.items():
            kind, name = label.split(" ", 1)
            entries[(kind, name)] = {**entry, "kind": kind, "name": name}
        return entries

    def _number_nodes(self, entries: Mapping[Key, Entry]) -> None:
        """A node's number is its firewall mark on the balancers and names its probe interface: given once, kept."""
        taken = {e["id"] for (kind, _name), e in entries.items() if kind == "node" and "id" in e}
        free = (number for number in range(1, 1 << 16) if number not in taken)
        for kind, name in sorted(entries):
            if kind == "node" and "id" not in entries[(kind, name)]:
                entries[(kind, name)]["id"] = next(free)

    def _check_keys(self, entries: Mapping[Key, Entry]) -> None:
        holders: dict[str, str] = {}
        for (kind, name), entry in sorted(entries.items()):
            key = entry.get("public_key")
            if not key or entry.get("released"):
                continue
            if key in holders:
                self.problems.append(f"{kind} {name} and {holders[key]} have the same public key {key}")
            holders[key] = f"{kind} {name}"

    # -- the result ---------------------------------------------------------------------------------------------------

    def _describe(
        self,
        clients: Mapping[str, Entry],
        underlay: Mapping[str, Entry | None],
        balancers: Mapping[str, Entry | None],
        entries: Mapping[Key, Entry],
    ) -> dict[str, Any]:
        sites = [str(network) for _text, network in self._sites(clients)]
        families = self._families(underlay, balancers, sites)
        self._stop_on_problems()
        routed = [*self.settings["client_networks"], *sites] if self.settings["return_path"] == "routed" else []

        def mesh_member(name: str) -> Entry:
            mesh = entries[("mesh", name)]
            return {"mesh_addresses": mesh["addresses"], "mesh_public_key": mesh.get("public_key")}

        def member(kind: str, name: str) -> Entry:
            entry = entries[(kind, name)]
            return {"addresses": entry["addresses"], **mesh_member(name), **entry["underlay"]}

        lbs = {
            n: {
                **member("probe", n),
                "probe_public_key": entries[("probe", n)].get("public_key"),
                "steered": [self._steered(n, family, balancers, routed) for family in families],
                "vips": self.vips.at(sides),
            }
            for n, sides in balancers.items()
            if sides
        }
        # What nodes answer through: the address that balancers share, or the only balancer's.
        gateway = {
            f: self.vips.backend(f) or lb["backend"][f]["address"] for lb in [*lbs.values()][:1] for f in families
        }
        nodes = {
            n: {
                **member("node", n),
                "id": entries[("node", n)]["id"],
                "return_routes": []
                if self._translates
                else [_return_route(f, sides["backend"], via) for f, via in gateway.items()],
                "client_routes": [_client_route(text, sides["backend"], gateway) for text in routed if gateway],
            }
            for n, sides in underlay.items()
            if sides
        }
        now = self._now_seconds()
        served = {n: c for n, c in sorted(clients.items()) if c["public_key"]}
        rules = access.describe(
            self.settings["access"],
            self.settings["access_default"],
            {
                n: {
                    "groups": c["groups"],
                    "prefixes": [
                        *map(host_prefix, entries[("client", n)]["addresses"] if n in served else []),
                        *c["networks"],
                    ],
                }
                for n, c in clients.items()
            },
            self._reachable(clients),
        )
        self.warnings += rules.pop("warnings")
        return {
            "families": families,
            # A monitor may be anywhere.
            "mesh_sources": {}
            if self.settings["monitors"]
            else {f: self._mesh_sources(f, [*nodes.values(), *lbs.values()]) for f in families},
            # Whom nodes know clients by, and nobody else.
            "snat_sources": {f: self._snat_sources(f, lbs) for f in families} if self._translates else {},
            "nodes": nodes,
            "balancers": lbs,
            "sites": sites,
            "access": rules,
            "monitors": {n: mesh_member(n) for n in self.settings["monitors"]},
            "clients": {
                n: {
                    "addresses": entries[("client", n)]["addresses"],
                    "public_key": c["public_key"],
                    "preshared": c["preshared"],
                    **({"psk_mask": c["psk_mask"]} if c["psk_mask"] else {}),
                    **{k: v for k, v in entries[("client", n)].items() if k == "psk_renewals"},
                    "networks": c["networks"],
                    "suspended": c["suspended"],
                    "expires": c["expires"],
                    "expired": c["expires"] is not None and c["expires"] <= now,
                }
                for n, c in served.items()
            },
            "pending": sorted(
                [n for n, c in clients.items() if not c["public_key"]]
                + [n for n, sides in (*underlay.items(), *balancers.items()) if not sides]
                + [n for n in self.settings["monitors"] if not entries[("mesh", n)].get("public_key")]
            ),
            "usage": usage(
                [str(n) for variable in ("client_networks", "mesh_networks") for n in self.settings[variable]],
                [str(r) for r in self.settings["reserved_addresses"]],
                entries.values(),
            ),
            "ledger": [entries[key] for key in sorted(entries)],
            "warnings": self.warnings,
        }

    def _mesh_sources(self, family: str, members: Iterable[Mapping[str, Any]]) -> list[str]:
        """Where hosts of the mesh send from: the active balancer may take the address that balancers share."""
        shared = self.vips.backend(family)
        return sorted({member["backend"][family]["address"] for member in members} | ({shared} if shared else set()))

    def _snat_sources(self, family: str, balancers: Mapping[str, Entry]) -> list[str]:
        """Where balancers send to nodes from: clients' packets, and their own probes."""
        steered = [side for balancer in balancers.values() for side in balancer["steered"] if side["family"] == family]
        sources = {address for side in steered for address in side["snat_addresses"]}
        return sorted(sources.union(self._mesh_sources(family, balancers.values())))

    def _snat_addresses(self, sides: Entry, family: str) -> list[str]:
        """Where a balancer sends clients' packets to nodes from; none where they keep their own addresses.

        By itself from an address that moves to whichever balancer takes over: then nodes see no difference. What an
        operator moves by his own means may be a router's.
        """
        if not self._translates:
            return []
        chosen = [address for address in sides.get("snat", []) if _family(address) == family]
        shared = self.vips.backend(family) if self.vips.mode == "vrrp" else None
        return chosen or [shared or sides["backend"][family]["address"]]

    def _steered(self, name: str, family: str, balancers: Mapping[str, Entry | None], routed: Iterable[str]) -> Entry:
        """What the steering table of a balancer has to know of one family.

        `peers`: the other balancers' own addresses, which get copies of what nodes teach. `routed`:
        networks of clients, or none. `snat_addresses`: those that nodes know clients by, or none.
        """
        sides = balancers[name]
        if not sides:
            raise AssertionError(f"{name} has no addresses yet")
        return {
            "family": family,
            "public_address": self.vips.public(family) or sides["public"][family]["address"],
            "public_interface": sides["public"][family]["interface"],
            "backend_interface": sides["backend"][family]["interface"],
            "client_networks": [network for network in routed if _family(network) == family],
            "peers": [o["backend"][family]["address"] for n, o in sorted(balancers.items()) if o and n != name],
            "snat_addresses": self._snat_addresses(sides, family),
        }


def _return_route(family: str, backend: Mapping[str, Any], via: str) -> Entry:
    """How a node's encrypted packets get back to clients: through the balancer; the backend network stays on-link."""
    return {
        "family": FAMILIES[family],
        "device": backend[family]["interface"],
        "network": backend[family]["network"],
        "via": via,
    }


def _family(network: str) -> str:
    return "ip6" if ":" in network else "ip"


def _client_route(network: str, backend: Mapping[str, Any], gateway: Mapping[str, str]) -> Entry:
    """In routed mode, how a node reaches clients that it does not have: the balancer knows their node."""
    family = _family(network)
    return {"network": network, "device": backend[family]["interface"], "via": gateway[family]}


def _shorten(names: Sequence[str], most: int = 20) -> str:
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"
