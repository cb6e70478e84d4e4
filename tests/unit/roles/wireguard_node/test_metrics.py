# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from wirefleet.command import CommandError
from wirefleet.prometheus import render
from wirefleet_node import metrics
from wirefleet_node.expiry import Expiries
from wirefleet_node.health import CheckResult, Drain, Observation, Verdict
from wirefleet_node.metrics import Peer, PeerCache, page, parse_peers
from wirefleet_node.settings import Config
from wirefleet_node.usage import Network, Usage

Configure = Callable[..., Config]

OK = Verdict("ok", ())
NOW = 1_000_000.0
SEEN = Observation("up", True, {}, checks={"dns": CheckResult(True), "ntp": CheckResult(False)})
PEERS = {"one=": Peer(int(NOW) - 10, 1, 2), "two=": Peer(int(NOW) - 180, 10, 20), "never=": Peer(0, 100, 200)}
REPAIRS = {"rule": 0, "route": 3}
ADOPTIONS = {"adopting": 5, "refused": 1}
EXPIRIES = Expiries({"one=": NOW - 1, "two=": NOW + 60, "never=": NOW + 3600}, written=0)


def lines(config: Config, verdict: Verdict = OK, peers: dict[str, Peer] | None = PEERS) -> list[str]:
    return render(page(config, SEEN, verdict, REPAIRS, peers, ADOPTIONS, NOW)).splitlines()


def test_peers_are_joined_by_key() -> None:
    handshakes = "one=\t999990\ncame=\t0\n"
    transfers = "one=\t1\t2\nwent=\t5\t6\n"
    assert parse_peers(handshakes, transfers) == {"one=": Peer(999990, 1, 2)}


def test_page(configure: Configure) -> None:
    labels = 'cluster="default",node="n1"'
    present = lines(configure())
    for line in [
        f"wirefleet_node_up{{{labels}}} 1",
        f"wirefleet_node_healthy{{{labels}}} 1",
        f'wirefleet_node_info{{{labels},version="0.1.0"}} 1',
        f"wirefleet_node_peers{{{labels}}} 3",
        f"wirefleet_node_peers_recent{{{labels}}} 1",
        f"wirefleet_node_receive_bytes_total{{{labels}}} 111",
        f"wirefleet_node_transmit_bytes_total{{{labels}}} 222",
        f'wirefleet_node_repairs_total{{{labels},what="route"}} 3',
        f'wirefleet_node_adoptions_total{{{labels},result="adopting"}} 5',
        f'wirefleet_node_adoptions_total{{{labels},result="refused"}} 1',
        f'wirefleet_node_check_success{{{labels},name="dns"}} 1',
        f'wirefleet_node_check_success{{{labels},name="ntp"}} 0',
        "# TYPE wirefleet_node_receive_bytes_total counter",
    ]:
        assert line in present
    assert not any("public_key" in line for line in present)


@pytest.mark.parametrize(
    ("verdict", "healthy", "accepting", "draining"),
    [
        (OK, 1, 1, 0),
        (Verdict("drained", ("…",), Drain("a", "b")), 1, 0, 1),
        (Verdict("failed", ("…",)), 0, 0, 0),
        (Verdict("failed", ("…",), Drain("a", "b")), 0, 0, 1),
    ],
)
def test_state(configure: Configure, verdict: Verdict, healthy: int, accepting: int, draining: int) -> None:
    present = lines(configure(), verdict)
    for name, value in {"healthy": healthy, "accepting": accepting, "draining": draining}.items():
        assert f'wirefleet_node_{name}{{cluster="default",node="n1"}} {value}' in present


def test_peer_series_only_when_asked_for(configure: Configure) -> None:
    present = lines(configure(per_peer_metrics=True))
    labels = 'cluster="default",node="n1",public_key="one="'
    assert f"wirefleet_node_peer_latest_handshake_seconds{{{labels}}} 999990" in present
    assert f"wirefleet_node_peer_receive_bytes_total{{{labels}}} 1" in present
    assert f"wirefleet_node_peer_transmit_bytes_total{{{labels}}} 2" in present


