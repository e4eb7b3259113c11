"""What stands before and after the policy: fitness, bars, priorities, exploration."""

from __future__ import annotations

from random import Random

from policies import POLICIES
from policies.base import Ask, Candidate, Passed
from policies.compose import arrange
from policies.ordered import Ordered

BARRED = Passed.BREAKER.value


def names(ask: Ask, *given: Candidate) -> tuple[str, list[tuple[str, str]]]:
    found = arrange(Ordered(), ask, given, Random(1))
    order = "".join([given[choice.candidate].name for choice in found.order])
    return order, [(given[place].name, reason) for place, reason in found.passed_over]


def test_what_cannot_answer_is_left_out_even_if_nothing_else_is_there() -> None:
    ask = Ask("m", size=5000, tokens=1300, vision=True)
    blind = Candidate("a", lacks=frozenset({"vision"}))
    small = Candidate("b", context_window=1000)
    near = Candidate("c", context_window=1100)
    assert names(ask, blind, small, near) == ("c", [("a", "lacks_capability"), ("b", "context_window")])
    assert names(ask, blind) == ("", [("a", "lacks_capability")])


def test_a_short_request_is_never_too_long() -> None:
    assert names(Ask("m", size=900, tokens=10_000), Candidate("a", context_window=1000)) == ("a", [])


def test_capabilities_are_asked_for_by_their_names() -> None:
    for ask, lacks in (
        (Ask("m", tools=True), "tools"),
        (Ask("m", json="object"), "json"),
        (Ask("m", json="schema"), "json_schema"),
        (Ask("m", vision=True), "vision"),
    ):
        given = Candidate("a", lacks=frozenset({lacks})), Candidate("b")
        assert names(ask, *given)[0] == "b"
        assert names(Ask("m"), *given)[0] == "ab"


def test_what_is_barred_is_asked_only_when_everything_is() -> None:
    one, two = Candidate("a", barred=BARRED), Candidate("b", barred=Passed.LIMIT.value)
    assert names(Ask("m"), one, Candidate("c"), two) == ("c", [("a", BARRED), ("b", "rate_limit")])
    assert names(Ask("m"), one, two) == ("ab", [])


def test_lower_priorities_are_fallbacks() -> None:
    given = Candidate("a", priority=2), Candidate("b"), Candidate("c", priority=3), Candidate("d")
    assert names(Ask("m"), *given) == ("bdac", [])
    barred = Candidate("b", barred=BARRED), Candidate("a", priority=2)
    assert names(Ask("m"), *barred) == ("a", [("b", BARRED)])


def test_exploring_draws_evenly_and_says_so() -> None:
    given = [Candidate("a"), Candidate("b"), Candidate("c")]
    found = arrange(Ordered(), Ask("m"), given, Random(1), explore=1.0)
    assert found.order[0].why == "explored"
    assert [choice.propensity for choice in found.order] == [1 / 3] * 3
    calm = arrange(Ordered(), Ask("m"), given, Random(1), explore=0.3)
    assert sorted(round(choice.propensity, 3) for choice in calm.order) == [0.1, 0.1, 0.8]


def test_ordered_keeps_the_order() -> None:
    choices = POLICIES["ordered"]().plan(Ask("m", True), [Candidate("a"), Candidate("b")], Random(1))
    assert [choice[:2] for choice in choices] == [(0, 1.0), (1, 0.0)]
