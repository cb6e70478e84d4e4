# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The agent on a real node: WireGuard, routes and rules in namespaces of its own."""

from __future__ import annotations

import base64
import ctypes
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest
import wirefleet
import wirefleet_node
from wirefleet_node.agent import Evaluation
from wirefleet_node.health import Observation, Verdict

from ..namespaces import eventually

CLONE_NEWNET = 0x40000000  # linux/sched.h
PYTHONPATH = os.pathsep.join(str(Path(package.__path__[0]).parent) for package in (wirefleet, wirefleet_node))

RULESET = """
table inet wirefleet_node {
  chain forward {
    type filter hook forward priority filter
    iifname "backend" oifname "backend" drop
  }
}
"""

SETUP = """
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir /run/wireguard
ip link set lo up
ip link add backend type veth peer name far
ip link set far up
ip link set backend up
ip address add 10.9.0.11/24 dev backend
ip address add fd00:9::11/64 dev backend nodad
sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.backend.rp_filter=0
echo ready
exec wireguard-go -f wg0
"""


class Node:
    """A node in namespaces of its own; its WireGuard process keeps them alive."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self._main = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-e", "-c", SETUP], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._main.stdout is not None
        assert self._main.stdout.readline() == b"ready\n"
        self._inside = ThreadPoolExecutor(1, initializer=self._enter)
        self.agent: subprocess.Popen[bytes] | None = None
        eventually(lambda: self.run("ip", "link", "set", "wg0", "up").returncode == 0)
        eventually(lambda: self.run("wg", "set", "wg0", "listen-port", "51820").returncode == 0)

    def _enter(self) -> None:
        """Take one thread of the test, and nothing else, into the node's network."""
        with open(f"/proc/{self._main.pid}/ns/net") as namespace:
            assert ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET) == 0

    def _command(self, *argv: str) -> list[str]:
        return ["nsenter", f"--target={self._main.pid}", "--net", "--mount", *argv]

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._command(*argv), capture_output=True, text=True, timeout=20)

    def _cli(self, *argv: str) -> list[str]:
        python = ["env", f"PYTHONPATH={PYTHONPATH}", sys.executable, "-m", "wirefleet_node"]
        return [*python, "--config", str(self.config), *argv]

    def cli(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self._cli(*argv))

    def launch_agent(self, journal: int | IO[bytes] = subprocess.DEVNULL) -> None:
        self.agent = subprocess.Popen(self._command(*self._cli("run")), stderr=journal)

    def start_agent(self, journal: int | IO[bytes] = subprocess.DEVNULL) -> None:
        self.launch_agent(journal)
        eventually(lambda: self.get("/healthz")[0] != 0)

    def get(self, path: str) -> tuple[int, str]:
        return self._request("GET", path)

    def adopt(self, *peers: dict[str, str]) -> tuple[int, str]:
        return self._request("POST", "/v1/adopt", json.dumps({"version": 1, "peers": peers}))

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        """Return status and body, status 0 when nobody answers."""

        def request() -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", 8051, timeout=10)
            try:
                connection.request(method, path, body)
                response = connection.getresponse()
                assert response.headers["Server"] == f"wirefleet-node/{wirefleet.__version__}"
                return response.status, response.read().decode()
            except OSError:
                return 0, ""
            finally:
                connection.close()

        return self._inside.submit(request).result()

    def knock(self) -> int | type[OSError]:
        """Ask as a balancer does, with its patience; return the status or the kind of failure."""

        def request() -> int | type[OSError]:
            connection = http.client.HTTPConnection("127.0.0.1", 8051, timeout=0.5)
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status
            except OSError as error:
                return type(error)
            finally:
                connection.close()

        return self._inside.submit(request).result()

    def reasons(self) -> list[str]:
        reasons: list[str] = json.loads(self.get("/healthz")[1])["reasons"]
        return reasons

    def routes(self) -> list[str]:
        return [
            line.strip()
            for family in ("-4", "-6")
            for line in self.run("ip", family, "route", "show", "table", "51820").stdout.splitlines()
        ]

    def stop(self) -> None:
        self._inside.shutdown()
        for process in (self.agent, self._main):
            if process is not None:
                process.kill()
                process.wait()


@pytest.fixture
def node(document: dict[str, Any], tmp_path: Path) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    document["sysctls"]["net/ipv4/conf/backend/rp_filter"] = "0"
    document["checks"] = [
        {"name": "flag", "command": ["sh", "-c", f"! cat {tmp_path}/sick >&2"], "timeout": 2, "interval": 0.2}
    ]
    (tmp_path / "node.nft").write_text(RULESET)
    (tmp_path / "node.json").write_text(json.dumps(document))
    node = Node(tmp_path / "node.json")
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
def running(node: Node) -> Node:
    node.start_agent()
    assert node.get("/healthz") == (200, json.dumps(HEALTHY) + "\n")
    return node


