# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Run one command and wait for it, briefly."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress


class CommandError(Exception):
    """A command that failed, ran out of time (``rc`` is "timeout") or is not there (``rc`` is "missing")."""

    def __init__(self, argv: Sequence[str], rc: int | str, stderr: str = "") -> None:
        self.argv = tuple(argv)
        self.rc = rc
        self.stderr = "; ".join(line.strip() for line in stderr.strip().splitlines()[-3:])
        super().__init__(f"{' '.join(argv)}: {rc if isinstance(rc, str) else f'exit {rc}'}: {self.stderr}".rstrip(": "))


def run(
    argv: Sequence[str], *, stdin: str | None = None, timeout: float = 5.0, descriptors: Collection[int] = ()
) -> str:
    """Return what ``argv`` printed to stdout.

    Secrets go through ``stdin`` or ``descriptors`` (which the command finds as /dev/fd/N): they appear in no error,
    while argv does. A command that is still running after ``timeout`` seconds is killed with all its children, so that
    a shell's orphan can not keep the pipes open.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
            pass_fds=descriptors,
        )
    except OSError as error:
        raise CommandError(argv, "missing", str(error)) from error
    with process:
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise CommandError(argv, "timeout", f"no end within {timeout:g} s") from error
    if process.returncode:
        raise CommandError(argv, process.returncode, stderr)
    return stdout


def pipe(text: str, pipes: ExitStack) -> int:
    """Return a descriptor for ``run`` that yields a line of text and then ends; ``pipes`` closes it."""
    reader, writer = os.pipe()
    pipes.callback(os.close, reader)
    with os.fdopen(writer, "w", encoding="ascii") as file:
        file.write(f"{text}\n")
    return reader
