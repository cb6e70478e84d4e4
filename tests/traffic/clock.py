# SPDX-License-Identifier: GPL-3.0-or-later
"""Another time on one node. All hosts of a lab share the machine's clock, which nobody may touch.

The agent is Python, and gets another ``time.time`` when it starts: by that it dates whatever it says and does.
WireGuard's clock is the machine's: what `wg` says of handshakes is shifted on the way to the agent, each by what the
host's clock was off when the handshake was made, as WireGuard would have written it down. What WireGuard itself tells
clients is not covered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from testinfra.host import Host

DIRECTORY = "/usr/local/lib/wirefleet-lab/clock"
OFFSET = f"{DIRECTORY}/seconds"
# Python imports this module, if there is one, before anything else.
SITECUSTOMIZE = f"""\
import time
true = time.time
def moved():
    with open("{OFFSET}") as offset:
        return true() + int(offset.read())
time.time = moved
"""
# The agent sees it in place of wireguard-tools' own. /tmp is the agent's.
WG = f"""\
#!/usr/bin/python3
import json, os, pathlib, subprocess, sys
result = subprocess.run(["/usr/bin/wg", *sys.argv[1:]], stdout=subprocess.PIPE, close_fds=False)
text = result.stdout.decode()
if sys.argv[1:2] == ["show"] and sys.argv[3:] == ["latest-handshakes"]:
    seen = pathlib.Path("/tmp/handshakes")
    offset = int(pathlib.Path("{OFFSET}").read_text())
    known = json.loads(seen.read_text()) if seen.exists() else {{}}
    now = {{}}
    for key, at in map(str.split, text.splitlines()):
        now[key] = known[key] if known.get(key, [None])[0] == at else [at, offset]
    draft = seen.with_suffix(f".{{os.getpid()}}")
    draft.write_text(json.dumps(now))
    os.replace(draft, seen)
    text = "".join(f"{{key}}\\t{{int(at) + off if int(at) else 0}}\\n" for key, (at, off) in now.items())
sys.stdout.write(text)
sys.exit(result.returncode)
"""
DROP_IN = "/etc/systemd/system/wirefleet-node.service.d/clock.conf"
UNIT = f"""\
[Service]
Environment=PATH={DIRECTORY}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH={DIRECTORY}:%s
"""


class Clock:
    """What time the agent of a node believes it is."""

    def __init__(self, node: Host) -> None:
        self._node = node

    def set(self, seconds: int) -> None:
        """Let it jump to so many seconds ahead of the true time."""
        self._node.check_output("echo %s > %s.new && mv %s.new %s", str(seconds), OFFSET, OFFSET, OFFSET)


@contextmanager
def movable(node: Host) -> Iterator[Clock]:
    """Give the node's agent a clock that can be set."""
    words = node.check_output("systemctl show --property=Environment --value wirefleet-node").split()
    path = dict(word.split("=", 1) for word in words)["PYTHONPATH"]
    node.check_output("mkdir -p %s %s", DIRECTORY, DROP_IN.rpartition("/")[0])
    node.check_output("printf %%s %s > %s/wg && chmod 755 %s/wg", WG, DIRECTORY, DIRECTORY)
    node.check_output("echo %s > %s/sitecustomize.py", SITECUSTOMIZE, DIRECTORY)
    node.check_output("echo %s > %s", UNIT % path, DROP_IN)
    clock = Clock(node)
    clock.set(0)
    node.check_output("systemctl daemon-reload && systemctl restart wirefleet-node")
    try:
        yield clock
    finally:
        node.check_output(
            "rm -r %s %s; systemctl daemon-reload && systemctl restart wirefleet-node", DIRECTORY, DROP_IN
        )
