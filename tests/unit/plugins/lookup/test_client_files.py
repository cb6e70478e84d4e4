# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleLookupError
from ansible_collections.wirefleet.vpn.plugins.lookup.client_files import LIMIT, LookupModule


def look_up(*directories: Path | str) -> list[dict[str, object]]:
    return LookupModule().run([str(directory) for directory in directories])


def test_a_file_is_a_client_or_a_list_of_them(tmp_path: Path) -> None:
    (tmp_path / "bob.yml").write_text("{owner: Bob}")
    (tmp_path / "alice.yaml").write_text("{name: alice-phone}")
    (tmp_path / "others.yml").write_text("[{name: carol}, {name: dave}]")
    (tmp_path / "README.md").write_text("no client")
    assert look_up(tmp_path, "") == [
        {"name": "alice-phone"},
        {"name": "bob", "owner": "Bob"},
        {"name": "carol"},
        {"name": "dave"},
    ]


def test_nothing_in_it_is_a_template(tmp_path: Path) -> None:
    (tmp_path / "alice.yml").write_text("owner: \"{{ lookup('pipe', 'id') }}\"")
    assert look_up(tmp_path) == [{"name": "alice", "owner": "{{ lookup('pipe', 'id') }}"}]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnsibleLookupError, match="nowhere is no directory"):
        look_up(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "item 1 is no client"),
        ("alice", "item 1 is no client"),
        ("[{name: bob}, alice]", "item 2 is no client"),
        ("{1: x}", "item 1 is no client"),
        ("a: b\n c: d", "line 2: no YAML: mapping values are not allowed"),
        ("name: !!python/object/apply:os.system [id]", "line 1: no YAML: could not determine a constructor"),
        ("[" * 5000, "no YAML: |is nested too deep"),
        ("#" * (LIMIT + 1), f"has {LIMIT + 1} bytes, more than the {LIMIT} of any list"),
    ],
)
def test_what_is_no_list_of_clients_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "bad.yml").write_text(content)
    with pytest.raises(AnsibleLookupError, match=rf"bad\.yml: (?:line \d+: )?(?:{problem})"):
        look_up(tmp_path)


def test_all_bad_files_are_told_at_once(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text("[")
    with pytest.raises(AnsibleLookupError, match=r"a\.yml.* \| .*b\.yml"):
        look_up(tmp_path)
