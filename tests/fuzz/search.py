# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Search one target by coverage: ``python -m tests.fuzz.search TARGET SECONDS``.

What leads to new code is kept in .cache/fuzz, so that the next search goes on from there. An input that breaks the
target is put into its corpus, where `make test` finds it until it is mended.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["ansible_collections.wirefleet", "wirefleet", "wirefleet_node", "wirefleet_steer"]
):
    from .targets import CORPUS, TARGETS

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "fuzz"


def main(name: str, seconds: int) -> None:
    corpus, found = CORPUS / name, CACHE / name
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={corpus}/", "-max_len=16384", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(found), str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
