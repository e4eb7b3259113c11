"""A target as it is, without what the proxy makes of it: every request is sent once and at once.

A load that asks what a provider carries must not spare it: cool-downs after a 429, breakers, retries and failover are
the proxy's answer to overload, and hide where that begins.
"""

from __future__ import annotations

from random import Random

from policies.retry import Limits
from proxy.condition import Condition, Hold
from proxy.router import Route
from proxy.wire.request import Request


class Unmoved(Condition):
    """Whatever a target answers, it may be asked."""

    __slots__ = ()

    def barred(self, now: float, heeds_breaker: bool = True, ask: Request | None = None) -> str:
        return ""

    def hold(self, now: float, heeds_breaker: bool, ask: Request) -> Hold | None:
        return None


def plain(route: Route, rng: Random) -> Route:
    """The route with one try for each request; its targets forget whatever they are told."""
    for target in route.targets:
        target.condition = Unmoved(target.name, target.condition.credential, rng)
    return route._replace(limits=Limits(1, 1), hedges=None)
