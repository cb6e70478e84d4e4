# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of playbooks: from a clone, and from somebody else's repository with the collection as it is shipped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .hosts import REPOSITORY

RUN_SECONDS = 1200
CONFIGURATION = """\
[defaults]
collections_path = {collections}
forks = 20
gathering = smart
interpreter_python = auto_silent
[ssh_connection]
pipelining = True
"""


@dataclass(frozen=True)
class Run:
    """How a run of a playbook ended."""

    code: int
    output: str

    def total(self, what: str) -> int:
        """The recap's column, such as "changed", over all hosts."""
        return sum(int(count) for count in re.findall(rf"\b{what}=(\d+)", self.output))

    def assert_unchanged(self) -> None:
        assert self.code == 0, self.output
        assert self.total("ok") > 0, self.output
        assert self.total("changed") == 0, self.output

    def assert_refused(self, because: str) -> None:
        """It failed for this reason, before it changed anything on any host."""
        assert self.code != 0, self.output
        assert because in self.output, self.output
        assert self.total("changed") == 0, self.output


Play = Callable[..., Run]  # name of a playbook, and variables


class InfraRepository:
    """A directory with an ansible.cfg and the installed collection, and inventories from elsewhere."""

    def __init__(self, directory: Path, source: Path = REPOSITORY) -> None:
        self.directory = directory
        collections = directory / "collections"
        (directory / "ansible.cfg").write_text(CONFIGURATION.format(collections=collections))
        _run(directory, "ansible-galaxy", "collection", "build", source, "--output-path", directory)
        (archive,) = directory.glob("wirefleet-vpn-*.tar.gz")
        install = ("ansible-galaxy", "collection", "install", "--offline", "--collections-path", collections, archive)
        _run(directory, *install)

    def site(self, *inventories: Path, options: tuple[str, ...] = ()) -> Run:
        """Run the site playbook as it is installed here."""
        return self.play("wirefleet.vpn.site", *inventories, options=options)

    def play(self, playbook: str, *inventories: Path, options: tuple[str, ...] = ()) -> Run:
        """Run any playbook that is installed here, by its full name."""
        return _play(self.directory, playbook, inventories, options)


def site_of_checkout(*inventories: Path, options: tuple[str, ...] = ()) -> Run:
    """Run the site playbook as in a clone of the repository."""
    return play_of_checkout("site", *inventories, options=options)


def play_of_checkout(playbook: str, *inventories: Path, options: tuple[str, ...] = ()) -> Run:
    """Run any playbook in a clone of the repository, by its short name."""
    return _play(REPOSITORY, f"playbooks/{playbook}.yml", inventories, options)


def _play(directory: Path, playbook: str, inventories: tuple[Path, ...], options: tuple[str, ...]) -> Run:
    inventory = [f"--inventory={path}" for path in inventories]
    return _run(directory, "ansible-playbook", *inventory, *options, playbook, check=False)


def _run(directory: Path, program: str, *arguments: str | Path, check: bool = True) -> Run:
    # Nothing that Molecule or make told Ansible applies here.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    result = subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        cwd=directory,
        env={**environment, "ANSIBLE_CONFIG": str(directory / "ansible.cfg")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert result.returncode == 0 or not check, result.stdout
    return Run(result.returncode, result.stdout)
