# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Filter certificate_not_after: until when a certificate is valid."""

from __future__ import annotations

DOCUMENTATION = r"""
name: certificate_not_after
author:
  - Wirefleet contributors (@wirefleet)
version_added: 0.1.0
short_description: Tell until when a certificate is valid
description:
  - Takes the first certificate of a PEM file, which is the server's own. Its chain and its key may be there, too.
requirements:
  - cryptography (Python library, on the controller)
options:
  _input:
    description: The file's text.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show for how many days the certificate is valid
  ansible.builtin.debug:
    msg: "{{ ((lookup('ansible.builtin.file', 'tls.pem') | wirefleet.vpn.certificate_not_after)
      - now().timestamp()) // 86400 }}"
"""

RETURN = r"""
_value:
  description: Seconds since the epoch.
  type: int
"""

from datetime import timezone
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from cryptography import x509
except ImportError:  # an error only once the library is needed
    x509 = None  # type: ignore[assignment]


def certificate_not_after(pem: str) -> int:
    """See DOCUMENTATION."""
    if x509 is None:
        raise AnsibleFilterError(
            "certificate_not_after: the controller's Python has no library cryptography (pip install cryptography)"
        )
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise AnsibleFilterError(f"certificate_not_after: the certificate can not be read: {error}") from None
    if hasattr(certificate, "not_valid_after_utc"):
        return int(certificate.not_valid_after_utc.timestamp())
    return int(certificate.not_valid_after.replace(tzinfo=timezone.utc).timestamp())  # cryptography before 42


class FilterModule:
    """Filter of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"certificate_not_after": certificate_not_after}
