"""From the model name that a client asks for to the targets that will be tried, in order. Synchronous and total."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from policies.base import Candidate, Passed, Policy
from policies.compose import arrange
from policies.hedge import Hedges
from policies.ranked import Ranked
from policies.retry import FailoverOn, Limits
from proxy.asked import Asked
from proxy.clock import SECOND, Clock, RealClock
from proxy.errors import Refusal
from proxy.learned import Learner
from proxy.record import Decision
from proxy.upstreams import DirectTargets, Target
from proxy.wire import controls as wire
from proxy.wire.controls import Controls
from proxy.wire.request import Headers, Request

DEFAULT_ROUTE = "*"
UNSERVED = "unsupported_operation"
"""Code of the refusal where no target has the operation at all."""


class Route(NamedTuple):
    """A public model name, compiled from the config."""

    name: str | None
    """None for a target that was asked for directly, as `provider/model`."""
    targets: Sequence[Target]
    policy: Policy
    policy_name: str
    limits: Limits
    failover_on: FailoverOn
    explore: float = 0.0
    """Share of the requests whose first target is drawn evenly."""
    learner: Learner | None = None
    """What its policy learns by."""
    hedges: Hedges | None = None
    """When a second attempt may run beside a late first; None: never."""


class Caller(NamedTuple):
    """Who asks, when, and with which wishes."""

    key: str = ""
    """Name of the client's key."""
    at: float = 0.0
    """Wall time, seconds since the epoch."""
    headers: Headers = ()
    controls: Controls = wire.NONE
    direct: bool = True
    """May ask for `provider/model`."""
    routes: frozenset[str] | None = None
    """The routes that it may ask for; None: all."""


ANYBODY = Caller()


class Plan(NamedTuple):
    """The targets for one request, in the order in which they will be tried."""

    route: Route
    targets: Sequence[Target]
    decision: Decision
    dry: bool = False
    """The client wants to see the plan, and no more."""
    spare: Sequence[Target] = ()
    """What should not be asked for now, and is when everything else has failed."""


