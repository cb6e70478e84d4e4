# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The keeper of the rules, in a network of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wirefleet import nft
from wirefleet.command import run
from wirefleet.config import ConfigError
from wirefleet_kill_switch.__main__ import Config, load

from ..namespaces import eventually

TABLE = "wirefleet_kill_switch"
RULES = f"table inet {TABLE} {{\nchain output {{ type filter hook output priority filter; policy drop; }}\n}}\n"
CONFIG = '{"version": 1, "cluster": "default", "table": "%s", "rules": "%s"}'
COMMAND = [sys.executable, "-m", "wirefleet_kill_switch", "--config"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rules.nft").write_text(RULES)
    path = tmp_path / "kill-switch.json"
    path.write_text(CONFIG % (TABLE, tmp_path / "rules.nft"))
    return path


@pytest.fixture
def keeper(network: None, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*COMMAND, config, "run"], env=ENVIRONMENT)
    yield process
    process.kill()
    process.wait()


def present() -> bool:
    return nft.table_present("inet", TABLE)


def status(config: Path) -> int:
    return subprocess.run([*COMMAND, config, "status"], env=ENVIRONMENT, check=False).returncode


def test_rules_that_are_flushed_come_back_at_once(keeper: subprocess.Popen[bytes], config: Path) -> None:
    eventually(present)
    assert status(config) == 0
    run(["nft", "flush", "ruleset"])
    eventually(present)


def test_the_rules_stay_when_their_keeper_dies(keeper: subprocess.Popen[bytes], config: Path) -> None:
    eventually(present)
    keeper.send_signal(signal.SIGTERM)
    keeper.wait(timeout=10)
    assert present()
    run(["nft", "flush", "ruleset"])
    assert status(config) == 1


def test_the_configuration(config: Path, tmp_path: Path) -> None:
    assert load(config) == Config(TABLE, str(tmp_path / "rules.nft"))
    config.write_text('{"version": 2, "cluster": "default", "table": "t", "rules": "r"}')
    with pytest.raises(ConfigError, match="version: expected 1, got 2"):
        load(config)
