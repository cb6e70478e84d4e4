# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of playbooks: from a clone, and from somebody else's repository with the collection as it is shipped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
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

    def begin(self, playbook: str, *inventories: Path, options: tuple[str, ...] = ()) -> BackgroundRun:
        """The same, in the background."""
        inventory = [f"--inventory={path}" for path in inventories]
        return BackgroundRun(self.directory, "ansible-playbook", *inventory, *options, playbook)


class BackgroundRun:
    """A run of a program that goes on until it ends, or until somebody ends it."""

    def __init__(self, directory: Path, program: str, *arguments: str | Path) -> None:
        with tempfile.NamedTemporaryFile(prefix="run-", suffix=".log", dir=directory, delete=False) as log:
            self._log = Path(log.name)
            self._process = subprocess.Popen(
                _command(program, *arguments),
                cwd=directory,
                env=_environment(directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> Run:
        """Wait until it ends."""
        return Run(self._process.wait(RUN_SECONDS), self.output)

    def kill(self) -> bool:
        """Kill it, with every process that it has started; say whether it had not ended before."""
        if self.ended:
            return False
        # Ansible's workers have sessions of their own. Who is stopped starts nobody while we look.
        family = [self._process.pid]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                family += _children(pid)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self._process.wait() == -signal.SIGKILL


def _children(pid: int) -> list[int]:
    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                children.append(int(status.parent.name))
    return children


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
    result = subprocess.run(
        _command(program, *arguments),
        cwd=directory,
        env=_environment(directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert result.returncode == 0 or not check, result.stdout
    return Run(result.returncode, result.stdout)


def _command(program: str, *arguments: str | Path) -> list[str | Path]:
    return [Path(sys.executable).parent / program, *arguments]


def _environment(directory: Path) -> dict[str, str]:
    # Nothing that Molecule or make told Ansible applies here.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {**environment, "ANSIBLE_CONFIG": str(directory / "ansible.cfg")}
