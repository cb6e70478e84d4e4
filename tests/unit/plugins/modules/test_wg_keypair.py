# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.wirefleet.vpn.plugins.module_utils import _keys
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import find_backend, public_key, validate_key
from ansible_collections.wirefleet.vpn.plugins.modules import wg_keypair

from ...cores import patch_module_args

STRANGER = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="

Run = Callable[..., "dict[str, Any]"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the module as Ansible does; its result, with `output` as the whole text that left it."""
    # Where a warning goes depends on what else of Ansible this process has imported: here it is printed.
    monkeypatch.setattr(wg_keypair.AnsibleModule, "warn", lambda _module, text: print(text, file=sys.stderr))

    def run(*, check: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {name: os.fspath(value) if isinstance(value, Path) else value for name, value in arguments.items()}
        with (
            patch_module_args({**given, "_ansible_check_mode": check, "_ansible_diff": diff}),
            pytest.raises(SystemExit) as end,
        ):
            wg_keypair.main()
        output = capsys.readouterr()
        result: dict[str, Any] = json.loads(output.out)
        assert bool(end.value.code) is result.get("failed", False)
        return {**result, "output": output.out + output.err}

    return run


@pytest.fixture
def _no_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    find_backend.cache_clear()
    monkeypatch.setattr(_keys, "cryptography_backend", lambda: None)
    monkeypatch.setattr(_keys, "wg_backend", lambda: None)
    yield
    find_backend.cache_clear()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestOneKey:
    def test_create_and_keep(self, run: Run, place: Path) -> None:
        path = place / "wg0.key"
        first = run(path=path)
        assert first["changed"]
        assert first["path"] == str(path)
        assert first["public_key"] == public_key(path.read_text())
        second = run(path=path)
        assert not second["changed"]
        assert second["public_key"] == first["public_key"]
        assert (mode_of(path), mode_of(place)) == (0o600, 0o700)

    def test_results_are_those_of_one_key(self, run: Run, place: Path) -> None:
        result = run(path=place / "wg0.key")
        assert not {"paths", "public_keys", "private_key", "private_keys", "changed_names", "backup_file"} & set(result)

    def test_rotate_with_backup(self, run: Run, place: Path) -> None:
        path = place / "wg0.key"
        old = run(path=path)
        new = run(path=path, regenerate="always", backup=True)
        assert new["changed"]
        assert new["public_key"] not in (None, old["public_key"])
        assert public_key(Path(new["backup_file"]).read_text()) == old["public_key"]

    def test_absent(self, run: Run, place: Path) -> None:
        path = place / "wg0.key"
        run(path=path)
        result = run(path=path, state="absent")
        assert (result["changed"], result["public_key"]) == (True, None)
        assert not path.exists()
        assert not run(path=path, state="absent")["changed"]

    def test_a_hidden_file_may_be_named(self, run: Run, place: Path) -> None:
        assert run(path=place / ".key")["changed"]

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("", "not an absolute path"),
            ("relative/wg0.key", "not an absolute path"),
            ("/nowhere/keys/", "does not name a file"),
            ("/nowhere/..", "does not name a file"),
        ],
    )
    def test_unfit_paths(self, run: Run, path: str, reason: str) -> None:
        assert reason in run(path=path)["msg"]

    def test_expected(self, run: Run, place: Path) -> None:
        path = place / "wg0.key"
        missing = run(path=path, expected_public_key=STRANGER)
        assert f"{path}: the known key vanished, expected {STRANGER}, found no file" in missing["msg"]
        assert not place.exists()
        known = run(path=path)["public_key"]
        assert not run(path=path, expected_public_key=known)["changed"]
        other = run(path=path, expected_public_key=STRANGER)
        assert f"{path}: the known key vanished, expected {STRANGER}, found {known}" in other["msg"]


class TestManyKeys:
    def test_create_and_keep(self, run: Run, place: Path) -> None:
        result = run(directory=place, names=["alice", "bob"])
        assert result["changed_names"] == ["alice", "bob"]
        assert result["paths"] == {"alice": f"{place}/alice.key", "bob": f"{place}/bob.key"}
        assert result["public_keys"] == {
            name: public_key(Path(path).read_text()) for name, path in result["paths"].items()
        }
        again = run(directory=f"{place}/", names=["bob", "alice", "carol"])
        assert again["changed_names"] == ["carol"]
        assert again["public_keys"].items() > result["public_keys"].items()
        assert again["paths"].items() > result["paths"].items()

    def test_results_are_those_of_many_keys(self, run: Run, place: Path) -> None:
        result = run(directory=place, names=["alice"])
        assert not {"path", "public_key", "private_key", "private_keys", "backup_file"} & set(result)
        assert result["backup_files"] == {}

    def test_preshared(self, run: Run, place: Path) -> None:
        result = run(directory=place, names=["alice"], suffix=".psk", type="preshared")
        assert result["public_keys"] == {"alice": None}
        validate_key((place / "alice.psk").read_text())

    def test_rotate_with_backup(self, run: Run, place: Path) -> None:
        old = run(directory=place, names=["alice", "bob"])["public_keys"]
        result = run(directory=place, names=["alice"], regenerate="always", backup=True)
        assert public_key(Path(result["backup_files"]["alice"]).read_text()) == old["alice"]
        assert run(directory=place, names=["bob"])["public_keys"]["bob"] == old["bob"]

    def test_expected(self, run: Run, place: Path) -> None:
        known = run(directory=place, names=["alice"])["public_keys"]
        ledger = {**known, "bob": None, "gone": STRANGER}
        result = run(directory=place, names=["alice", "bob"], expected_public_keys=ledger)
        assert result["changed_names"] == ["bob"]
        lost = run(directory=place, names=["carol", "dave"], expected_public_keys={"dave": STRANGER})
        assert f"{place}/dave.key: the known key vanished" in lost["msg"]
        assert not (place / "carol.key").exists()

    def test_attributes(self, run: Run, place: Path) -> None:
        run(directory=place, names=["alice"], mode="0640", directory_mode="0750")
        assert (mode_of(place / "alice.key"), mode_of(place)) == (0o640, 0o750)
        # 384 is what YAML makes of an unquoted 0600.
        result = run(directory=place, names=["alice"], mode=384, owner=str(os.geteuid()), group=str(os.getegid()))
        assert result["changed_names"] == ["alice"]
        assert mode_of(place / "alice.key") == 0o600

    def test_a_directory_mode_alone_is_a_change(self, run: Run, place: Path) -> None:
        run(directory=place, names=["alice"])
        result = run(directory=place, names=["alice"], directory_mode="0711")
        assert (result["changed"], result["changed_names"]) == (True, [])

    def test_readable_by_everybody_is_warned_about(self, run: Run, place: Path) -> None:
        run(directory=place, names=["alice"])
        (place / "alice.key").chmod(0o644)
        result = run(directory=place, names=["alice"])
        assert not result["changed"]
        assert f"{place}/alice.key" in result["output"]


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ({}, "one of the following is required: path, directory"),
            ({"directory": "/nowhere"}, "parameters are required together: directory, names"),
            ({"path": "/nowhere/a", "directory": "/nowhere", "names": ["a"]}, "mutually exclusive"),
            ({"path": "/nowhere/a", "expected_public_keys": {"a": STRANGER}}, "mutually exclusive"),
            ({"directory": "/nowhere", "names": ["a"], "expected_public_key": STRANGER}, "mutually exclusive"),
            ({"directory": "keys", "names": ["a"]}, "'keys' is not an absolute path"),
            ({"directory": "/nowhere", "names": ["a/b"]}, "names: 'a/b' with suffix"),
            ({"directory": "/nowhere", "names": ["a", "a"]}, "names: 'a' is given twice"),
            ({"path": "/nowhere/a", "mode": "u=rw"}, "mode: 'u=rw' is not an octal number"),
            ({"path": "/nowhere/a", "mode": "0689"}, "mode: '0689' is not an octal number"),
            ({"path": "/nowhere/a", "mode": True}, "mode: True is not an octal number"),
            ({"path": "/nowhere/a", "directory_mode": "77777"}, "directory_mode: '77777' is not an octal number"),
            ({"path": "/nowhere/a", "owner": "no-such-user"}, "owner: there is no 'no-such-user' on this host"),
            ({"path": "/nowhere/a", "group": "no-such-group"}, "group: there is no 'no-such-group' on this host"),
            ({"path": "/nowhere/a", "expected_public_key": "short"}, "expected_public_key: 'a': a WireGuard key has"),
            (
                {"directory": "/nowhere", "names": ["a"], "expected_public_keys": {"b": ""}},
                "expected_public_keys: 'b': a WireGuard key has",
            ),
            (
                {"path": "/nowhere/a", "type": "preshared", "expected_public_key": STRANGER},
                "expected_public_key: a preshared key has no public key",
            ),
        ],
    )
    def test_bad_input_is_an_error_and_nothing_is_written(
        self, run: Run, arguments: dict[str, Any], reason: str
    ) -> None:
        result = run(**arguments)
        assert result["failed"]
        assert reason in result["msg"]
        assert not Path("/nowhere").exists()

    def test_documentation_and_argument_spec_say_the_same(self) -> None:
        documented = yaml.safe_load(wg_keypair.DOCUMENTATION)["options"]
        spec = wg_keypair.ARGUMENT_SPEC
        assert set(documented) == set(spec)
        for name, option in spec.items():
            facts = {key: value for key, value in option.items() if key != "no_log"}
            assert facts == {key: value for key, value in documented[name].items() if key != "description"}, name


class TestCheckMode:
    def test_a_fresh_host(self, run: Run, place: Path) -> None:
        result = run(directory=place, names=["alice"], check=True)
        assert (result["changed_names"], result["public_keys"]) == (["alice"], {"alice": None})
        assert not place.exists()

    @pytest.mark.usefixtures("_no_backend")
    def test_a_fresh_host_without_a_backend(self, run: Run, place: Path) -> None:
        result = run(directory=place, names=["alice"], check=True)
        assert result["changed_names"] == ["alice"]
        failed = run(directory=place, names=["alice"])
        assert "wireguard-tools" in failed["msg"]
        assert not place.exists()

    def test_existing_keys_without_a_backend(self, run: Run, place: Path, request: pytest.FixtureRequest) -> None:
        run(directory=place, names=["alice"])
        request.getfixturevalue("_no_backend")
        result = run(directory=place, names=["alice"], expected_public_keys={"alice": STRANGER}, check=True)
        assert (result["changed"], result["public_keys"]) == (False, {"alice": None})
        assert "were not compared" in result["output"]

    def test_an_owner_who_is_not_there_yet(self, run: Run, place: Path) -> None:
        result = run(path=place / "wg0.key", owner="no-such-user", check=True)
        assert result["changed"]
        assert "no-such-user" in result["output"]


@pytest.mark.usefixtures("_no_backend")
class TestWithoutBackend:
    def test_preshared_keys_need_none(self, run: Run, place: Path) -> None:
        assert run(path=place / "psk", type="preshared")["changed"]

    def test_removal_needs_none_unless_a_key_is_to_be_compared(self, run: Run, place: Path) -> None:
        path = place / "wg0.key"
        run(path=path, type="preshared")
        assert "wireguard-tools" in run(path=path, state="absent", expected_public_key=STRANGER)["msg"]
        assert path.exists()
        assert run(path=path, state="absent")["changed"]


class TestSecrecy:
    @pytest.mark.parametrize("type_", ["private", "preshared"])
    @pytest.mark.parametrize("form", ["path", "names"])
    def test_keys_leave_the_host_only_when_asked_for(self, run: Run, place: Path, form: str, type_: str) -> None:
        where = {"path": place / "alice.key"} if form == "path" else {"directory": place, "names": ["alice"]}
        for options in ({}, {"mode": "0640"}, {"regenerate": "always", "backup": True}, {"state": "absent"}):
            held = {path.read_text().strip() for path in place.glob("*")}
            result = run(**where, type=type_, diff=True, **options)
            held |= {path.read_text().strip() for path in place.glob("*")}
            assert result["changed"]
            assert held
            assert not any(key in result["output"] for key in held)

    def test_return_private_key(self, run: Run, place: Path) -> None:
        path = place / "wg0.key"
        assert run(path=path, return_private=True, check=True)["private_key"] is None
        for _created_then_found in range(2):
            assert run(path=path, return_private=True)["private_key"] == path.read_text().strip()

    def test_return_private_keys(self, run: Run, place: Path) -> None:
        result = run(directory=place, names=["alice"], suffix=".psk", type="preshared", return_private=True)
        assert result["private_keys"] == {"alice": (place / "alice.psk").read_text().strip()}

    def test_an_error_about_a_file_does_not_show_it(self, run: Run, place: Path) -> None:
        place.mkdir()
        content = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk= and more"
        (place / "wg0.key").write_text(content)
        result = run(path=place / "wg0.key", regenerate="always")
        assert result["failed"]
        assert "yAnz5TF" not in result["output"]
        assert (place / "wg0.key").read_text() == content


class TestDiff:
    def test_only_what_changes_is_shown(self, run: Run, place: Path) -> None:
        run(directory=place, names=["alice"])
        result = run(directory=place, names=["alice", "bob"], diff=True)
        assert result["diff"]["before"] == {"bob.key": None}
        assert result["diff"]["after"]["bob.key"]["public_key"] == result["public_keys"]["bob"]
        assert list(result["diff"]["after"]) == ["bob.key"]

    def test_protection(self, run: Run, place: Path) -> None:
        run(path=place / "wg0.key")
        diff = run(path=place / "wg0.key", mode="0640", diff=True)["diff"]
        assert (diff["before"]["wg0.key"]["mode"], diff["after"]["wg0.key"]["mode"]) == ("0600", "0640")

    def test_none_without_diff_mode(self, run: Run, place: Path) -> None:
        assert "diff" not in run(path=place / "wg0.key")
