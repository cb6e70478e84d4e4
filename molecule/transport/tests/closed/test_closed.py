# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client that wraps for itself can reach: the nodes' WireGuard, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from testinfra.host import Host
from traffic.cluster import Client, Cluster
from traffic.hosts import Lab, until
from traffic.transport import comes_by

# Local port on the client -> what it asks the nodes for; lab_web is the private web server.
TARGETS = {
    9022: ("tcp", "127.0.0.1", 22),
    9080: ("tcp", "lab_web", 80),
    9081: ("tcp", "127.0.0.1", 51820),
    9053: ("udp", "lab_web", 53),
    9051: ("udp", "127.0.0.1", 51820),
}
OTHERS_PAGE = "somebody else's"


@pytest.fixture(scope="module")
def own_shim(c1: Client, web: dict[int, str]) -> Iterator[Host]:
    """Another program with the client's credentials, which asks for more."""
    document = json.loads(c1.host.check_output("cat /etc/wirefleet/default/shim.json"))
    document["inbounds"] = [
        {
            "listen": "127.0.0.1",
            "port": port,
            "protocol": "dokodemo-door",
            "settings": {"network": network, "address": web[4] if address == "lab_web" else address, "port": there},
        }
        for port, (network, address, there) in TARGETS.items()
    ]
    # Root may not go through the tunnel for its own: the question is what the shim opens.
    c1.host.check_output("umask 077; echo %s > /run/own-shim.json", json.dumps(document))
    c1.host.check_output("systemd-run --quiet --unit=own-shim v2ray -config /run/own-shim.json")
    until("it listens", 10, lambda: c1.host.run("nc -z 127.0.0.1 9022").succeeded)
    yield c1.host
    c1.host.check_output("systemctl stop own-shim; rm /run/own-shim.json")


def test_it_can_do_what_it_is_for(own_shim: Host, c1: Client, web: dict[int, str]) -> None:
    """Else nothing below would prove anything."""
    own_shim.check_output("systemctl stop wirefleet-client")
    try:
        own_shim.check_output("wg set wg0 peer %s endpoint 127.0.0.1:9051", c1.service_key)
        until("c1 is served through it", 30, lambda: c1.answered(web[4]))
    finally:
        own_shim.check_output("systemctl start wirefleet-client")
    comes_by(own_shim, "tcp", 30)
    until("c1 is served as before", 30, lambda: c1.answered(web[4]))


@pytest.mark.parametrize("port", [9022, 9081])
def test_no_tcp_of_the_node(own_shim: Host, port: int) -> None:
    said = own_shim.run("(sleep 3; echo) | timeout 6 nc -w 4 127.0.0.1 %s", str(port))
    assert said.stdout == "", "an SSH server speaks first"


def test_no_other_host(own_shim: Host) -> None:
    assert own_shim.run("curl --silent --fail --max-time 5 http://127.0.0.1:9080/").failed


def refused(node: Host) -> int:
    """How many packets of its user the node has kept the shim from sending."""
    listed = json.loads(node.check_output("nft --json list chain inet wirefleet_node output"))
    rule = next(i["rule"] for i in listed["nftables"] if i.get("rule", {}).get("comment", "").startswith("the shim"))
    return int(next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part))


@pytest.mark.parametrize(("address", "port"), [("127.0.0.1", 22), ("lab_web", 80), ("backend", 22), ("::1", 22)])
def test_nor_could_a_shim_with_other_rules(
    lab: Lab, cluster: Cluster, web: dict[int, str], address: str, port: int
) -> None:
    """The kernel says the same."""
    node = cluster.nodes["n1"]
    target = {"lab_web": web[4], "backend": lab.address("n2", "backend", 4)}.get(address, address)
    node.check_output("nc -z -w 3 %s %s", target, str(port))
    before = refused(node)
    assert node.run("runuser -u wirefleet-shim -- nc -z -w 2 %s %s", target, str(port)).failed
    assert refused(node) > before


@contextmanager
def tls_server(host: Host) -> Iterator[None]:
    """Another service on the balancer, with a certificate of its own."""
    certificate = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=www.example.com"
    host.check_output(f"openssl req -x509 {certificate} -keyout /run/www.key -out /run/www.crt 2> /dev/null")
    command = "openssl s_server -quiet -accept 127.0.0.1:8443 -cert /run/www.crt -key /run/www.key -HTTP"
    host.check_output("mkdir -p /run/www && echo %s > /run/www/page", OTHERS_PAGE)
    host.check_output(f"systemd-run --quiet --unit=www --working-directory=/run/www {command}")
    try:
        until("it listens", 10, lambda: host.run("nc -z 127.0.0.1 8443").succeeded)
        yield
    finally:
        host.check_output("systemctl stop www; rm -r /run/www /run/www.key /run/www.crt")


def subject(host: Host, address: str, name: str) -> str:
    """Whose certificate is shown to a client that asks for this name; empty when the connection is closed."""
    asked = host.run(
        "timeout 5 openssl s_client -connect %s:443 -servername %s < /dev/null 2> /dev/null"
        " | openssl x509 -noout -subject 2> /dev/null",
        *(address, name),
    )
    return asked.stdout.strip().rpartition(" ")[2]


def test_other_tls_services_on_the_same_port(lab: Lab, cluster: Cluster, c1: Client) -> None:
    there = lab.address("lb1", "public", 4)
    assert subject(c1.host, there, "vpn.example.com") == "vpn.example.com"
    with tls_server(cluster.balancer):
        assert subject(c1.host, there, "www.example.com") == "www.example.com"
        asked = "--insecure --resolve www.example.com:443:%s https://www.example.com/page"
        assert OTHERS_PAGE in c1.host.check_output(f"curl --silent --http0.9 --max-time 5 {asked}", there)


def test_without_tls_the_door_is_closed(lab: Lab, c1: Client) -> None:
    begin = time.monotonic()
    asked = c1.host.run("echo hello | timeout 8 nc -w 7 %s 443", lab.address("lb1", "public", 4))
    assert asked.stdout == ""
    assert time.monotonic() - begin < 7, "closed, not ignored"
