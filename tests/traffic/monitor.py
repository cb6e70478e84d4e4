# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab's Prometheus and Alertmanager say, and how the status page looks."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from testinfra.host import Host

from .cluster import fetch
from .hosts import REPOSITORY, until

PROMETHEUS, ALERTMANAGER = "http://127.0.0.1:9090", "http://127.0.0.1:9093"
SCREENSHOTS = REPOSITORY / "build" / "screenshots"
# Two steps of a busy machine: a scrape that counts what the maps hold (every half a minute), and the alert's own time.
ALERT_SECONDS = 120


class Monitor:
    def __init__(self, host: Host) -> None:
        self.host = host

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series with a value each; fails the test when Prometheus refuses the question."""
        said = self.host.check_output(
            "curl --silent --max-time 20 --get --data-urlencode query=%s %s/api/v1/query", expression, PROMETHEUS
        )
        answer = json.loads(said)
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer["data"]["result"]  # type: ignore[no-any-return]

    def fired(self, since: float) -> set[str]:
        """Alerts that fired at any time since then (Unix time)."""
        window = max(round(time.time() - since), 1)
        return names(self.query(f'max_over_time(ALERTS{{alertstate="firing"}}[{window}s])'))

    def pending(self, since: float) -> dict[str, float]:
        """Alerts that waited to fire at any time since then (Unix time), and for how many scrapes."""
        window = max(round(time.time() - since), 1)
        series = self.query(f'sum by (alertname) (count_over_time(ALERTS{{alertstate="pending"}}[{window}s]))')
        return {entry["metric"]["alertname"]: float(entry["value"][1]) for entry in series}

    def firing(self) -> set[str]:
        return names(self.query('ALERTS{alertstate="firing"}'))

    def sent(self) -> set[str]:
        """Alerts that Alertmanager knows of."""
        alerts = json.loads(fetch(self.host, f"{ALERTMANAGER}/api/v2/alerts"))
        return {alert["labels"]["alertname"] for alert in alerts}

    def wait_fired(self, alerts: Collection[str], since: float) -> None:
        until(f"{', '.join(alerts)} fired", ALERT_SECONDS, lambda: set(alerts) <= self.fired(since), pause=2)

    def wait_quiet(self) -> None:
        until("no alert fires", ALERT_SECONDS, lambda: not self.firing() and not self.sent(), pause=2)


def names(series: Collection[dict[str, Any]]) -> set[str]:
    return {entry["metric"]["alertname"] for entry in series}


def photograph(page: str, name: str, *, width: int = 1100, height: int = 900, dark: bool = False) -> Path:
    """Let headless Chromium draw a page that needs nothing else, and return the picture."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = SCREENSHOTS / f"{name}.png"
    with tempfile.TemporaryDirectory(prefix="wirefleet-page-") as directory:
        file = Path(directory, "page.html")
        file.write_text(page)
        subprocess.run(
            [
                *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={directory}/profile", f"--window-size={width},{height}"),
                *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
                *(f"--screenshot={picture}", file.as_uri()),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    return picture
