# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wirefleet_node.__main__ import main


@pytest.mark.parametrize(("change", "code", "message"), [({}, 0, ""), ({"port": "x"}, 2, "bad.json: port: expected")])
def test_check_config(
    tmp_path: Path,
    document: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    code: int,
    message: str,
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**document, **change}))
    assert main(["check-config", str(path)]) == code
    assert message in capsys.readouterr().err


def test_drain_names_the_operator_behind_sudo(
    tmp_path: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    path = tmp_path / "node.json"
    path.write_text(json.dumps(document))
    assert main(["--config", str(path), "drain", "--reason", "new kernel"]) == 0
    order = json.loads(capsys.readouterr().out)
    assert (order["by"], order["reason"]) == ("alice", "new kernel")
    assert json.loads((tmp_path / "drain").read_text()) == order


def test_drain_for_somebody_else(tmp_path: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "deploy")
    path = tmp_path / "node.json"
    path.write_text(json.dumps(document))
    assert main(["--config", str(path), "drain", "--by", "bob"]) == 0
    assert json.loads((tmp_path / "drain").read_text())["by"] == "bob"


def test_drain_without_a_state_directory_is_an_error(
    tmp_path: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "node.json"
    path.write_text(json.dumps({**document, "state_dir": f"{tmp_path}/absent"}))
    assert main(["--config", str(path), "drain"]) == 2
    assert "absent" in capsys.readouterr().err


def test_status_without_the_agent_runs_no_check_of_the_operators(
    tmp_path: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """They would run as whoever asks, who is root."""
    document["checks"] = [{"name": "dns", "command": ["touch", f"{tmp_path}/ran"], "timeout": 2, "interval": 10}]
    document["listen"] = [["127.0.0.1", 1]]
    path = tmp_path / "node.json"
    path.write_text(json.dumps(document))
    assert main(["--config", str(path), "status"]) == 1
    reasons = json.loads(capsys.readouterr().out)["reasons"]
    assert reasons[0] == "the agent does not answer"
    assert "check dns: no result yet" in reasons
    assert not (tmp_path / "ran").exists()
