# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""The status page: the cluster at a glance, in one document that needs nothing else, not even a script. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from wirefleet.log import Event

from .status import Row

REFRESH = 5  # seconds
EVENTS = 20
CONTENT_TYPE = "text/html; charset=utf-8"
ACTIVE, STANDBY, UNREACHABLE = "active", "standby", "unreachable"  # what a balancer may be


@dataclass(frozen=True)
class Balancer:
    """``problem`` is what it says of itself."""

    name: str
    role: str
    problem: str | None = None


@dataclass(frozen=True)
class View:
    """What the page shows. ``history`` has each node's clients over time, the latest last."""

    cluster: str
    host: str  # the balancer whose view this is
    at: float  # Unix time
    nodes: Sequence[Row]
    advice: Mapping[str, str]  # node -> what can be done
    balancers: Sequence[Balancer]
    history: Mapping[str, Sequence[int]]
    interval: float  # seconds from one of these to the next
    events: Iterable[Event]
    stats_url: str


def render(view: View) -> str:
    mood, summary = _summary(view.nodes)
    top = max((count for counts in view.history.values() for count in counts), default=0)
    nodes = "".join(_node(row, view, top) for row in view.nodes)
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="{REFRESH}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(summary)} - {escape(view.cluster)}</title>
<style>{STYLE}</style>
<header>
<h1>Wirefleet <b>{escape(view.cluster)}</b></h1>
<p class="summary {mood}"><i></i>{escape(summary)}</p>
</header>
<main>
<section><h2>Nodes</h2><ul class="cards">{nodes}</ul></section>
<section><h2>Balancers</h2><ul class="cards small">{"".join(map(_balancer, view.balancers))}</ul></section>
<section><h2>Events</h2>{_events(view.events)}</section>
</main>
<footer>As {escape(view.host)} sees it at {_clock(view.at)} UTC, again every {REFRESH} s ·
<a href="{escape(view.stats_url)}">Statistics of HAProxy</a> · <a href="/metrics">metrics</a></footer>
</html>
"""


def _summary(nodes: Sequence[Row]) -> tuple[str, str]:
    """How good is it, in a word for the colour and a sentence."""
    taking = sum(row.kernel == "up" for row in nodes)
    if any("held" in row.kernel for row in nodes):
        return "down", "All nodes fail their checks; the last state is held"
    if taking == len(nodes):
        return "up", f"All {taking} nodes take clients" if taking != 1 else "The node takes clients"
    return ("draining" if taking else "down"), f"{taking} of {len(nodes)} nodes take clients"


def _node(row: Row, view: View, top: int) -> str:
    state, _space, note = row.kernel.partition(" ")
    facts = {
        "clients": row.clients,
        "sessions": row.sessions,
        "weight": row.weight,
        "HAProxy": row.haproxy,
        "for": None if row.since is None else _duration(row.since),
    }
    listed = "".join(f"<div><dt>{name}<dd>{escape(str(v))}</div>" for name, v in facts.items() if v is not None)
    return (
        f'<li class="{_mood(state)}"><h3>{escape(row.node)}<span class="badge"><i></i>{escape(state)} {escape(note)}'
        f"</span></h3>{_sparkline(row.node, view.history.get(row.node, ()), top, view.interval)}<dl>{listed}</dl>"
        f'<p class="reason">{escape(row.reason)}</p>'
        + (f"<p>{escape(view.advice[row.node])}</p></li>" if row.kernel != "up" else "</li>")
    )


def _sparkline(name: str, counts: Sequence[int], top: int, interval: float) -> str:
    """All nodes share one scale, so that they can be compared."""
    if len(counts) < 2:
        return ""
    step = 100 / (len(counts) - 1)
    points = " ".join(f"{i * step:.1f},{27 - 24 * count / (top or 1):.1f}" for i, count in enumerate(counts))
    past = _duration(interval * (len(counts) - 1))
    label = f"Clients of {name} in the last {past}: now {counts[-1]}, at most {max(counts)}"
    return (
        f'<svg viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f'<title>{escape(label)}</title><polygon points="0,30 {points} 100,30"/><polyline points="{points}"/></svg>'
    )


def _balancer(balancer: Balancer) -> str:
    mood = "down" if balancer.role == UNREACHABLE else "draining" if balancer.problem else "up"
    reason = f'<p class="reason">{escape(balancer.problem)}</p>' if balancer.problem else ""
    return (
        f'<li class="{mood}"><h3>{escape(balancer.name)}<span class="badge"><i></i>{escape(balancer.role)}</span></h3>'
        f"{reason}</li>"
    )


def _events(events: Iterable[Event]) -> str:
    latest = sorted(events, key=lambda event: event.at, reverse=True)[:EVENTS]
    if not latest:
        return "<p>None since the daemon started.</p>"
    rows = "".join(
        f"<tr><td><time>{_clock(event.at)}</time><td><b>{escape(event.name)}</b>"
        f"<td>{' '.join(f'<span>{escape(key)}={escape(value)}</span>' for key, value in event.fields.items())}"
        for event in latest
    )
    return f"<table>{rows}</table>"


def _mood(state: str) -> str:
    return state if state in ("up", "draining") else "down"


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def _duration(seconds: float) -> str:
    """The two largest units, without zeros: 3 d 4 h."""
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(int(seconds), size)
        parts.append((count, unit))
    begin = next((i for i, (count, _unit) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[begin : begin + 2] if count) or "0 s"


STYLE = """
:root{--page:#f4f5f7;--card:#fff;--text:#1d2330;--faint:#5b6472;--line:#dfe3e8;--up:#15803d;--draining:#b45309;--down:#c81e1e}
@media(prefers-color-scheme:dark){:root{--page:#12151b;--card:#1b2028;--text:#e7eaf0;--faint:#9aa4b2;--line:#2c333e;
--up:#4ade80;--draining:#fbbf24;--down:#f87171}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1rem;background:var(--page);color:var(--text);
font:16px/1.45 system-ui,sans-serif}
header{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;align-items:baseline;justify-content:space-between}
h1{font-size:1.25rem;font-weight:400;margin:0}
h2{font-size:.8rem;font-weight:600;letter-spacing:.06em;text-transform:uppercase;color:var(--faint);
margin:1.5rem 0 .5rem}
h3{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.5rem;font-size:1.1rem;margin:0;overflow-wrap:anywhere}
.up{--mood:var(--up)}.draining{--mood:var(--draining)}.down{--mood:var(--down)}
.summary{font-size:1.1rem;font-weight:600;color:var(--mood);margin:0}
i{display:inline-block;width:.65em;height:.65em;border-radius:50%;background:var(--mood);margin-right:.45em}
.draining>i,.draining .badge i{border-radius:0}
.down>i,.down .badge i{border-radius:0;transform:rotate(45deg)}
.badge{font-size:.9rem;font-weight:600;color:var(--mood)}
.cards{list-style:none;margin:0;padding:0;display:grid;gap:.75rem;grid-template-columns:repeat(auto-fill,minmax(min(19rem,100%),1fr))}
.cards.small{grid-template-columns:repeat(auto-fill,minmax(min(14rem,100%),1fr))}
.cards li{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--mood);
border-radius:.4rem;padding:.7rem .9rem}
svg{display:block;width:100%;height:2.2rem;margin:.5rem 0 .2rem}
polyline{fill:none;stroke:var(--mood);stroke-width:1.5;vector-effect:non-scaling-stroke}
polygon{fill:var(--mood);opacity:.12}
dl{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:.4rem 0 0}
dt{font-size:.75rem;color:var(--faint)}
dd{margin:0;font-variant-numeric:tabular-nums}
li p{font-size:.9rem;margin:.5rem 0 0;overflow-wrap:anywhere}
.reason{color:var(--faint)}
table{width:100%;border-collapse:collapse;background:var(--card);border:1px solid var(--line);
border-radius:.4rem;font-size:.9rem}
td{padding:.35rem .9rem;vertical-align:top;border-top:1px solid var(--line);overflow-wrap:anywhere}
td:last-child{width:100%}
tr:first-child td{border-top:0}
time{color:var(--faint);white-space:nowrap;font-variant-numeric:tabular-nums}
td b{white-space:nowrap}
td span{margin-right:.6em}
footer{color:var(--faint);font-size:.85rem;margin:1.5rem 0 0}
a{color:inherit}
@media(max-width:40rem){tr{display:block;padding:.4rem 0;border-top:1px solid var(--line)}tr:first-child{border:0}
td{display:inline-block;border:0;padding:0 0 0 .9rem}td:last-child{display:block}}
"""
