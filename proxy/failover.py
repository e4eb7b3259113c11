"""What follows a failed attempt: which target is asked now, given how each of them is.

The limits of tries are kept by `policies.retry`; here it is told who must not be asked, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from policies.base import Passed
from policies.retry import Step, Tries
from policies.verdict import VERDICTS, Kind
from proxy.clock import SECOND
from proxy.errors import TransportError, UpstreamError
from proxy.router import Plan
from proxy.upstreams import Target
from proxy.wire.request import Request


def after(
    error: UpstreamError,
    plan: Plan,
    ask: Request,
    place: int,
    tries: Tries,
    left_ns: int,
    now_ns: int,
    rng: Random,
) -> tuple[Plan, Step | None]:
    """What follows the failure at `place`, and the plan by then; no step: nothing.

    What was passed over is asked when nothing better is left, and before the last tries go where it failed.
    """
    kind, wait, remaining, now = error.kind, error.retry_after, left_ns / SECOND, now_ns / SECOND
    avoid = _avoid(plan.targets, ask, place, tries, kind, now)
    step = tries.next(place, kind, wait, remaining, rng, avoid)
    others = tries.untouched + len(plan.spare)
    if step is not None and (tries.untried(step.target) or tries.left > others):
        return plan, step
    if not avoid and not plan.spare:
        return plan, step
    if plan.spare:
        tries.more([target.context_window for target in plan.spare])
        plan = plan._replace(targets=[*plan.targets, *plan.spare], spare=())
    shut = _shut(plan.targets, ask, place, tries, kind, now, early=step is not None)
    return plan, tries.next(place, kind, wait, remaining, rng, shut) or step


def _avoid(targets: Sequence[Target], ask: Request, failed: int, tries: Tries, kind: Kind, now: float) -> list[int]:
    """Places that must not be asked now: their own state is against it, or their budget of further tries is spent."""
    avoid = []
    for place, target in enumerate(targets):
        condition = target.condition
        reason = target.barred(now, ask) if len(targets) > 1 else ""  # the last one is never shut
        # How long one that was tried here wants to be left alone is for `Tries` to weigh.
        stands = reason and not (reason == Passed.COOLING and not tries.untried(place))
        if stands or not condition.affords(VERDICTS[kind].weight, place != failed, now):
            avoid.append(place)
    return avoid


def _shut(
    targets: Sequence[Target], ask: Request, failed: int, tries: Tries, kind: Kind, now: float, *, early: bool
) -> list[int]:
    """Places that must not be asked even where all else has failed; what was in trouble may be well again.

    `early`: where it failed may be tried again, so that who asked for a pause, or has no key or model, is not asked.
    """
    shut = []
    for place, target in enumerate(targets):
        condition = target.condition
        reason = target.barred(now, ask) if tries.untried(place) else ""
        full = reason in (Passed.LIMIT, Passed.BUSY) or (reason == Passed.COOLING and not condition.may_knock(now))
        stands = early and reason not in ("", Passed.BREAKER)
        # Where slowness is the trouble of both, more tries would make it worse.
        slow = reason and kind is condition.kind is Kind.TIMEOUT
        if full or stands or slow or not condition.affords(VERDICTS[kind].weight, place != failed, now):
            shut.append(place)
    return shut


def left_nothing(error: UpstreamError) -> bool:
    """The request was not sent, or the upstream said that it would not do it."""
    if error.kind is Kind.CONNECT:
        return not (isinstance(error, TransportError) and error.sent)
    return error.kind in _DECLINED


_DECLINED = {
    Kind.RATE_LIMIT, Kind.QUOTA, Kind.AUTH, Kind.UNKNOWN_MODEL, Kind.BAD_REQUEST, Kind.UNSUPPORTED,
    Kind.CONTEXT_LENGTH, Kind.CONTENT_FILTER,
}  # fmt: skip
