"""From the model name that a client asks for to the targets that will be tried, in order. Synchronous and total."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from policies.base import Ask, Policy
from policies.retry import FailoverOn, Limits
from proxy.errors import Refusal
from proxy.record import Decision
from proxy.upstreams import DirectTargets, Target
from proxy.wire.request import Request

DEFAULT_ROUTE = "*"


class Route(NamedTuple):
    """A public model name, compiled from the config."""

    name: str | None
    """None for a target that was asked for directly, as `provider/model`."""
    targets: Sequence[Target]
    policy: Policy
    policy_name: str
    limits: Limits
    failover_on: FailoverOn


class Plan(NamedTuple):
    """The targets for one request, in the order in which they will be tried."""

    route: Route
    targets: Sequence[Target]
    decision: Decision


class Router:
    """`make_direct(provider, model)` compiles a direct route's targets, or None for an unknown provider."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        aliases: Mapping[str, str],
        direct: Callable[[Sequence[Target]], Route],
        make_direct: Callable[[str, str], Sequence[Target] | None],
        rng: Random,
    ) -> None:
        self._routes = {**routes, **{alias: routes[name] for alias, name in aliases.items()}}
        self._default = routes.get(DEFAULT_ROUTE)
        self._public = sorted(name for name in self._routes if name != DEFAULT_ROUTE)
        self._direct = direct
        self._make_direct = make_direct
        self._kept = DirectTargets()
        self._rng = rng
        self._alone: dict[str, Plan] = {}

    @property
    def public(self) -> Sequence[str]:
        """Route names and aliases, sorted; the default route has no name to ask for."""
        return self._public

    @property
    def targets(self) -> Sequence[Target]:
        """Of all routes; one that stands in two routes is there twice."""
        return [target for name, route in self._routes.items() if route.name == name for target in route.targets]

    def find(self, model: str, direct_allowed: bool) -> Route:
        """An exact route or alias wins, then `provider/model`, then the default route. Raises `Refusal` (404)."""
        route = self._routes.get(model)
        if route is not None and model != DEFAULT_ROUTE:
            return route
        provider, slash, rest = model.partition("/")
        if slash and provider and rest and direct_allowed:
            targets = self._kept.get(provider, rest)
            if targets is None:
                targets = self._make_direct(provider, rest)
                if targets is not None:
                    self._kept.keep(provider, rest, targets)
            if targets is not None:
                return self._direct(targets)
        if self._default is not None:
            return self._default
        raise self._unknown(model, bool(slash) and not direct_allowed)

    def plan(self, route: Route, ask: Request) -> Plan:
        """Asks the route's policy. A route of one target has only one plan, which is kept.

        Targets that cannot be asked for the operation at all are passed over. Raises `Refusal` (400) if none can.
        """
        if len(route.targets) == 1:
            if not (ask.translates or route.targets[0].serves(ask)):
                raise _not_served(ask, route.targets)
            name = route.targets[0].name
            plan = self._alone.get(name)
            if plan is None or plan.route is not route:
                plan = Plan(route, route.targets, Decision(route.policy_name, 1.0, (name,)))
                if route.name is not None:
                    self._alone[name] = plan
            return plan
        serving = route.targets if ask.translates else [one for one in route.targets if one.serves(ask)]
        if not serving:
            raise _not_served(ask, route.targets)
        candidates = [target.candidate() for target in serving]
        choices = route.policy.plan(Ask(ask.model, ask.stream), candidates, self._rng)
        targets = [serving[choice.candidate] for choice in choices]
        names = tuple([target.name for target in targets])
        passed: tuple[tuple[str, str], ...] = ()
        if len(serving) < len(route.targets):
            passed = tuple([(one.name, "operation") for one in route.targets if one not in serving])
        return Plan(route, targets, Decision(route.policy_name, choices[0].propensity, names, passed))

    def _unknown(self, model: str, not_allowed: bool) -> Refusal:
        shown = model[:200]
        if not_allowed:
            hint = " This key may not name a provider directly; ask for a route."
        else:
            near = difflib.get_close_matches(shown, self._public, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
        return Refusal(
            404,
            f"The model `{shown}` does not exist.{hint} GET /v1/models lists what there is.",
            param="model",
            code="model_not_found",
        )


def _not_served(ask: Request, targets: Sequence[Target]) -> Refusal:
    names = ", ".join([target.name for target in targets[:5]])
    return Refusal(
        400,
        f"No target of this model can do `{ask.operation}` ({names}). Ask for a model that can.",
        param="model",
        code="unsupported_operation",
    )
