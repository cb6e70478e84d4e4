# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The drain flag: a file on the node, so that every balancer sees a drain and a returning one learns it."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from .health import Drain

UNKNOWN = Drain(by="unknown", since="unknown")


def read(state_dir: Path) -> Drain | None:
    """The file's presence is the order: one that can not be read or understood drains the node too."""
    try:
        document = json.loads((state_dir / "drain").read_text(encoding="utf-8"))
        return Drain(**{key: str(document.get(key) or default) for key, default in asdict(UNKNOWN).items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError):
        return UNKNOWN


def write(state_dir: Path, by: str, reason: str) -> Drain:
    """Order the drain, replacing an earlier order; readers see the old flag or the new one, whole.

    Raises an OSError that names the flag, when there is no room for it, or no permission.
    """
    drain = Drain(by=by, since=datetime.now(timezone.utc).isoformat(timespec="seconds"), reason=reason)
    flag = state_dir / "drain"
    descriptor, temporary = tempfile.mkstemp(dir=state_dir, prefix=".drain.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(drain), file)
            os.fchmod(descriptor, 0o644)  # the agent runs as another user
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, flag)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):  # a full disk names no file
            raise OSError(error.errno, error.strerror, str(flag)) from error
        raise
    return drain


def remove(state_dir: Path) -> None:
    with suppress(FileNotFoundError):
        os.unlink(state_dir / "drain")
