# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What a person gets for a device: configuration, QR code, and a page that says what to do with them. Pure."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import jinja2
import markupsafe
from ansible_collections.wirefleet.vpn.plugins.module_utils._peers import MESH_KEEPALIVE, host_prefix

try:
    import segno
except ImportError:
    HAS_SEGNO = False
else:
    HAS_SEGNO = True

PIXELS = 6  # of a module of the PNG: a phone reads it from a screen at arm's length
MARGIN = 4  # modules, the quiet zone that ISO/IEC 18004 asks for


@dataclass(frozen=True)
class Service:
    """What all devices have in common. `endpoint`: ADDRESS:PORT; `tunnel`: its name on the devices."""

    public_key: str
    endpoint: str
    mtu: int
    tunnel: str


@dataclass(frozen=True)
class Device:
    """One device. One that brings its own key pair gets a configuration without a private key."""

    name: str
    owner: str
    addresses: Sequence[str]
    public_key: str
    own_key: bool
    preshared_key: str | None = field(repr=False)
    routes: Sequence[str]
    dns: Sequence[str]


def configuration(device: Device, service: Service, private_key: str | None) -> str:
    """The wg-quick file, without comments where it has a private key: every byte makes the QR code denser."""
    lines = ["[Interface]"]
    lines.append(
        f"PrivateKey = {private_key}" if private_key else "# PrivateKey = (the one that was made on the device)"
    )
    lines.append(f"Address = {', '.join(map(host_prefix, device.addresses))}")
    if device.dns:
        lines.append(f"DNS = {', '.join(device.dns)}")
    lines += [f"MTU = {service.mtu}", "", "[Peer]", f"PublicKey = {service.public_key}"]
    if device.preshared_key:
        lines.append(f"PresharedKey = {device.preshared_key}")
    lines.append(f"AllowedIPs = {', '.join(device.routes)}")
    lines.append(f"Endpoint = {service.endpoint}")
    # Phones sit behind address translators that forget a silent client within half a minute.
    lines.append(f"PersistentKeepalive = {MESH_KEEPALIVE}")
    return "\n".join(lines) + "\n"


class QrCode:
    """A text as a QR code. Least redundancy, for it is shown on clean screens and paper: fewer, larger modules."""

    def __init__(self, text: str) -> None:
        self._code = segno.make(text, error="l", micro=False, boost_error=False)

    def png(self) -> bytes:
        out = io.BytesIO()
        self._code.save(out, kind="png", scale=PIXELS, border=MARGIN)
        return out.getvalue()

    def svg(self) -> bytes:
        out = io.BytesIO()
        # With a size in the view box only, it fits into whatever shows it.
        self._code.save(out, kind="svg", border=MARGIN, omitsize=True, light="#fff", nl=False)
        return out.getvalue()

    def terminal(self) -> str:
        out = io.StringIO()
        self._code.terminal(out, compact=True, border=MARGIN)
        return out.getvalue()


class Page:
    """The page of a hand-out, from a template of Jinja."""

    def __init__(self, template: str) -> None:
        self.text = template

    @functools.cached_property
    def _template(self) -> jinja2.Template:
        environment = jinja2.Environment(
            autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        return environment.from_string(self.text)

    def render(self, device: Device, service: Service, text: str, svg: bytes | None) -> bytes:
        """`text`: the configuration; `svg`: its QR code as an SVG document, None where there is none."""
        # Made here, and so not to be escaped; the XML declaration belongs to documents only.
        inline = markupsafe.Markup(svg.decode().partition("?>")[2]) if svg else None
        download = f"data:application/octet-stream;base64,{base64.b64encode(text.encode()).decode()}"
        rendered = self._template.render(
            device=device, service=service, configuration=text, qr_code=inline, download=download
        )
        return rendered.encode()
