# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""How long 10,000 key pairs take: wg_keypair in one task, against the least that could do the same.

Measured is the wall time of a whole `ansible-playbook` with one task on localhost, start of Ansible included: once
into an empty directory, once again with every key there. Beside it, a bare Python loop that generates a pair with
`cryptography` and writes the private key (no checks, no fsync, not atomic), and a shell loop over `wg`. Medians.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

REPOSITORY = Path(__file__).resolve().parents[1]

# A process per key makes the shell loop so slow that a part has to stand for the whole.
WG_PART = 20

WG_LOOP = """
umask 077
for number in $(seq "$2"); do
  wg genkey | tee "$1/$number.key" | wg pubkey > "$1/$number.pub"
done
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure wg_keypair against bare loops.")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    pairs: int = options.pairs
    part = max(1, pairs // WG_PART)

    rounds = []
    for _round in range(options.runs):
        with tempfile.TemporaryDirectory() as scratch:
            rounds.append(measure(Path(scratch), pairs, part))
    medians = {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}
    print_table(medians, pairs, part, options.runs)
    print(json.dumps({"pairs": pairs, **medians}))


def measure(place: Path, pairs: int, part: int) -> dict[str, float]:
    """Seconds that each way takes for all pairs, once."""
    playbook = write_playbook(place, pairs)
    seconds = {
        "module_s": timed(lambda: play(playbook, changed=1)),
        "second_run_s": timed(lambda: play(playbook, changed=0)),
        "python_loop_s": timed(lambda: python_loop(fresh(place / "python"), pairs)),
        "wg_loop_s": timed(lambda: wg_loop(fresh(place / "wg"), part)) * pairs / part,
    }
    if len(list((place / "module").iterdir())) != pairs:
        raise SystemExit("the module did not make all keys")
    return seconds


def fresh(path: Path) -> Path:
    path.mkdir(0o700)
    return path


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_playbook(place: Path, pairs: int) -> Path:
    names = [f"client-{number:05}" for number in range(pairs)]
    task = {"name": "Keys", "wirefleet.vpn.wg_keypair": {"directory": str(place / "module"), "names": names}}
    playbook = place / "keys.json"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    return playbook


def play(playbook: Path, *, changed: int) -> None:
    # Not resolved: in a virtual environment python is a link, and Ansible lies beside the link.
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", str(playbook)]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".collections"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0 or f"changed={changed} " not in done.stdout:
        raise SystemExit(f"ansible-playbook did not end with changed={changed}:\n{done.stdout}{done.stderr}")


def python_loop(place: Path, pairs: int) -> None:
    for number in range(pairs):
        private = X25519PrivateKey.generate()
        private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        fd = os.open(place / f"{number}.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(base64.b64encode(raw) + b"\n")


def wg_loop(place: Path, pairs: int) -> None:
    if shutil.which("wg") is None:
        raise SystemExit("wg is not installed (package wireguard-tools)")
    subprocess.run(["sh", "-ec", WG_LOOP, "sh", str(place), str(pairs)], check=True)


def print_table(medians: dict[str, float], pairs: int, part: int, runs: int) -> None:
    rows = [
        ("wg_keypair, one task, empty directory", "module_s"),
        ("wg_keypair, one task, all keys there", "second_run_s"),
        ("bare Python loop, cryptography and file writes", "python_loop_s"),
        (f"shell loop, wg genkey and wg pubkey (from {part:,} pairs, scaled)", "wg_loop_s"),
    ]
    loop = medians["python_loop_s"]
    print(f"{pairs:,} key pairs, median of {runs} runs; wg_keypair includes the start of ansible-playbook\n")
    print(f"{'':66}{'seconds':>9}{'x Python loop':>15}")
    for title, name in rows:
        print(f"{title:66}{medians[name]:9.2f}{medians[name] / loop:15.2f}")
    print()


if __name__ == "__main__":
    main()
