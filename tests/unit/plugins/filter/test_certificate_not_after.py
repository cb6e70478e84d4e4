# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wirefleet.vpn.plugins.filter import certificate_not_after as module
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

certificate_not_after = module.FilterModule().filters()["certificate_not_after"]

END = datetime(2027, 1, 31, 18, tzinfo=timezone.utc)
KEY = Ed25519PrivateKey.generate()
KEY_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def certificate(end: datetime) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vpn.example.com")])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, end - timedelta(days=90), end)
    return builder.sign(KEY, None).public_bytes(Encoding.PEM).decode()


OWN, AUTHORITY = certificate(END), certificate(END + timedelta(days=1000))


@pytest.mark.parametrize("pem", [OWN, OWN + AUTHORITY + KEY_PEM, KEY_PEM + OWN + AUTHORITY])
def test_the_first_certificate_counts(pem: str) -> None:
    assert certificate_not_after(pem) == END.timestamp()


@pytest.mark.parametrize("pem", ["", KEY_PEM, OWN.replace("M", "-"), OWN[:200]])
def test_what_is_no_certificate_is_refused_and_not_shown(pem: str) -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"^certificate_not_after: the certificate can not be read: "
    ) as caught:
        certificate_not_after(pem)
    assert not any(line in str(caught.value) for line in pem.splitlines()[1:])


def test_the_library_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "x509", None)
    with pytest.raises(AnsibleFilterError, match="has no library cryptography"):
        certificate_not_after(OWN)
