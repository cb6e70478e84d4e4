# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""One picture of the cluster from what its balancers and nodes say of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VERSION = 1  # of the report
UNITS = ((86400, "d"), (3600, "h"), (60, "min"))  # seconds, from the largest

Answers = Mapping[str, Mapping[str, Any]]  # host -> {"answer": what its daemon said, or None, "problem": why not}


def cluster_report(cluster: str, collection: str, nodes: Answers, balancers: Answers) -> dict[str, Any]:
    """Return the report: versions, then `nodes`, `balancers` and `differences`, by host."""
    views: dict[str, dict[str, Any]] = {node: {} for node in nodes}
    for balancer, said in balancers.items():
        for row in (said["answer"] or {}).get("nodes", []):
            views.setdefault(row["node"], {})[balancer] = {key: row[key] for key in row if key != "node"}
    reported = {node: _node(nodes.get(node), seen) for node, seen in views.items()}
    return {
        "version": VERSION,
        "cluster": cluster,
        "collection": collection,
        "nodes": reported,
        "balancers": {name: _balancer(said) for name, said in balancers.items()},
        "differences": list(_differences(collection, reported, balancers)),
    }


def _node(said: Mapping[str, Any] | None, seen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Each balancer's view beside the node's own."""
    agent = said["answer"] if said else None
    return {
        "state": _agreed({balancer: row["kernel"] for balancer, row in seen.items()}),
        "weight": _agreed({balancer: row["weight"] for balancer, row in seen.items()}),
        # Only one of several balancers has the traffic at a time.
        "clients": max((row["clients"] for row in seen.values() if row["clients"] is not None), default=None),
        "sessions": max((row["sessions"] for row in seen.values()), default=None),
        "since": min((row["since"] for row in seen.values() if row["since"] is not None), default=None),
        "reason": _reason(said, seen),
        "drain": agent and agent["drain"],
        "agent": agent,
        "balancers": dict(seen),
    }


def _reason(said: Mapping[str, Any] | None, seen: Mapping[str, Mapping[str, Any]]) -> str:
    """Say why the node is not as it should be: its own word first, then that of a balancer. Empty when it is."""
    if said and said["problem"]:
        return said["problem"]
    if said and said["answer"]["reasons"]:
        return "; ".join(said["answer"]["reasons"])
    return "; ".join(f"{balancer}: {row['reason']}" for balancer, row in seen.items() if row["kernel"] != "up")


def _balancer(said: Mapping[str, Any]) -> dict[str, Any]:
    """Its own state; what it says of nodes stands with them."""
    answer = said["answer"]
    if answer is None:
        return {"problems": [said["problem"]], "active": None, "daemon": None, "haproxy": None, "tables": {}}
    problems = [f"{part}: {answer[part]['problem']}" for part in ("daemon", "haproxy") if answer[part]["problem"]]
    problems += [f"the {family} table is missing" for family, there in answer["tables"].items() if not there]
    return {
        "problems": problems,
        "active": answer["daemon"].get("active"),  # an older daemon does not say
        "daemon": answer["daemon"]["version"],
        "haproxy": answer["haproxy"]["version"],
        "tables": answer["tables"],
    }


def _differences(collection: str, nodes: Mapping[str, Mapping[str, Any]], balancers: Answers) -> Iterable[str]:
    """Yield what hosts do not agree about, one sentence each."""
    answering = [name for name, said in balancers.items() if said["answer"]]
    for name, node in nodes.items():
        for key, what in (("kernel", "state"), ("weight", "weight")):
            found = {balancer: str(row[key]) for balancer, row in node["balancers"].items()}
            if len(set(found.values())) > 1:
                yield f"{name}: {what} is " + ", ".join(f"{value} at {b}" for b, value in found.items())
        strangers = [balancer for balancer in answering if balancer not in node["balancers"]]
        if strangers:
            yield f"{name}: not known to {', '.join(strangers)}"
        if node["agent"] and node["agent"]["version"] != collection:
            yield f"{name}: its agent is {node['agent']['version']}, the collection here {collection}"
    for name in answering:
        running = balancers[name]["answer"]["daemon"]["version"]
        if running not in (None, collection):
            yield f"{name}: its daemon is {running}, the collection here {collection}"


def _agreed(values: Mapping[str, Any]) -> Any:
    """The one value, or who says what; None when nobody says anything."""
    distinct = set(values.values())
    if len(distinct) > 1:
        return ", ".join(f"{value} at {name}" for name, value in values.items())
    return next(iter(distinct), None)


def _takes_clients(row: Mapping[str, Any]) -> bool:
    """Say whether a balancer gives it clients, in one family at least, and be it because the last state is held."""
    return "up" in row["kernel"].replace(",", "").split()


def status_lines(report: Mapping[str, Any]) -> list[str]:
    """Lay a report out for people: a sentence, the nodes, the balancers, and where they differ."""
    nodes, balancers = report["nodes"], report["balancers"]
    up = sum(any(_takes_clients(row) for row in node["balancers"].values()) for node in nodes.values())
    known = any(node["balancers"] for node in nodes.values())
    taking = f"{up} of {len(nodes)} nodes take clients" if known else "no balancer was asked, or answered"
    clients = [node["clients"] for node in nodes.values() if node["clients"] is not None]
    total = f", {sum(clients)} clients" if clients else ""
    return [
        f"Cluster {report['cluster']}: {taking}{total}.",
        "",
        *_table(
            ["node", "state", "weight", "clients", "sessions", "since", "agent", "kernel", "wireguard", "reason"],
            [[name, *_node_cells(node)] for name, node in nodes.items()],
        ),
        "",
        *_table(
            ["balancer", "role", "daemon", "haproxy", "tables", "problems"],
            [[name, *_balancer_cells(balancer)] for name, balancer in balancers.items()],
        ),
        *(["", "Differences:", *report["differences"]] if report["differences"] else []),
    ]


def _node_cells(node: Mapping[str, Any]) -> list[Any]:
    agent = node["agent"] or {}
    host = agent.get("host", {})
    since = None if node["since"] is None else duration(node["since"])
    shown = [node[key] for key in ("weight", "clients", "sessions")]
    return [
        node["state"] or "unknown",
        *shown,
        since,
        agent.get("version"),
        host.get("kernel"),
        host.get("wireguard"),
        node["reason"],
    ]


def _balancer_cells(balancer: Mapping[str, Any]) -> list[Any]:
    tables = ", ".join(family for family, there in balancer["tables"].items() if there)
    role = {True: "active", False: "standby"}.get(balancer["active"])
    return [role, balancer["daemon"], balancer["haproxy"], tables or None, "; ".join(balancer["problems"])]


def duration(seconds: int) -> str:
    """Say roughly how long: 45 s, 12 min, 3 h, 2 d."""
    return next((f"{seconds // size} {unit}" for size, unit in UNITS if seconds >= size), f"{seconds} s")


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Align columns by their longest cell; what nobody knows is a dash."""
    lines = [[name.upper() for name in header], *(["-" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
