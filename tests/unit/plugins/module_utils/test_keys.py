# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import base64
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils import _keys
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import (
    BackendError,
    Derive,
    KeyFormatError,
    cryptography_backend,
    find_backend,
    generate_preshared_key,
    generate_private_key,
    public_key,
    validate_key,
    wg_backend,
)
from hypothesis import given, settings
from hypothesis import strategies as st

X25519 = "cryptography.hazmat.primitives.asymmetric.x25519"
WG = shutil.which("wg")

needs_cryptography = pytest.mark.skipif(cryptography_backend() is None, reason="needs cryptography")
needs_wg = pytest.mark.skipif(WG is None, reason="needs wireguard-tools")

BACKENDS = [
    pytest.param(cryptography_backend, id="cryptography", marks=needs_cryptography),
    pytest.param(wg_backend, id="wg", marks=needs_wg),
]


def encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.fixture(autouse=True)
def _fresh_choice() -> Iterator[None]:
    find_backend.cache_clear()
    yield
    find_backend.cache_clear()


@pytest.fixture
def without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, X25519, None)


@pytest.fixture
def fake_wg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `wg` on the PATH whose script the test writes."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    script = tmp_path / "wg"
    script.touch(0o755)
    return script


def backend(find: object) -> Derive:
    assert callable(find)
    derive = find()
    assert derive is not None
    return derive


# RFC 7748, section 6.1
@pytest.mark.parametrize("find", BACKENDS)
@pytest.mark.parametrize(
    ("private", "public"),
    [
        (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        ),
        (
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        ),
    ],
    ids=["alice", "bob"],
)
def test_public_keys_of_the_rfc(find: object, private: str, public: str) -> None:
    assert backend(find)(encode(bytes.fromhex(private))) == encode(bytes.fromhex(public))


@needs_cryptography
@needs_wg
@settings(max_examples=40)
@given(st.binary(min_size=32, max_size=32).filter(any))
def test_backends_agree_on_any_private_key(raw: bytes) -> None:
    assert backend(cryptography_backend)(encode(raw)) == backend(wg_backend)(encode(raw))


def test_private_keys_are_clamped_and_differ() -> None:
    keys = [base64.b64decode(generate_private_key()) for _ in range(50)]
    assert all(len(key) == 32 and key[0] & 7 == 0 and key[31] >> 6 == 1 for key in keys)
    assert len(set(keys)) == 50


def test_preshared_keys_are_random_in_every_bit() -> None:
    keys = [base64.b64decode(generate_preshared_key()) for _ in range(200)]
    seen_set = seen_clear = 0
    for key in keys:
        number = int.from_bytes(key, "little")
        seen_set |= number
        seen_clear |= ~number
    every_bit = 2**256 - 1
    assert seen_set == every_bit
    assert seen_clear & every_bit == every_bit


def test_public_key_accepts_a_line_of_wg_genkey() -> None:
    private = generate_private_key()
    assert public_key(f"{private}\n") == public_key(private)


def test_validate_key_returns_the_bare_key() -> None:
    key = generate_private_key()
    assert validate_key(f" \t{key}\r\n") == key


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0"),
        ("A" * 42 + "E=" + "A" * 4, "has 48"),
        ("0123456789abcdef" * 4, "has 64"),
        ("!" * 44, "not base64"),
        ("é" * 44, "not base64"),
        ("\x00" * 44, "not base64"),
        ("yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBm-=", "not base64"),
        ("=" * 44, "not base64"),
        (encode(b"\x01" * 31), "encodes 31"),
        (encode(b"\x01" * 33), "encodes 33"),
        ("yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBml=", "not canonical"),
        (encode(bytes(32)), "zero"),
    ],
)
def test_what_is_not_a_key_is_refused(text: str, reason: str) -> None:
    with pytest.raises(KeyFormatError, match=reason):
        validate_key(text)


@given(st.text(min_size=16, max_size=60) | st.text("ABCabc123+/", min_size=44, max_size=44))
def test_errors_do_not_repeat_the_text(text: str) -> None:
    with pytest.raises(KeyFormatError) as caught:
        validate_key(text)
    assert text not in str(caught.value)
    # A cause is printed with the traceback; UnicodeEncodeError would carry the text.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@needs_wg
@pytest.mark.usefixtures("without_cryptography")
def test_wg_serves_where_cryptography_is_missing() -> None:
    assert cryptography_backend() is None
    assert public_key("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=") == "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="


@needs_cryptography
def test_cryptography_without_x25519_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    def refuse(_raw: bytes) -> None:
        raise UnsupportedAlgorithm("X25519 is not supported by this version of OpenSSL.")

    monkeypatch.setattr(X25519PrivateKey, "from_private_bytes", refuse)
    assert cryptography_backend() is None


@pytest.mark.usefixtures("without_cryptography")
def test_without_any_backend_the_error_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_keys.shutil, "which", lambda *_args, **_options: None)
    with pytest.raises(BackendError, match=r"cryptography.*wireguard-tools"):
        public_key(generate_private_key())


@needs_wg
def test_wg_gets_the_key_through_stdin_only(fake_wg: Path) -> None:
    fake_wg.write_text(f'#!/bin/sh\necho "$@" > {fake_wg}.argv\nenv > {fake_wg}.env\nexec {WG} "$@"\n')
    private = generate_private_key()
    backend(wg_backend)(private)
    assert Path(f"{fake_wg}.argv").read_text() == "pubkey\n"
    assert private not in Path(f"{fake_wg}.env").read_text()


@pytest.mark.parametrize(
    "script",
    ["exit 1", "echo nonsense", "read key; echo $key$key", "kill $$"],
    ids=["fails", "says nonsense", "repeats the key", "dies"],
)
def test_a_broken_wg_is_an_error_without_the_key(fake_wg: Path, script: str) -> None:
    fake_wg.write_text(f"#!/bin/sh\n{script}\n")
    private = generate_private_key()
    with pytest.raises(BackendError, match=str(fake_wg)) as caught:
        backend(wg_backend)(private)
    assert private not in str(caught.value)
