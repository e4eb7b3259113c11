"""How a target is: what tests of whole scenarios would take too long to show."""

from __future__ import annotations

from random import Random

import pytest

from policies.base import Passed
from policies.verdict import Kind
from proxy.condition import Begun, Condition, Credential
from proxy.record import Attempt

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