HEALTHY: dict[str, Any] = {"version": wirefleet.__version__, "node": "n1", "state": "ok", "reasons": [], "drain": None}


@pytest.mark.root
def test_the_table_comes_back_after_a_flush(running: Node) -> None:
    before = running.run("nft", "list", "ruleset").stdout
    assert 'oifname "backend" drop' in before
    running.run("nft", "flush", "ruleset")
    eventually(lambda: running.run("nft", "list", "ruleset").stdout == before)
    eventually(lambda: 'repairs_total{cluster="default",node="n1",what="table"} 1' in running.get("/metrics")[1])
    assert running.get("/healthz")[0] == 200


@pytest.mark.root
def test_rules_and_routes_come_back_after_a_link_flap(running: Node) -> None:
    before = running.routes()
    assert len(before) == 4
    running.run("ip", "rule", "del", "priority", "5182")
    running.run("ip", "link", "set", "backend", "down")
    eventually(lambda: running.get("/healthz")[0] == 503)
    assert any("10.9.0.10" in reason for reason in running.reasons())
    running.run("ip", "link", "set", "backend", "up")
    eventually(lambda: sorted(running.routes()) == sorted(before))
    assert "fwmark 0xca6c lookup 51820" in running.run("ip", "rule").stdout
    eventually(lambda: running.get("/healthz")[0] == 200)


@pytest.mark.root
def test_an_expired_peer_goes_and_stays_away(node: Node, document: dict[str, Any], tmp_path: Path) -> None:
    keys = [base64.b64encode(bytes([i]) * 31 + b"\0").decode() for i in (1, 2)]
    expiry = tmp_path / "expiry.json"
    expiry.write_text(json.dumps({"version": 1, "expires": {keys[0]: time.time() + 3600}}))
    node.config.write_text(json.dumps({**document, "expiry": str(expiry)}))

    def add() -> None:
        for i, peer in enumerate(keys):
            assert node.run("wg", "set", "wg0", "peer", peer, "allowed-ips", f"10.80.0.{i}/32").returncode == 0

    def present() -> set[str]:
        return set(node.run("wg", "show", "wg0", "peers").stdout.split())

    add()
    node.start_agent()
    assert present() == set(keys)
    assert 'wirefleet_node_clients_expired{cluster="default",node="n1"} 0' in node.get("/metrics")[1]
    (tmp_path / "new").write_text(json.dumps({"version": 1, "expires": {keys[0]: time.time() - 1}}))
    os.replace(tmp_path / "new", expiry)
    eventually(lambda: present() == {keys[1]})
    assert 'wirefleet_node_clients_expired{cluster="default",node="n1"} 1' in node.get("/metrics")[1]
    add()
    eventually(lambda: present() == {keys[1]}, timeout=30)
    expiry.write_text("{")
    eventually(lambda: node.get("/healthz")[0] == 503)
    assert any("expiry.json" in reason for reason in node.reasons())


@pytest.mark.root
def test_elements_follow_their_file(node: Node, document: dict[str, Any], tmp_path: Path) -> None:
    access = tmp_path / "access.nft"

    def write(address: str) -> None:
        access.write_text(f"add set inet wirefleet_node who {{ type ipv4_addr; elements = {{ {address} }}; }}\n")

    def elements() -> str:
        return node.run("nft", "list", "set", "inet", "wirefleet_node", "who").stdout

    write("10.80.0.5")
    node.config.write_text(json.dumps({**document, "nft": {**document["nft"], "access": str(access)}}))
    node.start_agent()
    assert "10.80.0.5" in elements()
    write("10.80.0.6")
    eventually(lambda: "10.80.0.6" in elements())


@pytest.mark.root
def test_drain_and_undrain(running: Node) -> None:
    assert running.cli("drain", "--reason", "new kernel").returncode == 0
    eventually(lambda: running.get("/healthz")[0] == 404)
    document = json.loads(running.get("/healthz")[1])
    assert (document["state"], document["drain"]["reason"]) == ("drained", "new kernel")
    assert running.cli("status").returncode == 1
    assert running.cli("undrain").returncode == 0
    eventually(lambda: running.get("/healthz")[0] == 200)
    status = running.cli("status")
    host = {"kernel": os.uname().release, "wireguard": "userspace"}
    assert (status.returncode, json.loads(status.stdout)) == (0, {**HEALTHY, "host": host})


