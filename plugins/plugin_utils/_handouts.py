# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The directory of hand-outs: one directory for each device, and a record of what was written there.

The record (`.written.json`) has no secrets, only digests: it tells a hand-out that is as it should be without making
ten thousand QR codes again, and one that has been delivered, and taken away, from one that was never there.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import public_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_config import ConfigError, parse
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._device_keys import DeviceKeys
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._handout import Device, Page, QrCode, Service, configuration
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._secret_files import SecretFileError, SecretFiles

RECORD = ".written.json"
SUFFIXES = CONF, PNG, SVG, HTML = ".conf", ".png", ".svg", ".html"


@dataclass
class Outcome:
    """Names of devices: `written` now, `removed`, and `outdated`: handed out with what no longer is so."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)


class Handouts:
    """Brings the directory into the state that the devices ask for, and writes only what differs."""

    def __init__(
        self, directory: Path, files: SecretFiles, keys: DeviceKeys, service: Service, page: Page, keep_keys: bool
    ) -> None:
        self.directory = directory
        self._files, self._keys, self._service, self._page, self._keep = files, keys, service, page, keep_keys
        # The record and .gitignore are to be read by anybody who may enter the directory.
        self._plain = SecretFiles("", None)
        self._records: dict[str, dict[str, str]] = json.loads(self._plain.read(directory / RECORD) or b"{}")

    def write(self, devices: Sequence[Device], only: Sequence[str], check: bool) -> Outcome:
        """Write the hand-outs that are missing or differ; those of `only` also if they were delivered already.

        Raises SecretFileError for one of `only` that can not be made any more.
        """
        outcome = Outcome()
        if not check:
            self._ignore()
        try:
            for device in devices:
                self._write(device, device.name in only, check, outcome)
        finally:
            if outcome.written and not check:
                self._record()
        return outcome

    def _write(self, device: Device, asked: bool, check: bool, outcome: Outcome) -> None:
        digests, record = self._digests(device), self._records.get(device.name, {})
        if digests == {key: record.get(key) for key in digests}:
            there = {suffix for suffix in SUFFIXES if self._path(device.name, suffix).exists()}
            delivered = CONF not in there and not asked
            if delivered or there.issuperset(self._suffixes(device)):
                return
        private = None if device.own_key else self._private_key(device)
        if private is None and not device.own_key:
            if asked:
                raise SecretFileError(
                    f"{device.name}: was handed out {self._when(record)}, and its private key is not kept."
                    f" Make a new key pair with -e client={device.name} -e vpn_handout_rekey=true, which ends the"
                    " sessions of the old one"
                )
            if record and record["conf"] != digests["conf"]:
                outcome.outdated.append(device.name)
            return
        if not check:
            self._write_files(device, private)
            if private:
                self._keys.settle(device.name, private, self._keep)
            today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
            self._records[device.name] = {**digests, "written": today}
        outcome.written.append(device.name)

    def clear(self, known: Iterable[str], check: bool) -> list[str]:
        """Remove the hand-outs of devices that are clients no more; return their names."""
        gone = sorted(self._records.keys() - set(known))
        if gone and not check:
            for name in gone:
                self._remove(self._files_of(name))
                if (self.directory / name).is_dir() and not any((self.directory / name).iterdir()):
                    (self.directory / name).rmdir()
                del self._records[name]
            self._record()
        return gone

    def qr_code(self, name: str) -> QrCode | None:
        """The QR code of a hand-out that is there, None where it has no private key."""
        text = self._files.read(self._path(name, CONF))
        return QrCode(text.decode()) if text and b"\nPrivateKey" in text else None

    def _path(self, name: str, suffix: str) -> Path:
        return self.directory / name / f"{self._service.tunnel}{suffix}"

    def _files_of(self, name: str) -> list[Path]:
        """The files of a hand-out, also those of a tunnel that had another name, and what a killed run left of one."""
        return [path for path in (self.directory / name).glob("*") if path.suffix in SUFFIXES]

    def _suffixes(self, device: Device) -> tuple[str, ...]:
        # A QR code without a private key is of no use to a phone.
        return (CONF, HTML) if device.own_key else (CONF, HTML, PNG, SVG)

    def _digests(self, device: Device) -> dict[str, str]:
        """Of whatever goes into the files but the private key, for which the public one stands."""
        conf = configuration(device, self._service, device.public_key)
        page = [conf, self._page.text, device.name, device.owner, self._service.tunnel, device.own_key]
        return {"conf": _digest(conf), "page": _digest(page), "encrypted": str(self._files.encrypts)}

    def _private_key(self, device: Device) -> str | None:
        """From where it was made or kept, else from the hand-out itself, if that has not been taken away."""
        private = self._keys.find(device.name, device.public_key)
        if private is not None:
            return private
        for path in self._files_of(device.name):
            text = self._files.read(path) if path.suffix == CONF else None
            with contextlib.suppress(ConfigError):
                private = parse((text or b"").decode("utf-8", "replace")).device.private_key
                if public_key(private) == device.public_key:
                    return private
        return None

    def _write_files(self, device: Device, private: str | None) -> None:
        text = configuration(device, self._service, private)
        code = QrCode(text) if private else None
        svg = code.svg() if code else None
        contents = {CONF: text.encode(), HTML: self._page.render(device, self._service, text, svg)}
        if code and svg:
            contents |= {PNG: code.png(), SVG: svg}
        written = {self._path(device.name, suffix): content for suffix, content in contents.items()}
        for path, content in written.items():
            self._files.write(path, content)
        self._remove(path for path in self._files_of(device.name) if path not in written)

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink()

    def _when(self, record: Mapping[str, str]) -> str:
        return f"on {record['written']}" if record else "before, maybe by another controller"

    def _ignore(self) -> None:
        path = self.directory / ".gitignore"
        if not path.exists():
            self._plain.write(path, b"*\n")

    def _record(self) -> None:
        lines = json.dumps(self._records, indent=1, sort_keys=True)
        self._plain.write(self.directory / RECORD, f"{lines}\n".encode())


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
