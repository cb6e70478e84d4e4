# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""WireGuard keys: 32 bytes, written as 44 characters of base64.

No error raised here carries key material: what a caller shows of it is safe to show.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
import shutil
import subprocess
from collections.abc import Callable

KEY_BYTES = 32
KEY_CHARACTERS = 44

Derive = Callable[[str], str]
"""Private key to public key, both base64 in canonical form."""


class KeyFormatError(ValueError):
    """The text is not a WireGuard key. The message says why, and never what the text was."""


class BackendError(RuntimeError):
    """Nothing on this host can compute a public key, or what can has failed."""


def validate_key(text: str) -> str:
    """Return the key in canonical base64, without the white space around it (`wg genkey` ends its line)."""
    key = text.strip()
    if len(key) != KEY_CHARACTERS:
        raise KeyFormatError(f"a WireGuard key has {KEY_CHARACTERS} characters, this text has {len(key)}")
    raw = _decode(key)
    if len(raw) != KEY_BYTES:
        raise KeyFormatError(f"a WireGuard key has {KEY_BYTES} bytes, this text encodes {len(raw)}")
    # wg(8) refuses a last character whose two unused bits are set, which Python's decoder lets pass.
    if _encode(raw) != key:
        raise KeyFormatError("not canonical base64: unused bits of the last character are set")
    if not any(raw):
        raise KeyFormatError("all bytes are zero, which WireGuard takes for 'no key'")
    return key


def generate_private_key() -> str:
    """A fresh X25519 private key, clamped (RFC 7748, section 5) as `wg genkey` does."""
    raw = bytearray(os.urandom(KEY_BYTES))
    raw[0] &= 0b1111_1000
    raw[31] = (raw[31] & 0b0111_1111) | 0b0100_0000
    return _encode(bytes(raw))


def generate_preshared_key() -> str:
    """32 random bytes. Not a private key: clamping would fix five of the bits."""
    return _encode(os.urandom(KEY_BYTES))


def public_key(private_b64: str) -> str:
    """The public key of a private key. Raises KeyFormatError, or BackendError where none can compute it."""
    return find_backend()(validate_key(private_b64))


@functools.lru_cache(maxsize=1)
def find_backend() -> Derive:
    """The fastest way to compute public keys that works on this host."""
    derive = cryptography_backend() or wg_backend()
    if derive is None:
        raise BackendError(
            "public keys need the Python library 'cryptography' (with X25519) or the command 'wg' "
            "(package wireguard-tools) on this host; neither was found"
        )
    return derive


def cryptography_backend() -> Derive | None:
    """In process, some 50 microseconds a key. None where the library or, as under FIPS, its X25519 is missing."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    except ImportError:
        return None

    def derive(private_b64: str) -> str:
        private = X25519PrivateKey.from_private_bytes(base64.b64decode(private_b64))
        return _encode(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    try:
        derive(generate_private_key())
    except UnsupportedAlgorithm:
        return None
    return derive


def wg_backend() -> Derive | None:
    """One `wg pubkey` per key, a few milliseconds each. The key goes through stdin: argv is public."""
    # sbin is not on every remote user's PATH.
    wg = shutil.which("wg", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if wg is None:
        return None

    def derive(private_b64: str) -> str:
        try:
            done = subprocess.run(
                [wg, "pubkey"], input=private_b64 + "\n", capture_output=True, text=True, timeout=10, check=True
            )
            return validate_key(done.stdout)
        except (OSError, subprocess.SubprocessError, KeyFormatError) as error:
            raise BackendError(f"'{wg} pubkey' gave no public key: {error}") from None

    return derive


def _decode(key: str) -> bytes:
    try:
        return base64.b64decode(key.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        # UnicodeEncodeError holds the whole text: it must not travel along, not even as a cause.
        error = KeyFormatError("not base64")
    raise error


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
