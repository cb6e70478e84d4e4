# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that handles secrets, as talkative as can be, gives none of them away."""

from __future__ import annotations

import base64
import configparser
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from traffic.hosts import Lab
from traffic.site import InfraRepository, Run

HERE = "this machine"
HOSTS = ("lb1", "n1", "n2", "n3", "c1", "c2")
PAUSE = 0.2  # seconds between two looks at a process list
# A host samples its own processes, so that nothing but files is asked for while the run is under way.
SAMPLE = f"""
touch /run/sample; (umask 077; while [ -e /run/sample ]; do
  cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2> /dev/null | tr '\\0' '\\n'; sleep {PAUSE};
done | sort -u > /run/sampled) > /dev/null 2>&1 &
"""
LEFTOVERS = "/tmp /var/tmp /var/log /var/cache /root /home"


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> dict[str, bytes]:
    """What nobody may see, by a name that may be shown: keys and pre-shared keys, as text and as hexadecimal digits."""
    found: dict[str, bytes] = {}
    for name in HOSTS:
        host = lab.host(name)
        for key in host.check_output("cat /etc/wirefleet/default/keys/*.key").split():
            found[f"a key of {name}, number {len(found)}"] = key.encode()
        # Of each pair in the list the last word: the interface's own key, or a peer's pre-shared one.
        for what in ("private-key", "preshared-keys"):
            for line in host.check_output("wg show all %s", what).splitlines():
                if not line.endswith("(none)"):
                    found[f"{what} of {name}, number {len(found)}"] = line.split()[-1].encode()
    return {**found, **{f"{name} in hex": base64.b64decode(key).hex().encode() for name, key in found.items()}}


@contextmanager
def sampled(lab: Lab) -> Iterator[dict[str, bytes]]:
    """Note what all process lists show meanwhile, this machine's included."""
    seen: dict[str, bytes] = {}
    here: set[bytes] = set()
    end = threading.Event()

    def sample() -> None:
        while not end.wait(PAUSE):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    here.add((process / "cmdline").read_bytes())
                except OSError:  # it has ended
                    continue

    sampler = threading.Thread(target=sample)
    for name in HOSTS:
        lab.host(name).check_output(SAMPLE)
    sampler.start()
    try:
        yield seen
    finally:
        end.set()
        sampler.join()
        seen[HERE] = b"\n".join(here)
        for name in HOSTS:
            # `sort` ends when nobody writes to it any more.
            done = (
                "rm /run/sample; while pgrep -x sort > /dev/null; do sleep 0.1; done; cat /run/sampled; rm /run/sampled"
            )
            seen[name] = lab.host(name).check_output(done).encode()


@pytest.fixture(scope="module")
def talkative(infra: InfraRepository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Facts are cached, and everything is logged, in the directory that this returns."""
    directory = tmp_path_factory.mktemp("talkative")
    file = infra.directory / "ansible.cfg"
    before = file.read_text()
    configuration = configparser.ConfigParser()
    configuration.read_string(before)
    configuration["defaults"].update(
        {
            "fact_caching": "jsonfile",
            "fact_caching_connection": str(directory / "facts"),
            "log_path": f"{directory}/log",
        }
    )
    with file.open("w") as output:
        configuration.write(output)
    yield directory
    file.write_text(before)


@pytest.fixture(scope="module")
def run(lab: Lab, infra: InfraRepository, talkative: Path) -> tuple[Run, dict[str, bytes]]:
    """A run that has secrets to write: a node has lost the cluster's, and the files that name them."""
    lab.host("n3").check_output("rm /etc/wirefleet/default/keys/psk.key /etc/wirefleet/default/keys/service.key")
    for name, interface in (("n3", "wg0"), ("c1", "wg0"), ("lb1", "wf0")):
        lab.host(name).check_output("rm /etc/wireguard/%s.conf", interface)
    with sampled(lab) as processes:
        done = infra.site(lab.inventory, options=("-vvv", "--diff"))
    return done, processes


def hits(text: bytes, secrets: dict[str, bytes]) -> list[str]:
    """The names of the secrets in a text: a failure must not show what it has found."""
    return [name for name, secret in secrets.items() if secret in text]


def test_it_had_something_to_hide(run: tuple[Run, dict[str, bytes]], secrets: dict[str, bytes]) -> None:
    done, processes = run
    assert done.code == 0, done.output
    assert done.total("changed") >= 4, done.output
    assert len(secrets) > 40
    for name, seen in processes.items():
        mark = b"ansible-playbook" if name == HERE else b"&& sleep 0"  # how Ansible's SSH calls a module
        assert mark in seen, f"no process of the run was seen on {name}"


def test_it_prints_none(run: tuple[Run, dict[str, bytes]], secrets: dict[str, bytes]) -> None:
    assert "Using module file" in run[0].output, "not as talkative as it should be"
    assert hits(run[0].output.encode(), secrets) == []


def test_no_cache_and_no_log_has_any(
    run: tuple[Run, dict[str, bytes]], talkative: Path, secrets: dict[str, bytes]
) -> None:
    files = [path for path in talkative.rglob("*") if path.is_file()]
    assert len(files) >= len(HOSTS), "the log and facts of each host"
    assert hits(b"".join(path.read_bytes() for path in files), secrets) == []


def test_no_process_list_showed_any(run: tuple[Run, dict[str, bytes]], secrets: dict[str, bytes]) -> None:
    assert {name: hits(seen, secrets) for name, seen in run[1].items()} == {name: [] for name in run[1]}


@pytest.mark.parametrize("name", HOSTS)
def test_no_journal_has_any(lab: Lab, run: tuple[Run, dict[str, bytes]], secrets: dict[str, bytes], name: str) -> None:
    journal = lab.host(name).check_output("journalctl --no-pager --all --output short")
    assert "Invoked with" in journal, "Ansible's modules write there what they are called with"
    assert hits(journal.encode(), secrets) == []


@pytest.mark.parametrize("name", HOSTS)
def test_nothing_is_left_behind(
    lab: Lab, run: tuple[Run, dict[str, bytes]], secrets: dict[str, bytes], name: str
) -> None:
    # The journal's own files are compressed, and were read above.
    find = (
        f"find {LEFTOVERS} -xdev -path /var/log/journal -prune -o -type f -size -10M -exec cat {{}} + | base64 --wrap 0"
    )
    assert hits(base64.b64decode(lab.host(name).check_output(find)), secrets) == []
