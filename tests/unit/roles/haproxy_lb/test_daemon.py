# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The daemon against the real kernel, in a namespace of its own; HAProxy's answers are scripted here."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from wirefleet import nft
from wirefleet.command import CommandError, run
from wirefleet.httpd import Request, Response, Server
from wirefleet_steer import daemon as module
from wirefleet_steer import haproxy, kernel, probe
from wirefleet_steer.adoption import Session
from wirefleet_steer.agents import Heard
from wirefleet_steer.census import census
from wirefleet_steer.config import Adoption, Config, Status, load
from wirefleet_steer.daemon import HANDOVER_AFTER, STALE_AFTER, Steer, prepare
from wirefleet_steer.decide import Standing
from wirefleet_steer.elements import EMPTY, client_key
from wirefleet_steer.haproxy import HAProxyError, Report

from .conftest import render, required_sysctls, steer_config, steer_variables

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network")]

UP = Report("UP", 1, "L7OK", "Layer7 check passed")
DOWN = Report("DOWN", 1, "L4TOUT", "Layer4 timeout")

Says = Callable[..., None]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    nodes = steer_config(tmp_path)["nodes"]
    del nodes["n3"]["addresses"]["ip"]  # reached by IPv6 only
    nodes["n1"].update(probe_interface="wfp1", probe_peer={"public_key": "K"})
    (tmp_path / "steer.json").write_text(json.dumps(steer_config(tmp_path, nodes=nodes)))
    (tmp_path / "steer.nft").write_text(render("steer.nft.j2", steer_variables()))
    return load(tmp_path / "steer.json")


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Says:
    """Set what HAProxy answers from now on; without arguments, it does not."""

    def set_answer(**reports: Report) -> None:
        def answer(path: str, backend: str) -> dict[str, Report]:
            if not reports:
                raise HAProxyError(f"{path}: Connection refused")
            return reports

        monkeypatch.setattr(haproxy, "servers", answer)

    set_answer()
    return set_answer


@pytest.fixture
def steer(config: Config, says: Says) -> Steer:
    """A daemon that has just started, with all nodes up."""
    prepare(config)
    steer = Steer(config)
    steer.start()
    says(n1=UP, n2=UP, n3=UP)
    steer.round()
    return steer


def written(family: str) -> object:
    return kernel.read(family, "wirefleet")


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return re.findall(r"^event=(\w+)", capsys.readouterr().err, re.MULTILINE)


