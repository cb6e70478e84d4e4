# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.wirefleet.vpn.plugins.plugin_utils._secret_files import SecretFiles


@pytest.fixture
def plain() -> SecretFiles:
    return SecretFiles("", DataLoader())


@pytest.fixture
def vaulted(tmp_path: Path) -> SecretFiles:
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    return SecretFiles(str(password), DataLoader())


@pytest.fixture(params=["plain", "vaulted"])
def files(request: pytest.FixtureRequest) -> SecretFiles:
    chosen: SecretFiles = request.getfixturevalue(request.param)
    return chosen