@pytest.mark.root
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("ip link del wg0", "interface wg0: missing"),
        ("ip link set wg0 down", "interface wg0: down"),
        ("wg set wg0 listen-port 40000", "interface wg0: nothing listens on UDP port 51820"),
        ("sysctl -q -w net.ipv4.ip_forward=0", "sysctl net/ipv4/ip_forward: is 0, wanted 1"),
    ],
)
def test_a_fault_is_told_within_seconds(running: Node, command: str, reason: str) -> None:
    running.run(*command.split())
    eventually(lambda: running.get("/healthz")[0] == 503, timeout=5)
    assert running.reasons() == [reason]
    assert 'wirefleet_node_healthy{cluster="default",node="n1"} 0' in running.get("/metrics")[1]


@pytest.mark.root
def test_an_operators_check_decides_too(running: Node, tmp_path: Path) -> None:
    (tmp_path / "sick").write_text("no name server\n")
    eventually(lambda: running.get("/healthz")[0] == 503)
    assert running.reasons() == ["check flag: exit 1: no name server"]
    (tmp_path / "sick").unlink()
    eventually(lambda: running.get("/healthz")[0] == 200)


@pytest.mark.root
def test_checks_are_refused_until_the_first_look_is_over(node: Node, document: dict[str, Any]) -> None:
    """Balancers know by that that the node is alive. A check without an answer would have its clients moved."""
    document["checks"] = [{"name": "slow", "command": ["sleep", "1"], "timeout": 5, "interval": 10}]
    node.config.write_text(json.dumps(document))
    node.launch_agent()
    answers: set[int | type[OSError]] = set()

    def answered() -> bool:
        answers.add(answer := node.knock())
        return answer is not ConnectionRefusedError

    eventually(answered)
    assert answers == {ConnectionRefusedError, 200}


def test_metrics_count_peers_and_show_no_key(running: Node) -> None:
    key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="  # the public key of wg(8)'s examples
    running.run("wg", "set", "wg0", "peer", key)
    eventually(lambda: 'wirefleet_node_peers{cluster="default",node="n1"} 1' in running.get("/metrics")[1])
    assert key not in running.get("/metrics")[1]


@pytest.mark.root
def test_a_busy_ruleset_does_not_keep_the_agent_busy(running: Node) -> None:
    assert running.agent is not None
    ticks = Path(f"/proc/{running.agent.pid}/stat")
    before = ticks.read_text().split()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        running.run("nft", "add", "table", "inet", "noise")
        running.run("nft", "delete", "table", "inet", "noise")
    after = ticks.read_text().split()
    own_and_children = sum(int(b) - int(a) for a, b in zip(before[13:17], after[13:17]))
    assert own_and_children / os.sysconf("SC_CLK_TCK") < 1


@pytest.mark.root
def test_prepare_sets_everything_up_or_says_what_not(node: Node) -> None:
    assert node.cli("prepare").returncode == 0
    assert len(node.routes()) == 4
    assert "wirefleet_node" in node.run("nft", "list", "tables").stdout
    node.run("ip", "link", "del", "backend")
    result = node.cli("prepare")
    assert result.returncode == 1
    assert "10.9.0.10" in result.stderr


@pytest.mark.root
def test_status_without_an_agent_looks_itself_and_changes_nothing(node: Node) -> None:
    result = node.cli("status")
    assert result.returncode == 1
    document = json.loads(result.stdout)
    assert document["state"] == "failed"
    assert document["reasons"][0] == "the agent does not answer"
    assert "nftables table inet wirefleet_node: missing" in document["reasons"]
    assert node.routes() == []


def test_a_verdict_ages() -> None:
    verdict = Verdict("ok", ())
    evaluation = Evaluation(100.0, Observation("up", True, {}), verdict)
    assert evaluation.verdict_at(104.9) == verdict
    assert evaluation.verdict_at(107.0) == Verdict("failed", ("the agent's last look was 7 s ago",))


CLIENT = """
wireguard-go wgc
wg genpsk > psk
wg genkey > client
wg genkey > service
wg set wgc listen-port 5001 private-key client peer "$(wg pubkey < service)" preshared-key psk allowed-ips 10.80.0.1/32
wg set wg0 private-key service peer "$(wg pubkey < client)" preshared-key psk allowed-ips 10.80.0.5/32,fd00:80::5/128
ip link set wgc up
ip address add 10.80.0.1/16 dev wg0
"""
AT = "10.9.0.11:5001"


class Client:
    """A client in the node's own namespaces, which knows no endpoint and so never speaks first."""

    def __init__(self, node: Node, directory: Path) -> None:
        self._node = node
        done = node.run("sh", "-e", "-c", f"umask 077; cd {directory}; {CLIENT}")
        assert done.returncode == 0, done.stderr
        self.key = node.run("wg", "show", "wg0", "peers").stdout.strip()

    @property
    def conf(self) -> str:
        return self._node.run("wg", "showconf", "wg0").stdout

    @property
    def handshake(self) -> int:
        return int(self._node.run("wg", "show", "wg0", "latest-handshakes").stdout.split()[1])

    def stop(self) -> None:
        self._node.run("ip", "link", "del", "wgc")


