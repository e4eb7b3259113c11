"""What a client may use, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.allowance import Allowance, Allowed, Claim, Limit, Refused

TODAY = "2026-11-26"


def admit(one: Allowance, now: float, size: int = 400, most: int | None = None, today: str = TODAY) -> Claim | Refused:
    return one.admit(size, most, now, today)


def test_a_minutes_worth_at_once_and_then_at_the_rate() -> None:
    one = Allowance(Allowed(rpm=5), 0.0)
    assert all(isinstance(admit(one, 0.0), Claim) for _ in range(5))
    refused = admit(one, 0.0)
    assert refused == Refused(Limit.RPM, 12.0, 5)
    assert isinstance(admit(one, 11.9), Refused)
    assert isinstance(admit(one, 12.0), Claim)
    assert isinstance(admit(one, 12.1), Refused)
    assert one.refused[Limit.RPM] == 3


@given(rpm=st.integers(1, 500), gaps=st.lists(st.floats(0, 30), max_size=200))
def test_never_more_than_the_rate_and_one_minutes_worth(rpm: int, gaps: list[float]) -> None:
    one, now, let = Allowance(Allowed(rpm=rpm), 0.0), 0.0, 0
    for gap in gaps:
        now += gap
        let += isinstance(admit(one, now), Claim)
    assert let <= rpm + rpm / 60 * now + 1e-6


@given(rpm=st.integers(1, 500), taken=st.integers(1, 600), later=st.floats(0, 100))
def test_who_waits_as_long_as_he_is_told_is_let_in(rpm: int, taken: int, later: float) -> None:
    one = Allowance(Allowed(rpm=rpm), 0.0)
    for _ in range(taken):
        admit(one, 0.0)
    refused = admit(one, later)
    if isinstance(refused, Refused):
        assert refused.seconds is not None
        assert isinstance(admit(one, later + refused.seconds), Claim)


def test_tokens_are_taken_by_estimate_and_settled() -> None:
    one = Allowance(Allowed(tpm=1_000), 0.0)
    claim = admit(one, 0.0, size=400, most=100)  # 100 in, 100 out
    assert isinstance(claim, Claim)
    assert one.left(0.0) == {Limit.TPM: 800.0}
    one.settle(claim, (90, 10), 0.0)
    assert one.left(0.0) == {Limit.TPM: 900.0}
    again = admit(one, 0.0, size=400, most=100)
    assert isinstance(again, Claim)
    one.settle(again, (0, 0), 0.0)  # nobody answered
    assert one.left(0.0) == {Limit.TPM: 900.0}
    one.settle(admit_claim(one), None, 0.0)  # nobody counted
    assert one.left(0.0)[Limit.TPM] < 900.0


def admit_claim(one: Allowance) -> Claim:
    claim = admit(one, 0.0, most=10)
    assert isinstance(claim, Claim)
    return claim


def test_a_debt_is_waited_for_and_a_giant_is_let_in_when_the_bucket_is_full() -> None:
    one = Allowance(Allowed(tpm=600), 0.0)
    giant = admit(one, 0.0, size=1_000_000, most=10)
    assert isinstance(giant, Claim)
    one.settle(giant, (1_180, 20), 0.0)
    refused = admit(one, 0.0, size=4, most=1)
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.seconds) == (Limit.TPM, pytest.approx(60.0, abs=1))
    assert isinstance(admit(one, 61.0, size=4, most=1), Claim)


def test_it_learns_how_long_its_answers_are() -> None:
    one = Allowance(Allowed(tpm=1e9), 0.0)
    for _ in range(200):
        claim = admit(one, 0.0)
        assert isinstance(claim, Claim)
        one.settle(claim, (200, 40), 0.0)
    last = admit(one, 0.0)
    assert isinstance(last, Claim)
    assert last.tokens == pytest.approx(240, rel=0.02)


def test_what_one_limit_refuses_takes_nothing_of_the_other() -> None:
    one = Allowance(Allowed(rpm=10, tpm=100), 0.0)
    assert isinstance(admit(one, 0.0, size=400, most=100), Claim)
    refused = admit(one, 0.0, size=400, most=100)
    assert isinstance(refused, Refused)
    assert refused.limit is Limit.TPM
    assert one.left(0.0)[Limit.RPM] == 9.0


def test_a_budget_is_spent_and_begins_anew_with_its_span() -> None:
    one = Allowance(Allowed(per_day=1.0, per_month=2.5), 0.0)
    one.charge(1.0, TODAY)
    assert admit(one, 0.0) == Refused(Limit.BUDGET, None, 1.0, "day")
    assert isinstance(admit(one, 0.0, today="2026-11-27"), Claim)
    one.charge(1.5, "2026-11-27")
    assert admit(one, 0.0, today="2026-11-27") == Refused(Limit.BUDGET, None, 2.5, "month")
    assert admit(one, 0.0, today="2026-11-30") == Refused(Limit.BUDGET, None, 2.5, "month")
    assert isinstance(admit(one, 0.0, today="2026-12-01"), Claim)
    assert one.budgets("2026-12-01") == [("day", 1.0, 0.0), ("month", 2.5, 0.0)]
    assert one.spent["total"] == 2.5


def test_a_clock_that_is_set_back_gives_nobody_his_money_again() -> None:
    one = Allowance(Allowed(per_day=1.0), 0.0)
    one.charge(1.0, TODAY)
    assert isinstance(admit(one, 0.0, today="2026-11-25"), Refused)


def test_what_was_spent_before_counts() -> None:
    one = Allowance(Allowed(per_day=1.0, per_month=10.0, total=100.0), 0.0)
    one.restore([("2025-11-26", 50.0), ("2026-11-01", 4.0), (TODAY, 0.25), (TODAY, 0.25)], TODAY)
    assert one.budgets(TODAY) == [("day", 1.0, 0.5), ("month", 10.0, 4.5), ("total", 100.0, 54.5)]
    one.charge(0.5, TODAY)
    assert admit(one, 0.0) == Refused(Limit.BUDGET, None, 1.0, "day")


def test_other_terms_keep_what_was_used() -> None:
    one = Allowance(Allowed(rpm=5, total=1.0), 0.0)
    for _ in range(5):
        admit(one, 0.0)
    one.charge(1.0, TODAY)
    one.limit(Allowed(rpm=6, total=2.0), 0.0)
    assert isinstance(admit(one, 0.0), Claim)
    assert isinstance(admit(one, 0.0), Refused)
    one.limit(Allowed(total=1.0), 0.0)
    assert admit(one, 0.0) == Refused(Limit.BUDGET, None, 1.0, "total")