class Router:
    """`make_direct(provider, model)` compiles a direct route's targets, or None for an unknown provider."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        aliases: Mapping[str, str],
        direct: Callable[[Sequence[Target]], Route],
        make_direct: Callable[[str, str], Sequence[Target] | None],
        rng: Random,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or RealClock()
        self._routes = {**routes, **{alias: routes[name] for alias, name in aliases.items()}}
        self._default = routes.get(DEFAULT_ROUTE)
        self._public = sorted(name for name in self._routes if name != DEFAULT_ROUTE)
        self._direct = direct
        self._make_direct = make_direct
        self._kept = DirectTargets()
        self._rng = rng
        self._alone: dict[str, Plan] = {}
        self._turns: dict[str | None, int] = {}

    @property
    def public(self) -> Sequence[str]:
        """Route names and aliases, sorted; the default route has no name to ask for."""
        return self._public

    @property
    def targets(self) -> Sequence[Target]:
        """Of all routes; one that stands in two routes is there twice."""
        return [target for name, route in self._routes.items() if route.name == name for target in route.targets]

    def public_to(self, routes: frozenset[str] | None) -> Sequence[str]:
        """Those of `public` that lead to one of these routes; None: all."""
        return [name for name in self._public if routes is None or self._routes[name].name in routes]

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

    def planned(self, ask: Request, caller: Caller) -> Plan:
        """The plan for the request's `model`, and after its targets those of the request's further `models`.

        Raises `Refusal` (400, 403, 404).
        """
        controls = caller.controls
        if controls is wire.NONE:
            return self.plan(self._allowed(ask.model, caller), ask, caller)
        plans, refusals = [], []
        for model in dict.fromkeys((ask.model, *controls.models)):
            route = self._allowed(model, caller)
            try:
                plans.append(self.plan(route, ask, caller))
            except Refusal as refusal:
                refusals.append(refusal)
        if not plans:
            raise refusals[0]
        plan = plans[0] if len(plans) == 1 else _one_after_the_other(plans)
        return plan._replace(dry=True) if controls.dry_run else plan

    def _allowed(self, model: str, caller: Caller) -> Route:
        route = self.find(model, caller.direct)
        if caller.routes is not None and route.name is not None and route.name not in caller.routes:
            raise Refusal(
                403,
                f"This key may not ask for the model `{model[:200]}`. GET /v1/models lists what it may ask for.",
                type="permission_error",
                param="model",
                code="model_not_allowed",
                should_retry=False,
            )
        return route

    def plan(self, route: Route, ask: Request, caller: Caller = ANYBODY) -> Plan:
        """Asks the route's policy. A route of one target has only one plan, which is kept.

        Targets that cannot be asked for the operation at all are passed over. Raises `Refusal` (400, 404) if none is
        left.
        """
        if len(route.targets) == 1 and caller.controls is wire.NONE and not route.targets[0].lacks:
            return self._only(route, ask)
        asked = self._asked(route, ask, caller)
        serving: Sequence[Target] = route.targets
        passed: list[tuple[str, str]] = []
        if not ask.translates:
            serving = [one for one in route.targets if one.serves(ask)]
            passed = [(one.name, Passed.OPERATION) for one in route.targets if one not in serving]
        now = self._clock.now() / SECOND
        candidates = [target.candidate(now, ask) for target in serving]
        policy = route.policy
        if route.learner is not None:
            candidates = route.learner.fill(candidates, serving, caller.at or self._clock.wall())
        if caller.controls is not wire.NONE:
            serving, candidates = _wished(caller.controls, serving, candidates, passed)
            policy = _SORTED.get(caller.controls.sort, policy)
        if not candidates:
            raise _none_left(ask, passed)
        found = arrange(policy, asked, candidates, self._rng, route.explore)
        if found.passed_over:
            passed += [(candidates[place].name, reason) for place, reason in found.passed_over]
        order = found.order
        if not order:
            raise _none_left(ask, passed)
        if not caller.controls.fallbacks and not caller.controls.order and len(order) > 1:
            passed += [(candidates[choice.candidate].name, Passed.NO_FALLBACK) for choice in order[1:]]
            order = order[:1]
        targets = [serving[choice.candidate] for choice in order]
        head = order[0]
        decision = Decision(
            route.policy_name,
            head.propensity,
            tuple([target.name for target in targets]),
            tuple(passed),
            () if head.score is None else tuple([choice.score for choice in order]),
            () if head.propensity == 1.0 else tuple([choice.propensity for choice in order]),
            head.why,
            asked.looked_at("unit") or "",
        )
        spare: Sequence[Target] = ()
        if found.passed_over and (caller.controls.fallbacks or caller.controls.order):
            spare = [serving[place] for place, reason in found.passed_over if reason in _DOUBTFUL]
        return Plan(route, targets, decision, spare=spare)

    def _only(self, route: Route, ask: Request) -> Plan:
        target = route.targets[0]
        if not (ask.translates or target.serves(ask)):
            raise _none_left(ask, [(target.name, Passed.OPERATION)])
        plan = self._alone.get(target.name)
        if plan is None or plan.route is not route:
            plan = Plan(route, route.targets, Decision(route.policy_name, 1.0, (target.name,)))
            if route.name is not None:
                self._alone[target.name] = plan
        return plan

    def _asked(self, route: Route, ask: Request, caller: Caller) -> Asked:
        controls = caller.controls
        return Asked(
            ask, caller.at, caller.key, caller.headers, controls.unit, controls.tags, lambda: self._turn(route.name)
        )

    def _turn(self, route: str | None) -> int:
        turn = self._turns.get(route, 0)
        self._turns[route] = turn + 1
        return turn

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


_DOUBTFUL = {Passed.BREAKER, Passed.COOLING, Passed.PARKED, Passed.MISSING}
"""Reasons that may have passed since: asked before a client is told that all have failed."""
_SORTED: Mapping[str, Policy] = {sort: Ranked(sort) for sort in wire.SORTS}


def _one_after_the_other(plans: Sequence[Plan]) -> Plan:
    """The first plan, with the other plans' targets as further fallbacks; its route's limits hold for all."""
    first = plans[0]
    targets = list(first.targets)
    passed = list(first.decision.passed_over)
    for plan in plans[1:]:
        known = {target.name for target in targets}
        targets += [target for target in plan.targets if target.name not in known]
        passed += plan.decision.passed_over
    names = tuple([target.name for target in targets])
    none = [None] * (len(targets) - len(first.targets))
    decision = first.decision._replace(
        candidates=names,
        passed_over=tuple([(name, reason) for name, reason in dict(passed).items() if name not in names]),
        scores=(*first.decision.scores, *none) if first.decision.scores else (),
        propensities=(*first.decision.propensities, *[0.0 for _ in none]) if first.decision.propensities else (),
    )
    spare = {target.name: target for plan in plans for target in plan.spare if target.name not in names}
    return Plan(first.route, targets, decision, spare=tuple(spare.values()))


def _wished(
    controls: Controls, targets: Sequence[Target], candidates: Sequence[Candidate], passed: list[tuple[str, str]]
) -> tuple[list[Target], list[Candidate]]:
    """What the request's own `provider` object leaves; its `order` becomes the priorities."""
    kept_targets, kept = [], []
    if controls.sort or controls.max_input is not None or controls.max_output is not None:
        candidates = [_priced(target, one) for target, one in zip(targets, candidates, strict=True)]
    for target, candidate in zip(targets, candidates, strict=True):
        reason = _unwished(controls, target, candidate)
        if reason:
            passed.append((target.name, reason))
            continue
        if controls.order:
            places = [place for place, name in enumerate(controls.order) if name in target.names]
            candidate = candidate._replace(priority=places[0] if places else len(controls.order))
        kept_targets.append(target)
        kept.append(candidate)
    return kept_targets, kept


