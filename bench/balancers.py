# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What can happen to two balancers, in the lab `pair`, while a client of each family is busy."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from traffic.hosts import Lab
from traffic.pair import BALANCERS, Pair, Watched
from traffic.site import play_of_checkout

LAB = "pair"
SPARE = "lb3"


class Balancers:
    """The lab's cluster. Each event returns what clients noticed, and leaves the cluster in order."""

    def __init__(self) -> None:
        self.lab = Lab(LAB)
        self.pair = Pair(self.lab)
        self._rates = itertools.cycle((51, 52))
        # What makes the spare host a balancer, beside the lab's own inventory.
        self._three = Path(self.lab.directory, "three.yml")

    def balancer_killed(self) -> Watched:
        active, other = self.pair.roles()
        try:
            with self.pair.watched() as seen:
                self.lab.befall("cut", active)
                self.pair.wait_active(other)
        finally:
            self.lab.befall("mend", active)
        return seen

    def balancer_takeover(self) -> Watched:
        active, other = self.pair.roles()
        with self.pair.watched() as seen:
            self.pair.host(active).check_output("systemctl restart wirefleet-keepalived")
            self.pair.wait_active(other)
        return seen

    def balancer_replaced(self) -> Watched:
        _, other = self.pair.roles()
        with self.pair.watched() as seen:
            self.pair.wipe(other)
            self._site(vpn_replaced_hosts=[other])
        return seen

    def balancers_updated(self) -> Watched:
        self.pair.roles()
        with self.pair.watched() as seen:
            self._site(haproxy_lb_source_rate=next(self._rates))
        return seen

    def balancer_added(self) -> Watched:
        """A third one joins, and leaves when its part is over."""
        self.pair.roles()
        self._three.write_text(json.dumps({"haproxy_lbs": {"hosts": {SPARE: {}}}}))
        # After the first time it was decommissioned, and has other keys.
        with self.pair.watched() as seen:
            self._play("site", self._three, vpn_replaced_hosts=[SPARE])
        Pair(self.lab, balancers=(*BALANCERS, SPARE)).roles()
        self._play("decommission", self._three, vpn_target=SPARE)
        return seen

    def _site(self, **variables: Any) -> None:
        self._play("site", **variables)

    def _play(self, playbook: str, *inventories: Path, **variables: Any) -> None:
        run = play_of_checkout(playbook, self.lab.inventory, *inventories, options=("-e", json.dumps(variables)))
        if run.code:
            raise RuntimeError(run.output)
