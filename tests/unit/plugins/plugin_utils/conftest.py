# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

import os
import signal
from collections.abc import Callable
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


@pytest.fixture
def killed_while_writing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], object]], None]:
    """Do something in a process that is killed when it has written a file of this name but for giving it its name."""

    def run(name: str, what: Callable[[], object]) -> None:
        replace = os.replace

        def killed(source: str, target: Path) -> None:
            if target.name == name:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        child = os.fork()
        if child == 0:
            monkeypatch.setattr(os, "replace", killed)
            try:
                what()
            finally:
                os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL

    return run
