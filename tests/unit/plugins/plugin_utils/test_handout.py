# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import dataclasses
import html
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_config import parse
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._handout import (
    Device,
    Page,
    QrCode,
    Service,
    configuration,
)

REPOSITORY = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(REPOSITORY / "tests"))
from traffic.qr import decoded  # noqa: E402

TEMPLATE = (REPOSITORY / "roles/vpn_cluster/templates/handout.html.j2").read_text()
PRIVATE = "kCJOdyRcdzJYIKjHhbdRBl4rAMnMdJ9rGnSfQVZzoWo="
PUBLIC = "wD8mWjHnVd1sIuDJXRvSkhgPsd2ehLPkMR9wGwKkFlc="
SHARED = "8W3DSpjZQrzOc3DtvV7iK0HeJTQ7wZ1KUI/Id6uEsWo="
SERVICE = Service(public_key=PUBLIC, endpoint="[2001:db8::10]:51820", mtu=1420, tunnel="vpn")
ALICE = Device(
    name="alice-phone",
    owner="Alice <script>alert(1)</script>",
    addresses=["10.80.0.7", "fd00:80::7"],
    public_key=PUBLIC,
    own_key=False,
    preshared_key=SHARED,
    routes=["10.20.0.0/16", "fd00:20::/48"],
    dns=["10.20.0.53", "corp.example"],
)


def test_the_configuration_says_it_all() -> None:
    assert configuration(ALICE, SERVICE, PRIVATE) == (
        f"[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.80.0.7/32, fd00:80::7/128\n"
        "DNS = 10.20.0.53, corp.example\nMTU = 1420\n\n"
        f"[Peer]\nPublicKey = {PUBLIC}\nPresharedKey = {SHARED}\nAllowedIPs = 10.20.0.0/16, fd00:20::/48\n"
        "Endpoint = [2001:db8::10]:51820\nPersistentKeepalive = 25\n"
    )


@pytest.mark.parametrize("changes", [{}, {"preshared_key": None, "dns": []}, {"routes": ["0.0.0.0/0", "::/0"]}])
def test_wg_quick_reads_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    device = dataclasses.replace(ALICE, **changes)
    path = tmp_path / "vpn.conf"
    path.write_text(configuration(device, SERVICE, PRIVATE))
    path.chmod(0o600)
    stripped = subprocess.run(["wg-quick", "strip", path], check=True, capture_output=True, text=True).stdout
    [peer] = parse(stripped).device.peers.values()
    assert (peer.public_key, peer.preshared_key) == (PUBLIC, device.preshared_key or "")
    assert peer.allowed_ips == frozenset(device.routes)
    assert parse(path.read_text()).addresses == ("10.80.0.7/32", "fd00:80::7/128")


def test_who_brings_a_key_puts_it_in() -> None:
    text = configuration(ALICE, SERVICE, None)
    assert "\n# PrivateKey = (" in text
    assert parse(text.replace("# PrivateKey = (the one that was made on the device)", f"PrivateKey = {PRIVATE}"))


def test_a_camera_reads_the_code() -> None:
    text = configuration(ALICE, SERVICE, PRIVATE)
    code = QrCode(text)
    assert decoded(code.png()) == text
    # The same modules, as one path of strokes, and as blocks on a terminal.
    root = ElementTree.fromstring(code.svg())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "viewBox" in root.attrib
    assert len(code.terminal().splitlines()) > 20


class Tags(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page(device: Device, private: str | None) -> str:
    text = configuration(device, SERVICE, private)
    svg = QrCode(text).svg() if private else None
    return Page(TEMPLATE).render(device, SERVICE, text, svg).decode()


def test_the_page_needs_no_other_file_and_runs_no_script() -> None:
    tags = Tags(page(ALICE, PRIVATE))
    assert all(link.startswith("data:") for link in tags.links)
    assert "script" not in tags.tags
    assert "Alice <script>alert(1)</script>" in tags.text


def test_the_page_has_code_configuration_and_every_platform() -> None:
    shown = page(ALICE, PRIVATE)
    assert "<svg" in shown
    assert "<?xml" not in shown
    assert html.escape(configuration(ALICE, SERVICE, PRIVATE)) in shown
    for platform in ("iPhone", "Android", "Windows", "macOS", "Linux"):
        assert platform in shown
    assert "This page is a key." in shown


def test_the_page_of_a_device_with_its_own_key_is_no_secret() -> None:
    shown = page(dataclasses.replace(ALICE, own_key=True), None)
    assert "<svg" not in shown
    assert "QR code" not in shown
    assert "This page is a key." not in shown
    assert "# PrivateKey" in shown
