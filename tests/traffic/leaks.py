# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves a host around its tunnel, as seen from outside: on the lab's bridges."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from types import TracebackType

from .hosts import Lab, labs

TABLE = "wirefleet_leaks"
RULES = """\
table bridge {table} {{
  set leaked4 {{ type ipv4_addr . inet_proto; flags dynamic; size 1024; }}
  set leaked6 {{ type ipv6_addr . inet_proto; flags dynamic; size 1024; }}
  chain prerouting {{
    type filter hook prerouting priority filter;
    ether saddr != {{ {cards} }} accept
    ether type arp accept
    icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept
    icmpv6 type {{ mld-listener-report, mld2-listener-report }} accept
    {expected}
    update @leaked4 {{ ip daddr . ip protocol }}
    update @leaked6 {{ ip6 daddr . meta l4proto }}
  }}
}}
"""


class Leaks:
    """Where a host sends to while a `with` block lasts, but for what matches one of ``expected``, in nft's words."""

    def __init__(self, lab: Lab, host: str, networks: Iterable[str], expected: Iterable[str]) -> None:
        described = labs.load(lab.name)
        self._fabric = described.fabric
        cards = ", ".join(labs.mac(described.host(host), network) for network in networks)
        accepted = "\n    ".join(f"{match} accept" for match in expected)
        self._rules = RULES.format(table=TABLE, cards=cards, expected=accepted)

    def __enter__(self) -> Leaks:
        self._nft("--file", "-", stdin=self._rules)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._nft("delete", "table", "bridge", TABLE)

    def seen(self) -> list[str]:
        """Destinations so far, each with its protocol."""
        found = []
        for name in ("leaked4", "leaked6"):
            listed = json.loads(self._nft("--json", "list", "set", "bridge", TABLE, name))
            elements = next(item["set"] for item in listed["nftables"] if "set" in item).get("elem", [])
            found += [" ".join(map(str, element["concat"])) for element in elements]
        return sorted(found)

    def _nft(self, *arguments: str, stdin: str = "") -> str:
        command = ["ip", "netns", "exec", self._fabric, "nft", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout
