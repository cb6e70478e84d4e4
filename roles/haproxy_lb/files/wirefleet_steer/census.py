# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Walk a large map of the steering table, and count what it holds, per mark.

Asking nft would build a JSON document of every element, minutes and gigabytes at a million of them. Here the kernel's
own messages are walked as they come (linux/netfilter/nf_tables.h), some 300,000 elements in a second.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator

from wirefleet.nft import NETLINK_NETFILTER

NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_GETSETELEM = 13
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA = 1, 2
NFTA_DATA_VALUE = 1
PROTOCOLS = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}
ATTRIBUTE = struct.Struct("=HH")  # length with this header, type
MESSAGE = struct.Struct("=IHHII")  # length with this header, type, flags, sequence, port
NFGEN = 4  # bytes of struct nfgenmsg after the message's header
TYPE_MASK = 0x3FFF  # the two bits above are flags


def census(family: str, table: str, name: str) -> Counter[int]:
    """Return mark -> number of elements; those of a set count as mark 0. Raises OSError when there is no such map."""
    return Counter(int.from_bytes(value, sys.byteorder) for _key, value in walk(family, table, name))


def walk(family: str, table: str, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each element as the kernel holds them: parts of a key are padded to four bytes each.

    A set's elements have empty values. Raises OSError when there is no such map.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as sock:
        sock.settimeout(5.0)
        sock.sendall(_request(family, table, name))
        while True:
            for kind, body in _messages(sock.recv(1 << 17)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, f"{os.strerror(code)}: {family} {table} {name}")
                yield from _elements(body[NFGEN:])


def _request(family: str, table: str, name: str) -> bytes:
    body = struct.pack(">BBH", PROTOCOLS[family], 0, 0)
    body += _attribute(NFTA_SET_ELEM_LIST_TABLE, table) + _attribute(NFTA_SET_ELEM_LIST_SET, name)
    kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM
    return MESSAGE.pack(MESSAGE.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body


def _attribute(kind: int, text: str) -> bytes:
    value = text.encode() + b"\0"
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(data):
        length, kind, *_rest = MESSAGE.unpack_from(data, offset)
        yield kind, data[offset + MESSAGE.size : offset + length]
        offset += length + -length % 4


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        yield kind & TYPE_MASK, data[offset + ATTRIBUTE.size : offset + length]
        offset += length + -length % 4


def _elements(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    for kind, elements in _attributes(body):
        if kind == NFTA_SET_ELEM_LIST_ELEMENTS:
            for _kind, element in _attributes(elements):
                parts = dict(_attributes(element))
                key, data = (
                    dict(_attributes(parts.get(part, b""))) for part in (NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA)
                )
                yield key.get(NFTA_DATA_VALUE, b""), data.get(NFTA_DATA_VALUE, b"")
