# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that look like WireGuard's; sizes and first bytes are those of the kernel's wireguard/messages.h."""

from __future__ import annotations

import base64
from hashlib import blake2s


def initiation(public_key: str) -> bytes:
    """A handshake's first message with a first MAC that is right, as anybody can make it, and nothing else."""
    message = bytes([1, 0, 0, 0]) + b"\xab" * 112
    key = blake2s(b"mac1----" + base64.b64decode(public_key)).digest()
    return message + blake2s(message, key=key, digest_size=16).digest() + bytes(16)


# What is no message: an initiation whose MAC is wrong, the other kinds with indices that nobody has, and nonsense.
UNSIGNED = b"\1\0\0\0" + b"\xab" * 144
UNKNOWN = [b"\2\0\0\0" + b"\xab" * 88, b"\3\0\0\0" + b"\xab" * 60, b"\4\0\0\0" + b"\xab" * 28]
TRUNCATED = [
    b"",
    b"\1",
    b"\1\0\0",
    b"\4\0\0\0",
    b"\4\0\0\0" + b"\xab" * 27,
    *(message[:-1] for message in (UNSIGNED, *UNKNOWN)),
]
OVERSIZE = [b"\1\0\0\0" + b"\xab" * 145, b"\2\0\0\0" + b"\xab" * 1400, b"\3\0\0\0" + b"\xab" * 1400, b"\xff" * 1472]