def test_without_an_answer_peers_are_unknown_not_zero(configure: Configure) -> None:
    assert not any("wirefleet_node_peers" in line or "bytes" in line for line in lines(configure(), peers=None))


def test_how_full_the_networks_are(configure: Configure) -> None:
    usage = Usage(7, (Network("10.80.0.0/16", 5, 1, 65534),))
    labels = 'cluster="default",node="n1"'
    present = render(metrics.ledger(configure(), usage)).splitlines()
    for line in [
        f'wirefleet_node_network_addresses{{{labels},network="10.80.0.0/16",state="used"}} 5',
        f'wirefleet_node_network_addresses{{{labels},network="10.80.0.0/16",state="quarantined"}} 1',
        f'wirefleet_node_network_size{{{labels},network="10.80.0.0/16"}} 65534',
        f"wirefleet_node_ledger_generation{{{labels}}} 7",
    ]:
        assert line in present
    assert metrics.ledger(configure(), None) == []


def test_who_expires(configure: Configure) -> None:
    labels = 'cluster="default",node="n1"'
    present = render(metrics.expiry(configure(), EXPIRIES, NOW)).splitlines()
    assert f"wirefleet_node_clients_expired{{{labels}}} 1" in present
    assert f"wirefleet_node_next_client_expiry_seconds{{{labels}}} {int(NOW) + 60}" in present
    late = render(metrics.expiry(configure(), EXPIRIES, NOW + 3600))
    assert f"wirefleet_node_clients_expired{{{labels}}} 3" in late
    assert "next_client_expiry" not in late, "nobody is left"
    assert metrics.expiry(configure(), None, NOW) == []


def test_connection_tracking(configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CONNTRACK", tmp_path / "nf_conntrack")
    assert metrics.conntrack(configure()) == [], "the kernel tracks none"
    (tmp_path / "nf_conntrack_count").write_text("12\n")
    (tmp_path / "nf_conntrack_max").write_text("262144\n")
    present = render(metrics.conntrack(configure())).splitlines()
    assert 'wirefleet_node_conntrack_entries{cluster="default",node="n1"} 12' in present
    assert 'wirefleet_node_conntrack_limit{cluster="default",node="n1"} 262144' in present


def test_promtool_finds_nothing(configure: Configure) -> None:
    config = configure(per_peer_metrics=True)
    pages = page(config, SEEN, OK, REPAIRS, PEERS, ADOPTIONS, NOW)
    pages += metrics.ledger(config, Usage(7, (Network("10.80.0.0/16", 5, 1, 65534),)))
    pages += metrics.expiry(config, EXPIRIES, NOW)
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=render(pages), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_ten_thousand_peers_are_cheap(configure: Configure) -> None:
    handshakes = "".join(f"{i:043}=\t{i}\n" for i in range(10_000))
    transfers = "".join(f"{i:043}=\t{i}\t{i}\n" for i in range(10_000))
    started = time.process_time()
    lines(configure(), peers=parse_peers(handshakes, transfers))
    assert time.process_time() - started < 5


def test_wireguard_is_asked_once_however_many_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read(interfaces: Sequence[str]) -> dict[str, Peer]:
        asked.extend(interfaces)
        time.sleep(0.05)
        return PEERS

    monkeypatch.setattr(metrics, "read_peers", read)
    cache = PeerCache(["wg0"])
    threads = [threading.Thread(target=cache.get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["wg0"]
    monkeypatch.setattr(metrics, "CACHE_TIME", 0)
    assert cache.get() == PEERS
    assert asked == ["wg0", "wg0"]


def test_a_failed_read_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_interface: str) -> dict[str, Peer]:
        raise CommandError(["wg"], 1)

    monkeypatch.setattr(metrics, "read_peers", fail)
    cache = PeerCache(["wg0"])
    with pytest.raises(CommandError):
        cache.get()
    monkeypatch.setattr(metrics, "read_peers", lambda _interface: PEERS)
    assert cache.get() == PEERS
