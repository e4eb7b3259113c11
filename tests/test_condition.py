"""How a target is: what tests of whole scenarios would take too long to show."""

from __future__ import annotations

from random import Random

import pytest

from policies.base import Passed
from policies.limits import NEAR, Limits, Reservation, Told, What
from policies.verdict import Kind
from proxy.condition import Begun, Condition, Credential
from proxy.record import Attempt
from proxy.wire.chat import ChatRequest


def test_a_prompt_is_counted_with_care_only_where_a_limit_is_near() -> None:
    condition = Condition("a", Credential(), Random(1))
    ask = ChatRequest.parse('{"model": "m", "messages": [{"role": "user", "content": "今天天气很好"}]}'.encode())

    def begun(left: float, now: int) -> Reservation:
        condition.limits = Limits()
        condition.limits.learn({(What.TOKENS, 60.0): Told(1000.0, left, 60.0)}, 0.0, now / 1e9)
        condition.quiet = condition.limits.share(now / 1e9) > NEAR
        place = condition.begin(Attempt(1, "a", "a", "m", now), ask).place
        assert place is not None
        return place

    far, near = begun(900.0, 10**9), begun(300.0, 2 * 10**9)
    assert (far.tokens, near.tokens) == (None, 5)
    assert far.need.input == round(len(ask.raw) / 4)
    assert near.need.input == 5


STEP = 400 * 10**9


@pytest.mark.parametrize("retry_after", [None, 60.0])
def test_thousands_of_429s_in_a_row_are_counted_without_end(retry_after: float | None) -> None:
    condition = Condition("a", Credential(), Random(1))
    now = 0
    for _ in range(3000):
        now += STEP
        attempt = Attempt(1, "a", "a", "m", now)
        attempt.kind, attempt.retry_after, attempt.marks.end = Kind.RATE_LIMIT, retry_after, now
        condition.in_flight += 1
        condition.end(attempt, Begun(0, False, None), answered=False)
        assert condition.barred(now / 1e9) == Passed.COOLING
    assert condition.cooled_until - now / 1e9 == (retry_after or 30.0)
    assert not condition.may_knock(now / 1e9)
    assert condition.may_knock(now / 1e9 + 10.5)


def test_no_room_while_it_asked_for_a_pause_or_its_key_is_parked() -> None:
    """What is not asked on behalf of a client waits for more than that (`proxy.shadow`)."""
    condition = Condition("a/m", Credential(), Random(1))
    assert condition.room(100.0) == 1.0, "nothing is known"
    condition.cooled_until = 110.0
    assert (condition.room(109.0), condition.room(110.0)) == (0.0, 1.0)
    condition.credential.park(120.0)
    assert condition.room(121.0) == 0.0


@pytest.mark.parametrize(
    ("kind", "status", "own", "sibling"),
    [
        (Kind.AUTH, 401, Passed.PARKED, Passed.PARKED),
        (Kind.QUOTA, 402, Passed.PARKED, Passed.PARKED),
        (Kind.AUTH, 403, Passed.MISSING, None),
        (Kind.UNKNOWN_MODEL, 404, Passed.MISSING, None),
    ],
)
def test_what_stops_a_key_and_what_stops_one_model_behind_it(
    kind: Kind, status: int, own: Passed, sibling: Passed | None
) -> None:
    """A client may name a model that the key may not use; that must not take the key from everybody else."""
    credential = Credential()
    one, other = Condition("a/m", credential, Random(1)), Condition("a/n", credential, Random(2))
    attempt = Attempt(1, "a/m", "a", "m", 1)
    attempt.kind, attempt.status, attempt.marks.end = kind, status, 5 * 10**9
    one.in_flight = 1
    one.end(attempt, Begun(0, False, None), answered=True)
    assert one.barred(6.0) == own
    assert (other.barred(6.0) or None) == sibling
