# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The module's face: options in, results out, secrets nowhere."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import generate_private_key, public_key
from ansible_collections.wirefleet.vpn.plugins.module_utils._wg_interface import (
    Interface,
    MissingCommandError,
    Outcome,
    PeerChanges,
    Result,
    System,
)
from ansible_collections.wirefleet.vpn.plugins.modules import wg_interface

from ...cores import patch_module_args

KEY = generate_private_key()
TEXT = f"[Interface]\nPrivateKey = {KEY}\nTable = off\n"


class BareHost(System):
    """A host without any of the tools."""

    has_systemd = False
    kernel_has_wireguard = False

    def run(self, *argv: str, stdin: str = "") -> Result:
        raise MissingCommandError(f"the command {argv[0]!r} is not on this host")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "wireguard"
    on_bare_host = functools.partial(Interface, system=BareHost(), directory=directory)
    monkeypatch.setattr(wg_interface, "Interface", on_bare_host)
    return directory


def run(capsys: pytest.CaptureFixture[str], **args: object) -> dict:
    with patch_module_args(args), pytest.raises(SystemExit):
        wg_interface.main()
    output = capsys.readouterr().out
    assert KEY not in output
    return json.loads(output)


def test_predicts_on_a_bare_host(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, name="wg0", config=TEXT, _ansible_check_mode=True, _ansible_diff=True)
    assert result["changed"]
    assert result["actions"] == ["file", "start"]
    assert result["public_key"] == public_key(KEY)
    assert result["peers"] == {"added": [], "removed": [], "changed": []}
    assert result["restarted"] is False
    assert result["diff"]["before"] == ""
    assert result["diff"]["after"] == "[Interface]\nPrivateKey = (hidden)\nTable = off\n"
    assert result["diff"]["after_header"] == "/etc/wireguard/wg0.conf"
    assert not directory.exists()


def test_diff_only_where_asked_for(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "diff" not in run(capsys, name="wg0", config=TEXT, _ansible_check_mode=True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"name": "wg0", "config": TEXT}, "the command 'ip' is not on this host"),
        ({"name": "wg0", "config": TEXT + f"Oops = {KEY}\n"}, "wg0: line 4: [Interface] knows no such key: Oops"),
        ({"name": "wg0", "config": TEXT, "implementation": "kernel"}, "this kernel has none"),
        ({"name": "wg/0", "config": TEXT}, "'wg/0' is no interface name"),
        ({"name": "wg0"}, "state is up but all of the following are missing: config"),
    ],
)
def test_failures_are_messages(directory: Path, capsys: pytest.CaptureFixture[str], args: dict, message: str) -> None:
    result = run(capsys, **args)
    assert result["failed"]
    assert message in result["msg"]
    assert "Traceback" not in json.dumps(result)


@pytest.mark.parametrize("state", ["down", "absent"])
def test_states_without_config(directory: Path, capsys: pytest.CaptureFixture[str], state: str) -> None:
    assert run(capsys, name="wg0", state=state)["changed"] is False


def test_unreadable_directory_is_a_message(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory.write_text("a file where the directory should be")
    result = run(capsys, name="wg0", config=TEXT)
    assert result["failed"]
    assert str(directory) in result["msg"]


def test_options_reach_the_interface(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple] = []

    class Recorder:
        def __init__(self, name: str, check_mode: bool) -> None:
            calls.append((name, check_mode))

        def up(self, text: str, **options: bool) -> Outcome:
            calls.append((text, options))
            return Outcome()

    monkeypatch.setattr(wg_interface, "Interface", Recorder)
    options = {"enabled": False, "implementation": "kernel", "allow_key_change": True}
    run(capsys, name="wg0", config=TEXT, _ansible_check_mode=True, **options)
    wanted = {"enabled": False, "require_kernel": True, "allow_key_change": True, "expired": []}
    assert calls == [("wg0", True), (TEXT, wanted)]


def test_warnings_are_passed_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Where a warning goes after that depends on what else of Ansible this process has imported.
    warned: list[str] = []
    monkeypatch.setattr(wg_interface.AnsibleModule, "warn", lambda _module, text: warned.append(text))
    monkeypatch.setattr(wg_interface, "apply", lambda *_: Outcome(warnings=["take care"]))
    run(capsys, name="wg0", config=TEXT)
    assert warned == ["take care"]


def test_results_stay_small() -> None:
    many = [str(number) for number in range(10_000)]
    result = wg_interface.as_result(Outcome(actions=["sync"], peers=PeerChanges(added=many, removed=many[:2])))
    assert result["peers"] == {"added": many[:100], "removed": ["0", "1"], "changed": []}
    assert result["peer_counts"] == {"added": 10_000, "removed": 2, "changed": 0}
    assert result["changed"] is True


def test_documentation_is_the_argument_spec() -> None:
    documented = yaml.safe_load(wg_interface.DOCUMENTATION)["options"]
    facts = ("type", "required", "default", "choices")
    assert {name: {fact: option[fact] for fact in facts if fact in option} for name, option in documented.items()} == {
        name: {fact: option[fact] for fact in facts if fact in option}
        for name, option in wg_interface.ARGUMENT_SPEC.items()
    }
    returned = yaml.safe_load(wg_interface.RETURN)
    assert set(returned) | {"changed"} == set(wg_interface.as_result(Outcome()))


def test_config_is_secret() -> None:
    assert wg_interface.ARGUMENT_SPEC["config"]["no_log"] is True