def _priced(target: Target, candidate: Candidate) -> Candidate:
    """With the list prices, where nothing better is known."""
    if candidate.input_price is not None:
        return candidate
    input_price, output_price = target.prices()
    return candidate._replace(input_price=input_price, output_price=output_price)


def _unwished(controls: Controls, target: Target, candidate: Candidate) -> str:
    names = target.names
    if controls.ignore and not names.isdisjoint(controls.ignore):
        return Passed.IGNORED
    if not target.endpoint.quirks.routes:
        # One that routes by itself is told what it may use; here it is not in question.
        if controls.only and names.isdisjoint(controls.only):
            return Passed.ONLY
        if controls.order and not controls.fallbacks and names.isdisjoint(controls.order):
            return Passed.ONLY
    for most, price in ((controls.max_input, candidate.input_price), (controls.max_output, candidate.output_price)):
        if most is not None and price is None:
            return Passed.PRICE_UNKNOWN
        if most is not None and price is not None and price > most:
            return Passed.PRICE
    return ""


def _none_left(ask: Request, passed: Sequence[tuple[str, str]]) -> Refusal:
    """No target can answer this request; the reasons say which wish or lack it is."""
    reasons = {reason for _, reason in passed}
    listed = ", ".join([f"{name}: {reason}" for name, reason in passed[:5]])
    if reasons == {Passed.OPERATION}:
        names = ", ".join([name for name, _ in passed[:5]])
        message = f"No target of this model can do `{ask.operation}` ({names}). Ask for a model that can."
        return Refusal(400, message, param="model", code=UNSERVED)
    if reasons == {Passed.WINDOW}:
        message = f"The prompt is longer than any target of this model takes ({listed}). Shorten it."
        return Refusal(400, message, param="messages", code="context_length_exceeded")
    if reasons <= {Passed.LACKS, Passed.WINDOW, Passed.OPERATION}:
        message = f"No target of this model can answer this request ({listed}). Ask for a model that can."
        return Refusal(400, message, param="model", code="unsupported_parameter")
    return Refusal(404, f"No target of this model is left by the request's own wishes ({listed}).", code="no_target")
