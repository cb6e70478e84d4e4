# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""What can happen to two balancers, in the lab `pair`, while a client of each family is busy."""

from __future__ import annotations

import itertools
import json
from typing import Any

from traffic.hosts import Lab
from traffic.pair import Pair, Watched
from traffic.site import site_of_checkout

LAB = "pair"


class Balancers:
    """The lab's cluster. Each event returns what clients noticed, and leaves the cluster in order."""

    def __init__(self) -> None:
        self.lab = Lab(LAB)
        self.pair = Pair(self.lab)
        self._rates = itertools.cycle((51, 52))

    def balancer_killed(self) -> Watched:
        active, other = self.pair.roles()
        try:
            with self.pair.watched() as seen:
                self.lab.befall("cut", active)
                self.pair.wait_active(other)
        finally:
            self.lab.befall("mend", active)
        return seen

    def tcp_path_balancer_killed(self) -> Watched:
        return self.balancer_killed()

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

    def _site(self, **variables: Any) -> None:
        run = site_of_checkout(self.lab.inventory, options=("--extra-vars", json.dumps(variables)))
        if run.code:
            raise RuntimeError(run.output)
