# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Where a client is, as WireGuard writes it: ADDRESS:PORT.

What one host says of endpoints becomes commands on another. ``ip_address`` is no guard there: the zone of an IPv6
address (``fe80::1%ZONE``) may be any text, line breaks included.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

_ENDPOINT = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[1-9][0-9]{0,4})", re.ASCII)


def address_of(endpoint: object) -> IPv4Address | IPv6Address:
    """Raise a ValueError unless this is an address without a zone, and a port."""
    found = _ENDPOINT.fullmatch(endpoint) if isinstance(endpoint, str) else None
    if not found or int(found["port"]) > 65535:
        raise ValueError(f"not ADDRESS:PORT: {endpoint!r:.80}")
    address = ip_address(found["v6"] or found["v4"])
    if found["v6"] and address.version == 4:
        raise ValueError(f"not ADDRESS:PORT: {endpoint!r:.80}")
    return address
