# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""A node that goes down again and again gets no clients for a while when it returns. Pure: no clock.

Each of its deaths costs the clients that it has an outage, so it does not get new ones, nor those back that have been
moved away, before it has stayed alive for a time that doubles with each further death. Until then it is treated as if
it were being drained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .config import Damping
from .decide import NodeState, Standing, State


@dataclass(frozen=True)
class History:
    """What is remembered of a node; moments are on the monotonic clock.

    ``downs`` of the last window, ``wait``: how long the latest hold was to last in seconds, ``until``: its end.
    ``lost``: when it went down, while it is; ``forgiven``: the last time that it did so together with all others.
    """

    downs: tuple[float, ...] = ()
    wait: float = 0.0
    until: float = -math.inf
    lost: float | None = None
    forgiven: float | None = None


class Damper:
    """Follows the nodes from one state to the next. A daemon that starts again has forgotten everything."""

    def __init__(self, policy: Damping) -> None:
        self._policy = policy
        self._histories: dict[str, History] = {}

    def damp(self, state: State, now: float) -> State:
        """Return the state with the nodes in it that have to wait.

        Nobody waits while no other node accepts clients, and who was needed once does not have to wait any more.
        """
        histories = {
            name: self._follow(self._histories.get(name, History()), node, name in state.held, now)
            for name, node in state.nodes.items()
        }
        waiting = {name for name, history in histories.items() if now < history.until}
        accepting = {name for name in state.nodes if state.standing(name) is Standing.UP}
        if accepting <= waiting:
            histories.update((name, replace(histories[name], until=now)) for name in accepting)
            waiting -= accepting
        self._histories = histories
        return replace(state, damped=frozenset(waiting))

    def remaining(self, now: float) -> Mapping[str, float]:
        """Return node -> seconds for those that wait."""
        return {name: history.until - now for name, history in self._histories.items() if now < history.until}

    def _follow(self, history: History, node: NodeState, held: bool, now: float) -> History:
        if node.lost_at is None:
            if node.standing is Standing.DOWN:
                return History()  # an operator has taken it away, and may give it back
            return history if history.lost is None else self._return(history, history.lost, now)
        if held:
            # The fault is hardly in the node.
            return replace(history, lost=None, forgiven=node.lost_at)
        # Who was draining had no clients to lose.
        if node.standing is Standing.DOWN and node.before_loss is Standing.UP and node.lost_at != history.forgiven:
            return replace(history, lost=node.lost_at)
        return history

    def _return(self, history: History, lost: float, now: float) -> History:
        """A node is back that had gone down at ``lost``: say how long it waits."""
        downs = (*(down for down in history.downs if lost - down < self._policy.window), lost)
        wait = 0.0 if lost - history.until > self._policy.window else history.wait
        if wait:
            wait = min(2 * wait, self._policy.max_hold)
        elif len(downs) >= self._policy.downs:
            wait = self._policy.hold
        return History(downs, wait, now + wait)