def test_prepare_puts_the_table_in_place_once(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        prepare(config)
        assert events(capsys) == []
        assert written("ip") == written("ip6") == EMPTY


def test_the_kernel_follows_haproxy_in_both_families(steer: Steer, says: Says) -> None:
    for family, accepting in (("ip", 2), ("ip6", 3)):
        assert written(family) == steer.elements[family]
        assert len(steer.elements[family]["accepting"]) == accepting
    says(n1=UP, n2=DOWN, n3=UP)
    steer.round()
    for family, accepting in (("ip", 1), ("ip6", 2)):
        assert written(family) == steer.elements[family]
        assert len(steer.elements[family]["accepting"]) == accepting


def test_a_change_is_one_transaction_and_none_is_none(
    steer: Steer, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: list[str] = []
    monkeypatch.setattr(module, "apply", scripts.append)
    steer.round()
    assert scripts == []
    says(n1=UP, n2=Report("UP", 0, "L7OK"), n3=UP)
    steer.round()
    steer.round()
    assert len(scripts) == 1
    assert "ip wirefleet initiators { 10.9.0.12 }" in scripts[0]
    assert "ip6 wirefleet initiators { fd00:9::12 }" in scripts[0]


def test_one_event_for_each_change(steer: Steer, says: Says, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    says(n1=DOWN, n2=UP, n3=UP)
    steer.round()
    steer.round()
    assert capsys.readouterr().err == 'event=node node=n1 state=down was=up haproxy=DOWN reason="Layer4 timeout"\n'
    assert steer.transitions["n1", Standing.DOWN] == 1


def test_haproxy_is_gone(steer: Steer, says: Says, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    before = written("ip")
    says()
    steer.round()
    steer.round()
    assert written("ip") == before
    assert events(capsys) == ["failed"]
    assert "Connection refused" in (steer.problem() or "")
    response = steer.answer(Request("/healthz"))
    assert response is not None
    assert response.status == 503
    says(n1=UP, n2=UP, n3=UP)
    steer.round()
    assert events(capsys) == ["recovered"]
    assert steer.problem() is None


def test_a_new_daemon_holds_what_the_kernel_has_until_haproxy_answers(steer: Steer, says: Says, config: Config) -> None:
    says(n1=DOWN, n2=UP, n3=Report("DRAIN", 1, "L7OK"))
    steer.round()
    before = written("ip")
    says()
    successor = Steer(config)
    successor.start()
    successor.round()
    assert {name: successor.state.standing(name) for name in config.nodes} == {
        "n1": Standing.DOWN,
        "n2": Standing.UP,
        "n3": Standing.DRAINING,
    }
    assert written("ip") == before


def test_a_flushed_table_is_restored_even_without_haproxy(
    steer: Steer, says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written("ip"), written("ip6")
    says()
    steer.round()
    capsys.readouterr()
    for table in ("ip wirefleet", "ip6 wirefleet"):
        run(["nft", "delete", "table", *table.split()])
        steer.inspect()
        assert (written("ip"), written("ip6")) == before
        assert events(capsys) == ["table_restored"]
    assert steer.totals["restores"] == 2


def test_elements_that_somebody_removed_are_put_back(steer: Steer) -> None:
    before = written("ip")
    run(["nft", "flush", "set", "ip", "wirefleet", "initiators"])
    run(["nft", "add element ip wirefleet responders { 192.0.2.1 }"])
    steer.inspect()
    assert written("ip") == before


def test_a_table_that_can_not_be_loaded_is_tried_again(
    steer: Steer, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written("ip")
    rules = Path(config.ruleset).read_text()
    capsys.readouterr()
    Path(config.ruleset).write_text("nonsense")
    run(["nft", "flush", "ruleset"])
    steer.inspect()
    steer.round()
    assert events(capsys) == ["failed"]
    assert "nonsense" in (steer.problem() or "")
    Path(config.ruleset).write_text(rules)
    steer.round()
    assert events(capsys) == ["table_restored", "recovered"]
    assert written("ip") == before


def test_a_failed_write_is_made_good(steer: Steer, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(script: str) -> None:
        raise CommandError(["nft"], 1, "Resource busy")

    says(n1=UP, n2=DOWN, n3=UP)
    with monkeypatch.context() as patch:
        patch.setattr(module, "apply", fail)
        steer.round()
    assert steer.problem() == "table: nft: exit 1: Resource busy"
    steer.round()
    assert steer.problem() is None
    assert len(steer.elements["ip"]["accepting"]) == 1
    assert written("ip") == steer.elements["ip"]


def test_a_table_that_is_flushed_again_before_it_is_filled(steer: Steer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `systemctl restart nftables`, which flushes when it stops and when it starts."""

    def flush_first(script: str) -> None:
        run(["nft", "flush", "ruleset"])
        nft.apply(script)

    before = written("ip"), written("ip6")
    run(["nft", "flush", "ruleset"])
    with monkeypatch.context() as patch:
        patch.setattr(module, "apply", flush_first)
        steer.inspect()
    assert "table" in (steer.problem() or "")
    steer.round()
    assert steer.problem() is None
    assert (written("ip"), written("ip6")) == before


def test_only_a_tunnel_that_does_not_answer_is_renewed(
    steer: Steer, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[tuple[str, str]] = []
    monkeypatch.setattr(probe, "renew", lambda interface, key: renewed.append((interface, key)))
    now = module.time.monotonic()
    stale, fresh = probe.ALIVE + 1, probe.ALIVE - 1
    for report, age in (
        (UP, stale),
        (Report("DOWN", 1, "L7STS"), stale),
        (Report("MAINT", 1, "L4TOUT"), stale),
        (DOWN, fresh),
        (DOWN, stale),
        (DOWN, None),
    ):
        says(n1=report, n2=UP, n3=DOWN)
        now += max(probe.PAUSES)
        monkeypatch.setattr(probe, "handshake_age", lambda interface, key, unix, age=age: age)
        monkeypatch.setattr(module.time, "monotonic", lambda now=now: now)
        steer.round()
        steer.round()
    assert renewed == [("wfp1", "K")] * 2


def test_a_tunnel_is_left_alone_for_long_enough_every_now_and_then(
    steer: Steer, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node under load answers with a cookie, which WireGuard shows at its own next attempt: after 5.33 s at most."""
    renewed: list[float] = []
    begin = module.time.monotonic() + 60
    monkeypatch.setattr(probe, "renew", lambda interface, key: renewed.append(now))
    monkeypatch.setattr(probe, "handshake_age", lambda interface, key, unix: None)
    says(n1=DOWN, n2=UP, n3=UP)
    for tick in range(250):
        now = begin + tick / 10
        monkeypatch.setattr(module.time, "monotonic", lambda now=now: now)
        steer.round()
    pauses = [round(later - earlier, 1) for earlier, later in zip(renewed, renewed[1:])]
    assert max(pauses) > 5.33 + 1
    assert pauses.count(2.0) > len(pauses) / 2, "a node that was away is back at once all the same"


def test_a_probe_that_can_not_be_renewed_stops_nothing_else(steer: Steer, says: Says) -> None:
    says(n1=DOWN, n2=UP, n3=UP)
    steer._probes_due = 0
    steer.round()
    assert "probe n1" in steer.troubles, "there is no interface wfp1"
    assert steer.problem() is None, "the kernel follows HAProxy all the same"
    assert len(steer.elements["ip"]["accepting"]) == 1


def test_a_loop_that_hangs_is_a_problem(steer: Steer) -> None:
    steer.round_at -= STALE_AFTER + 1
    assert steer.problem() == "the loop's last round was 6 s ago"


def test_pages(steer: Steer, says: Says) -> None:
    run(["nft", "add element ip wirefleet sessions { 1 : 0x10000002, 2 : 0x10000002 }"])
    says(n1=DOWN, n2=DOWN, n3=DOWN)
    steer.round()
    page = steer.answer(Request("/metrics"))
    assert page is not None
    for sample in (
        'wirefleet_steer_haproxy_up{cluster="default"} 1',
        'wirefleet_steer_active{cluster="default"} 1',
        'wirefleet_steer_holding{cluster="default"} 1',
        'wirefleet_steer_holds_total{cluster="default"} 1',
        'wirefleet_steer_node_held{cluster="default",node="n1"} 1',
        'wirefleet_steer_node_state{cluster="default",node="n1",state="up"} 1',
        'wirefleet_steer_node_state{cluster="default",node="n1",state="down"} 0',
        'wirefleet_steer_node_weight{cluster="default",node="n1"} 1',
        'wirefleet_steer_node_slots{cluster="default",node="n1",family="ip6"} 315',
        'wirefleet_steer_node_map_elements{cluster="default",node="n2",family="ip",map="sessions"} 2',
        'wirefleet_steer_map_elements{cluster="default",family="ip",map="sessions"} 2',
        'wirefleet_steer_map_elements{cluster="default",family="ip6",map="affinity"} 0',
        'wirefleet_steer_dropped_packets_total{cluster="default",family="ip6",reason="no_node"} 0',
    ):
        assert f"\n{sample}\n" in page.body
    assert steer.answer(Request("/nothing")) is None


@pytest.fixture
def adopting(config: Config, says: Says) -> Steer:
    """A daemon that has heard of a client of n1 over IPv4 and of one of n2 over IPv6; a third one's node is down."""
    prepare(config)
    steer = Steer(replace(config, adoption=Adoption(rate=100, max_idle=3600)))
    steer.start()
    says(n1=UP, n2=UP, n3=DOWN)
    for node, key, endpoint in (
        ("n1", "a", "198.51.100.1:1001"),
        ("n2", "b", "[2001:db8:100::2]:1002"),
        ("n3", "c", "198.51.100.3:1003"),
    ):
        assert steer._adopter is not None
        steer._adopter.roster.update(node, {key: Session(endpoint, int(time.time()))}, whole=True)
    return steer


def test_a_node_in_another_time_may_begin_nothing_until_it_is_back(adopting: Steer) -> None:
    assert adopting._adopter is not None
    for offset, initiators in [(0.0, ["n1", "n2"]), (86400.0, ["n1"]), (0.0, ["n1", "n2"])]:
        for node, ahead in [("n1", 0.0), ("n2", offset)]:
            adopting._adopter._inbox.put(Heard(node, {}, False, ahead, time.monotonic()))
        adopting.round()
        adopting.round()
        addresses = {adopting.config.nodes[name].addresses["ip"] for name in initiators}
        assert set(kernel.read("ip", "wirefleet")["initiators"]) == addresses  # type: ignore[index]


def affinity() -> dict[str, dict[int, int]]:
    return {family: dict(census(family, "wirefleet", "affinity")) for family in ("ip", "ip6")}


@pytest.mark.parametrize("loss", ["the daemon starts with an empty table", "nft flush ruleset"])
def test_an_empty_table_is_told_whose_clients_are_whose(adopting: Steer, loss: str) -> None:
    if loss.startswith("nft"):
        adopting.round()
        run(loss.split())
        adopting.inspect()
        assert affinity() == {"ip": {}, "ip6": {}}
    adopting.round()
    assert affinity() == {"ip": {0x10000001: 1}, "ip6": {0x10000002: 1}}
    listed = run(["nft", "list", "map", "ip", "wirefleet", "affinity"])
    assert "198.51.100.1 . 1001" in listed
    run(["nft", "flush map ip wirefleet affinity"])
    adopting.round()
    assert affinity()["ip"] == {}, "each is told once: what packets teach is newer"


def test_a_table_that_holds_something_is_not_told_anything(config: Config, adopting: Steer) -> None:
    run(["nft", "add element ip wirefleet affinity { 198.51.100.1 . 1001 : 0x10000002 }"])
    again = Steer(adopting.config)
    again.start()
    again._adopter = adopting._adopter
    again.round()
    assert affinity() == {"ip": {0x10000002: 1}, "ip6": {}}


W, L = {"ip": "198.51.100.1:1001", "ip6": "[2001:db8:100::1]:1001"}, {"ip": "192.0.2.1:7", "ip6": "[2001:db8:200::1]:7"}


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_client_that_returns_to_an_address_stays_its_nodes(
    adopting: Steer, family: str, active: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was n1's there, went on to L, and was adopted by n2. Data teaches nothing of an address that is known."""
    steer = Steer(replace(adopting.config, vips=() if active else (VIP,)))
    steer.start()
    steer.round()
    adopter, now = steer._adopter, int(time.time())
    assert adopter is not None

    def hear(node: str, endpoint: str, handshake: int) -> None:
        adopter._inbox.put(Heard(node, {"x": Session(endpoint, handshake)}, True, 0.0, time.monotonic()))
        steer.round()

    hear("n1", W[family], now - 30)
    hear("n1", L[family], now - 30)
    for endpoint, node in ((W, "0x10000001"), (L, "0x10000002")):  # as the packets teach it
        kernel.assign(family, "wirefleet", [(client_key(family, endpoint[family]), node)])
    hear("n2", L[family], now - 10)
    assert affinity()[family] == {0x10000001: 1, 0x10000002: 1}
    capsys.readouterr()
    hear("n2", W[family], now - 10)
    assert affinity()[family] == {0x10000002: 2}
    assert capsys.readouterr().err == f"event=affinity_corrected family={family} clients=1\n"
    hear("n2", L[family], now - 10)
    assert capsys.readouterr().err == "", "that is what the table knows"


def test_a_node_has_no_say_in_where_another_has_a_client(adopting: Steer) -> None:
    assert adopting._adopter is not None
    now = int(time.time())
    adopting.round()
    before = affinity()
    for endpoint in ("192.0.2.1:7", "198.51.100.1:1001"):  # the latter is where n1 has "a"
        for key in ("b", "a"):
            session = {key: Session(endpoint, now + 1)}
            adopting._adopter._inbox.put(Heard("n2", session, False, 0.0, time.monotonic()))
            adopting.round()
    assert affinity()["ip"][0x10000001] == before["ip"][0x10000001] == 1


def test_what_the_kernel_knows_better_stays(config: Config) -> None:
    prepare(config)
    run(["nft", "add element ip wirefleet affinity { 198.51.100.7 . 7 : 0x10000003 }"])
    owners = [(client_key("ip", f"198.51.100.{n}:{n}"), "0x10000001") for n in range(1, 20)]
    assert kernel.teach("ip", "wirefleet", owners) == [(client_key("ip", "198.51.100.7:7"), "0x10000001")]
    assert affinity()["ip"] == {0x10000001: 18, 0x10000003: 1}
    assert kernel.teach("ip", "wirefleet", []) == []


def test_pages_of_adoption(adopting: Steer, steer: Steer) -> None:
    adopting.round()
    page = adopting.answer(Request("/metrics"))
    assert page is not None
    for sample in (
        'wirefleet_steer_node_clients{cluster="default",node="n1"} 1',
        'wirefleet_steer_node_agent_heard{cluster="default",node="n1"} 1',
        'wirefleet_steer_adoptions_total{cluster="default",result="adopted"} 0',
        'wirefleet_steer_adoption_duration_seconds_count{cluster="default",cause="failure"} 0',
    ):
        assert f"\n{sample}\n" in page.body
    clients = adopting.answer(Request("/v1/clients"))
    assert clients is not None
    assert json.loads(clients.body) == {"version": 1, "clients": {"n1": 1, "n2": 1, "n3": 1}}
    tenants = adopting.answer(Request("/v1/clients", {"node": "n1"}))
    assert tenants is not None
    said = json.loads(tenants.body)
    assert (said["version"], said["node"], said["handshakes"].keys()) == (1, "n1", {"a"})
    assert said["complete"] is False, "no agent was looked at"
    assert adopting.answer(Request("/v1/clients", {"node": "n9"})) is None
    assert steer.answer(Request("/v1/clients")) is None, "adoption is off"


def test_promtool_finds_nothing_in_the_metrics(adopting: Steer) -> None:
    adopting.round()
    body = adopting.answer(Request("/metrics")).body  # type: ignore[union-attr]
    for sample in (
        'wirefleet_steer_map_elements{cluster="default",family="ip",map="limits"} 0',
        'wirefleet_steer_map_size{cluster="default",family="ip6",map="sessions"} 1048576',
        'wirefleet_steer_handshakes_total{cluster="default",family="ip",result="begun"} 0',
        'wirefleet_steer_node_transitions_total{cluster="default",node="n1",state="up"} 1',
        'wirefleet_steer_shared_addresses{cluster="default"} 0',
    ):
        assert f"\n{sample}\n" in body
    assert 'reason="begun"' not in body
    result = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_metrics_of_the_certificate(config: Config, steer: Steer) -> None:
    certified = Steer(replace(config, certificate_not_after=1801418400))
    certified.start()
    page = certified.answer(Request("/metrics"))
    assert page is not None
    assert '\nwirefleet_steer_certificate_not_after_seconds{cluster="default"} 1801418400\n' in page.body
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=page.body, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    without = steer.answer(Request("/metrics"))
    assert without is not None
    assert "certificate" not in without.body


def test_status_page(adopting: Steer) -> None:
    """One other balancer answers, and one does not."""
    health = {"version": "0.1.0", "problem": None, "active": False}
    other = Server([("127.0.0.1", 0)], lambda _request: Response.from_json(200, health), "test")
    other.start()
    shown = Status("lb1", (), 8404, {"lb2": other.addresses[0], "lb3": ("127.0.0.1", 9)})
    steer = Steer(replace(adopting.config, status=shown))
    steer.start()
    assert adopting.answer(Request("/")) is None, "nobody asked for one"
    steer._adopter = adopting._adopter
    steer.round()
    for answer in (steer.answer, steer.answer_people):
        response = answer(Request("/", server="fd77::1"))
        assert response is not None
        assert response.content_type == "text/html; charset=utf-8"
        assert "2 of 3 nodes take clients" in response.body
        assert 'href="http://[fd77::1]:8404/"' in response.body
        roles = re.findall(r"<h3>(lb\d)<span class=\"badge\"><i></i>(\w+)", response.body)
        assert roles == [("lb1", "active"), ("lb2", "standby"), ("lb3", "unreachable")]
    assert steer.answer_people(Request("/v1/clients")) is None, "for balancers, through the mesh"


VIP = "198.51.100.10"


@pytest.fixture
def standby(adopting: Steer) -> Steer:
    """The other balancer is active, and its copies have taught this one's table something."""
    adopting.round()
    run(["nft", "flush map ip wirefleet affinity"])
    run(["nft", "add element ip wirefleet affinity { 198.51.100.7 . 7 : 0x10000003 }"])
    standby = Steer(replace(adopting.config, vips=(VIP,)))
    standby.start()
    standby._adopter = adopting._adopter
    standby.round()
    return standby


def health(steer: Steer) -> dict[str, object]:
    response = steer.answer(Request("/healthz"))
    assert response is not None
    answer: dict[str, object] = json.loads(response.body)
    return answer


def test_who_becomes_active_tells_its_table_what_copies_have_not(
    standby: Steer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert health(standby)["active"] is False
    assert affinity()["ip"] == {0x10000003: 1}
    capsys.readouterr()
    run(["ip", "address", "add", VIP, "dev", "lo"])
    standby.round()
    standby.round()
    assert health(standby)["active"] is True
    assert events(capsys) == ["active", "clients_taught", "clients_taught"]
    assert affinity()["ip"] == {0x10000001: 1, 0x10000003: 1}
    run(["ip", "address", "del", VIP, "dev", "lo"])
    standby.round()
    assert events(capsys) == ["standby"]


def test_who_was_frozen_has_missed_something(standby: Steer) -> None:
    standby.round()
    assert affinity()["ip"] == {0x10000003: 1}
    standby.round_at -= STALE_AFTER + 1
    standby.round()
    assert affinity()["ip"] == {0x10000001: 1, 0x10000003: 1}
    assert standby._adopter is not None
    standby._adopter.roster.update("n1", {"a": Session("198.51.100.1:2001", int(time.time()))}, whole=True)
    standby.round()
    assert affinity()["ip"] == {0x10000001: 2, 0x10000003: 1}, "what agents say a moment later is news, too"


def test_the_sign_that_all_is_in_order(config: Config, says: Says, tmp_path: Path) -> None:
    sign = tmp_path / "in-order"
    prepare(config)
    steer = Steer(replace(config, in_order=str(sign)))
    steer.start()
    steer.round()
    assert not sign.exists(), "HAProxy does not answer"
    says(n1=UP, n2=UP, n3=DOWN)
    steer.round()
    assert sign.exists()
    sign.unlink()
    Path(config.ruleset).write_text("nonsense")
    run(["nft", "flush", "ruleset"])
    steer.inspect()
    steer.round()
    assert not sign.exists(), "the table can not be put back"


def test_who_forwards_nothing_is_not_in_order(
    config: Config, says: Says, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """HAProxy's checks and the mesh are this host's own packets, and go on."""
    sign = tmp_path / "in-order"
    wanted = required_sysctls(["ip", "ip6"])
    prepare(config)
    steer = Steer(replace(config, in_order=str(sign), sysctls=wanted))
    run(["sysctl", "-q", "-w", *(f"{path}={value}" for path, value in wanted.items())])
    steer.start()
    says(n1=UP, n2=UP, n3=UP)
    steer.round()
    assert sign.exists()
    sign.unlink()
    capsys.readouterr()
    for path in wanted:
        run(["sysctl", "-q", "-w", f"{path}=0"])
        steer.round()
        steer.round()
        assert not sign.exists()
        assert capsys.readouterr().err == f'event=failed what=forwarding error="sysctl {path}: is 0, wanted 1"\n'
        assert health(steer)["problem"] == f"forwarding: sysctl {path}: is 0, wanted 1"
        page = steer.answer(Request("/metrics"))
        assert page is not None
        failing = re.findall(r'^wirefleet_steer_failing{.*part="(\w+)"} 1$', page.body, re.MULTILINE)
        assert failing == ["forwarding"]
        run(["sysctl", "-q", "-w", f"{path}=1"])
        steer.round()
        assert events(capsys) == ["recovered"]
        assert sign.exists()
        sign.unlink()


def test_who_sees_no_node_hands_over_later_than_a_standby(
    config: Config, says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody sees a node, no standby is in order when the active one gives up: it stays."""
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    prepare(config)
    run(["ip", "address", "add", VIP, "dev", "lo"])
    active, standby = (
        Steer(replace(config, vips=(address,), in_order=str(tmp_path / name)))
        for name, address in (("active", VIP), ("standby", "198.51.100.99"))
    )
    for steer in (active, standby):
        steer.start()

    def signs() -> list[str]:
        for steer in (active, standby):
            steer.round()
        found = [name for name in ("active", "standby") if (tmp_path / name).exists()]
        for name in found:
            (tmp_path / name).unlink()
        return found

    says(n1=UP, n2=UP, n3=UP)
    assert signs() == ["active", "standby"]
    says(n1=DOWN, n2=DOWN, n3=DOWN)
    assert signs() == ["active"]
    now += HANDOVER_AFTER - 0.1
    assert signs() == ["active"]
    now += 0.2
    assert signs() == []
    says(n1=UP, n2=DOWN, n3=DOWN)
    assert signs() == ["active", "standby"]


@pytest.mark.parametrize("address", [VIP, "198.51.100.99"], ids=["active", "standby"])
def test_who_has_nobody_to_steer_to_is_not_in_order(config: Config, says: Says, tmp_path: Path, address: str) -> None:
    """The active one may hold the nodes that it saw; this one has started since."""
    sign = tmp_path / "in-order"
    prepare(config)
    run(["ip", "address", "add", VIP, "dev", "lo"])
    steer = Steer(replace(config, vips=(address,), in_order=str(sign)))
    steer.start()
    unchecked = Report("UP", 1, "INI")
    for reports in ({"n1": unchecked, "n2": unchecked, "n3": unchecked}, {"n1": DOWN, "n2": DOWN, "n3": DOWN}):
        says(**reports)
        steer.round()
        assert steer.problem() is None
        assert not sign.exists()
    says(n1=DOWN, n2=Report("NOLB", 1, "L7OKC"), n3=DOWN)
    steer.round()
    assert sign.exists(), "a drained node keeps its sessions"


def test_a_sign_that_can_not_be_given_stops_nothing_else(config: Config, says: Says, tmp_path: Path) -> None:
    prepare(config)
    steer = Steer(replace(config, in_order=str(tmp_path / "missing" / "in-order")))
    steer.start()
    says(n1=UP, n2=UP, n3=UP)
    steer.round()
    assert "sign" in steer.troubles
    assert steer.problem() is None


def test_only_an_active_balancer_moves_clients_back(
    config: Config, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(config)
    steer = Steer(replace(config, vips=(VIP,), adoption=Adoption(rate=100, max_idle=3600, rebalance=5)))
    steer.start()
    rounds: list[object] = []
    monkeypatch.setattr(steer._rebalancer, "round", rounds.append)
    says(n1=UP, n2=UP, n3=UP)
    steer.round()
    assert rounds == []
    run(["ip", "address", "add", VIP, "dev", "lo"])
    steer.round()
    assert len(rounds) == 1


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Servers whose connections HAProxy was told to end."""
    servers: list[tuple[str, int]] = []
    monkeypatch.setattr(haproxy, "end_connections", lambda _path, _backend, *server: servers.append(server))
    return servers


def test_who_comes_over_tcp_is_sent_away_from_a_drained_node_once(
    steer: Steer, says: Says, ended: list[tuple[str, int]]
) -> None:
    says(n1=replace(UP, status="NOLB", id=7), n2=UP, n3=DOWN)
    steer.round()
    steer.round()
    assert ended == [("n1", 7)], "HAProxy itself ends those of a server that is down"


def test_where_nobody_else_is_there_connections_stay(steer: Steer, says: Says, ended: list[tuple[str, int]]) -> None:
    drained = replace(UP, status="NOLB", id=7)
    says(n1=drained, n2=drained, n3=drained)
    steer.round()
    assert ended == []
    says(n1=drained, n2=UP, n3=drained)
    steer.round()
    assert [name for name, _ in ended] == ["n1", "n3"]


def test_connections_that_could_not_be_ended_are_tried_again(
    steer: Steer, says: Says, monkeypatch: pytest.MonkeyPatch, ended: list[tuple[str, int]]
) -> None:
    def fail(*_arguments: object) -> None:
        raise HAProxyError("busy")

    with monkeypatch.context() as busy:
        busy.setattr(haproxy, "end_connections", fail)
        says(n1=replace(UP, status="DRAIN", id=7), n2=UP, n3=UP)
        steer.round()
    assert "connections" in steer.troubles
    steer.round()
    assert (ended, steer.troubles) == ([("n1", 7)], {})