@pytest.fixture
def client(running: Node, tmp_path: Path) -> Iterator[Client]:
    client = Client(running, tmp_path)
    yield client
    client.stop()


@pytest.mark.root
def test_a_client_is_adopted_and_nothing_else_about_it_changes(running: Node, client: Client) -> None:
    before = client.conf
    assert json.loads(running.get("/v1/peers")[1])["peers"] == []
    status, body = running.adopt({"public_key": client.key, "endpoint": AT})
    assert (status, json.loads(body)["adopting"]) == (200, [client.key])
    eventually(lambda: client.handshake > 0)
    assert client.conf.replace(f"Endpoint = {AT}\n", "") == before, "with its networks, its secret and no keepalive"
    eventually(lambda: running.get("/v1/peers")[1].count(f'"handshake": {client.handshake}') == 1)
    seen = json.loads(running.get("/v1/peers")[1])
    assert seen["peers"] == [{"public_key": client.key, "endpoint": AT, "handshake": client.handshake}]
    assert abs(seen["time"] - time.time()) < 5
    news = json.loads(running.get(f"/v1/peers?epoch={seen['epoch']}&since={seen['seq']}")[1])
    assert (news["epoch"], news["peers"]) == (seen["epoch"], [])


@pytest.mark.root
def test_the_journal_says_who_is_connected_from_where(node: Node, document: dict[str, Any], tmp_path: Path) -> None:
    node.config.write_text(json.dumps({**document, "audit": {"interval": None}}))
    with (tmp_path / "journal").open("wb") as journal:
        node.start_agent(journal)
    client = Client(node, tmp_path)
    try:
        assert node.adopt({"public_key": client.key, "endpoint": AT})[0] == 200
        line = f'event=client_connected client="{client.key}" endpoint={AT}\n'
        eventually(lambda: (tmp_path / "journal").read_text().count(line) == 1)
    finally:
        client.stop()


@pytest.mark.root
def test_an_old_session_does_not_keep_it_from_beginning_anew(running: Node, client: Client) -> None:
    running.adopt({"public_key": client.key, "endpoint": AT})
    eventually(lambda: client.handshake > 0)
    first = client.handshake
    time.sleep(1.1)  # the clock of handshakes has seconds
    running.adopt({"public_key": client.key, "endpoint": AT})
    eventually(lambda: client.handshake > first)


@pytest.mark.root
@pytest.mark.parametrize(
    ("peer", "status"),
    [
        ({"endpoint": "10.9.0.11"}, 400),
        ({"public_key": "x"}, 400),
        ({"allowed_ips": "0.0.0.0/0"}, 400),
        ({"public_key": "8W3DSpjZQrzOc3DtvV7iK0HeJTQ7wZ1KUI/Id6uEsWo="}, 200),  # unknown: refused one by one
    ],
)
def test_a_wrong_request_changes_nothing(running: Node, client: Client, peer: dict[str, str], status: int) -> None:
    before = client.conf
    asked, body = running.adopt({"public_key": client.key, "endpoint": AT, **peer})
    assert asked == status
    assert client.key not in json.loads(body).get("adopting", [])
    assert (client.conf, client.handshake) == (before, 0)
    assert running.get("/v1/peers?since=x")[0] == 400
    assert running.get(f"/v1/peers?since={'9' * 5000}")[0] == 400, "more than int() reads"


@pytest.mark.root
def test_a_drained_node_adopts_nobody(running: Node, client: Client) -> None:
    before = client.conf
    assert running.cli("drain").returncode == 0
    eventually(lambda: running.get("/healthz")[0] == 404)
    assert running.adopt({"public_key": client.key, "endpoint": AT})[0] == 409
    assert (client.conf, client.handshake) == (before, 0)


@pytest.mark.root
def test_without_wireguard_nobody_is_listed_as_gone(running: Node) -> None:
    running.run("ip", "link", "del", "wg0")
    assert running.get("/v1/peers")[0] == 503


@pytest.mark.root
@pytest.mark.parametrize("adopters", [[], ["fd00:1::1", "127.0.0.2"]])
def test_only_balancers_are_answered(node: Node, document: dict[str, Any], adopters: list[str]) -> None:
    node.config.write_text(json.dumps({**document, "adopters": adopters}))
    node.start_agent()
    assert node.get("/v1/peers")[0] == 403
    assert node.adopt({"public_key": "x", "endpoint": AT})[0] == 403
    assert node._request("POST", "/v1/release", "{}")[0] == 403
    assert node.get("/healthz")[0] == 200
