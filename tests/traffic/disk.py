# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk without room for another byte, at one directory of a lab's host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from testinfra.host import Host

# A small file system over the directory, with what is in it; filled to the last block.
FILL = """\
set -e
mkdir -p /run/before
cp -a %(directory)s/. /run/before/
size=$(($(du -sk /run/before | cut -f1) + 64))
mount -t tmpfs -o size=${size}k,mode=$(stat -c %%a %(directory)s) tmpfs %(directory)s
chown --reference=/run/before %(directory)s
cp -a /run/before/. %(directory)s/
rm -r /run/before
dd if=/dev/zero of=%(directory)s/.filler bs=4k 2> /dev/null || true
"""


def free(host: Host, directory: str) -> None:
    """Make room."""
    host.check_output("rm -f %s/.filler", directory)


@contextmanager
def full(host: Host, directory: str, *units: str) -> Iterator[None]:
    """No room in the directory; units that see it as it was when they started are restarted before and after."""
    host.check_output("sh -c %s", FILL % {"directory": directory})
    try:
        restart(host, *units)
        yield
    finally:
        host.check_output("umount --lazy %s", directory)
        restart(host, *units)


def restart(host: Host, *units: str) -> None:
    if units:
        host.check_output("systemctl restart " + " ".join(units))
