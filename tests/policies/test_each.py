"""What each policy is for, in a few lines each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import pytest

from policies.bandit import Bandit, best_chances
from policies.base import Ask, Candidate, Policy
from policies.canary import Canary
from policies.cheapest import Cheapest, wilson
from policies.conditional import Conditional, Rule, When, matches
from policies.fastest import Fastest
from policies.least_loaded import LeastLoaded
from policies.ranked import Ranked
from policies.round_robin import RoundRobin
from policies.sticky import Sticky
from policies.weighted import Weighted

A, B, C = (Candidate(name) for name in "abc")


def firsts(policy: Policy, given: Sequence[Candidate], count: int = 2000) -> Counter[str]:
    rng = Random(5)
    return Counter(
        given[policy.plan(Ask("m", unit=f"u{at}", affinity=f"u{at}", turn=at), given, rng)[0].candidate].name
        for at in range(count)
    )


def owners(policy: Policy, given: Sequence[Candidate], count: int = 5_000) -> list[str]:
    asks = [Ask("m", unit=f"u{at}", affinity=f"u{at}") for at in range(count)]
    return [given[policy.plan(ask, given, Random(1))[0].candidate].name for ask in asks]


def names(policy: Policy, ask: Ask, *given: Candidate) -> str:
    return "".join([given[choice.candidate].name for choice in policy.plan(ask, given, Random(1))])


class Times(NamedTuple):
    """A latency view of known answers."""

    slow: float
    count: float
    seconds: float | None = None

    def beyond(self, seconds: float) -> tuple[float, float]:
        return self.slow, self.count

    def quantile(self, q: float) -> float | None:
        return self.seconds


# ---- shares ---------------------------------------------------------------------------------------------------------


def test_weighted_gives_each_its_share() -> None:
    given = [A._replace(weight=1), B._replace(weight=3), C._replace(weight=6)]
    seen = Counter(owners(Weighted(), given, 30_000))
    for name, share in (("a", 0.1), ("b", 0.3), ("c", 0.6)):
        assert abs(seen[name] - 30_000 * share) <= 3 * (30_000 * share * (1 - share)) ** 0.5


def test_changing_one_share_moves_nobody_between_the_others() -> None:
    before = owners(Weighted(), [A._replace(weight=5), B._replace(weight=65), C._replace(weight=30)])
    after = owners(Weighted(), [A._replace(weight=10), B._replace(weight=65), C._replace(weight=30)])
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {("b", "a"), ("c", "a")}
    assert owners(Weighted("x"), [A, B]) != owners(Weighted(), [A, B])


def test_a_target_that_comes_back_slowly_gets_less() -> None:
    seen = firsts(Weighted(), [A._replace(ramp=0.1), B])
    assert 120 < seen["a"] < 250


def test_round_robin_takes_turns() -> None:
    assert [names(RoundRobin(), Ask("m", turn=turn), A, B, C) for turn in range(4)] == ["abc", "bca", "cab", "abc"]


def test_least_loaded_counts_by_weight_and_draws_among_equals() -> None:
    assert names(LeastLoaded(), Ask("m"), A._replace(in_flight=4, weight=4), B._replace(in_flight=2)) == "ab"
    assert names(LeastLoaded(), Ask("m"), A._replace(outstanding=10, in_flight=1), B._replace(outstanding=9)) == "ba"
    assert firsts(LeastLoaded(), [A, B, C])["b"] > 500


# ---- speed ----------------------------------------------------------------------------------------------------------


def test_fastest_never_sends_all_to_the_fastest_and_nothing_to_the_slowest() -> None:
    seen = firsts(Fastest(), [A._replace(ttft=0.2), B._replace(ttft=0.3), C._replace(ttft=9.0)])
    assert seen["c"] == 0
    assert 0.6 < seen["a"] / 2000 < 0.72


def test_fastest_counts_load() -> None:
    assert names(Fastest(), Ask("m"), A._replace(ttft=0.2, in_flight=9), B._replace(ttft=0.3)) == "ba"


def test_fastest_tries_what_it_does_not_know() -> None:
    assert firsts(Fastest(), [A._replace(ttft=0.2, in_flight=1), B])["b"] == 2000
    assert firsts(Fastest(), [A._replace(ttft=9.8), B])["b"] == 2000, "punished for failures"


def test_a_low_quantile_is_preferred_and_the_others_are_explored() -> None:
    given = [A._replace(latency=Times(0, 99, 1.0)), B._replace(latency=Times(0, 99, 0.5)), C]
    seen = firsts(Fastest(quantile=0.95, explore=0.02), given, 10_000)
    assert 130 < seen["a"] < 270
    assert 850 < seen["c"] < 1150, "what is not known is looked at more often"
    nothing = firsts(Fastest(quantile=0.95), [A, B, C])
    assert min(nothing.values()) > 550


# ---- price ----------------------------------------------------------------------------------------------------------


def test_cheapest_within_the_service_level() -> None:
    dear = A._replace(input_price=5.0, output_price=20.0)
    cheap = B._replace(input_price=0.5, output_price=2.0)
    ask = Ask("m", tokens=1000, output=100)
    assert names(Cheapest(), ask, dear, C, cheap) == "bac"
    policy = Cheapest(slo=1.0, miss=0.05)
    assert names(policy, ask, dear, cheap._replace(latency=Times(20, 100))) == "ab"
    assert names(policy, ask, dear, cheap._replace(latency=Times(2, 200))) == "ba"
    assert names(policy, ask, dear, cheap._replace(latency=Times(11, 200))) == "ab", "above it, of many"
    assert names(policy, ask, dear, cheap._replace(latency=Times(9, 200))) == "ba"
    assert names(policy, ask, dear, cheap._replace(latency=Times(1, 20))) == "ba", "too few to tell"
    assert names(policy, ask, dear, cheap._replace(latency=Times(6, 20))) == "ab"


def test_the_price_counts_both_directions() -> None:
    long_prompt, long_answer = Ask("m", tokens=10_000, output=10), Ask("m", tokens=10, output=10_000)
    given = A._replace(input_price=1.0, output_price=9.0), B._replace(input_price=3.0, output_price=4.0)
    assert names(Cheapest(), long_prompt, *given) == "ab"
    assert names(Cheapest(), long_answer, *given) == "ba"


def test_ranked_puts_the_unknown_last() -> None:
    assert names(Ranked("latency"), Ask("m"), A, B._replace(ttft=2.0), C._replace(ttft=1.0)) == "cba"
    assert names(Ranked("throughput"), Ask("m"), A._replace(tpot=0.02), B._replace(tpot=0.01)) == "ba"


def test_wilson_bounds_hold_the_share() -> None:
    low, high = wilson(5.0, 100.0)
    assert 0.02 < low < 0.05 < high < 0.11
    assert wilson(0.0, 10.0)[0] == 0.0


# ---- affinity -------------------------------------------------------------------------------------------------------


def test_when_one_of_five_goes_only_its_own_move() -> None:
    five = [Candidate(name) for name in "abcde"]
    before = owners(Sticky(), five)
    after = owners(Sticky(), five[:4])
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert moved == before.count("e")
    assert moved / len(before) < 1 / 5 + 0.02


def test_a_crowded_target_passes_new_conversations_on() -> None:
    given = [A._replace(in_flight=20), B, C]
    assert set(owners(Sticky(), given, 500)) == {"b", "c"}
    assert set(owners(Sticky(), [A._replace(in_flight=3), B, C], 500)) == {"a", "b", "c"}, "four more are no crowd"


def test_sticky_on_units_or_on_the_beginning_of_the_prompt() -> None:
    five = [Candidate(name) for name in "abcde"]
    one, other = Ask("m", unit="u", affinity="x"), Ask("m", unit="u", affinity="y")
    assert names(Sticky("unit"), one, *five) == names(Sticky("unit"), other, *five)
    assert names(Sticky(), one, *five) != names(Sticky(), other, *five)


# ---- rules ----------------------------------------------------------------------------------------------------------

NIGHT = 3 * 3600.0


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        (When(model="gpt-*"), Ask("gpt-5"), Ask("claude")),
        (When(key="batch|cron"), Ask("m", key="cron"), Ask("m", key="app")),
        (When(tag="eval"), Ask("m", tags=frozenset({"x", "eval"})), Ask("m", tags=frozenset({"x"}))),
        (When(tag="!eval"), Ask("m"), Ask("m", tags=frozenset({"eval"}))),
        (When(header={"x-tier": "gold"}), Ask("m", headers={"x-tier": "gold"}), Ask("m", headers={"x-tier": "tin"})),
        (When(header={"x-tier": "!gold"}), Ask("m"), Ask("m", headers={"x-tier": "gold"})),
        (When(metadata={"plan": "pro"}), Ask("m", metadata={"plan": "pro"}), Ask("m", metadata={"plan": 5})),
        (When(tokens=">8000"), Ask("m", tokens=8001), Ask("m", tokens=8000)),
        (When(tokens=">= 8000"), Ask("m", tokens=8000), Ask("m", tokens=7999)),
        (When(tokens="<10"), Ask("m", tokens=9), Ask("m", tokens=10)),
        (When(tokens="<=10"), Ask("m", tokens=10), Ask("m", tokens=11)),
        (When(tokens="5..10"), Ask("m", tokens=5), Ask("m", tokens=4)),
        (When(tokens="7"), Ask("m", tokens=7), Ask("m", tokens=8)),
        (When(stream=True), Ask("m", True), Ask("m", False)),
        (When(tools=False), Ask("m"), Ask("m", tools=True)),
        (When(vision=True), Ask("m", vision=True), Ask("m")),
        (When(json_mode="any"), Ask("m", json="object"), Ask("m")),
        (When(json_mode="none"), Ask("m"), Ask("m", json="schema")),
        (When(json_mode="schema"), Ask("m", json="schema"), Ask("m", json="object")),
        (When(time="22:00-06:00"), Ask("m", at=NIGHT), Ask("m", at=12 * 3600.0)),
        (When(time="06:00-22:00"), Ask("m", at=12 * 3600.0), Ask("m", at=NIGHT)),
        (When(model="a", stream=True), Ask("a", True), Ask("a", False)),
    ],
)
def test_conditions(when: When, yes: Ask, no: Ask) -> None:
    assert when.holds(yes)
    assert not when.holds(no)


@pytest.mark.parametrize("tokens", ["many", ">", "5..", "-3", ">1e3", "> 8000 or true", "__import__('os')"])
def test_the_grammar_is_small(tokens: str) -> None:
    with pytest.raises(ValueError, match="not a condition on a number"):
        When(tokens=tokens)


@pytest.mark.parametrize("time", ["10", "25:00-26:00", "10:00-11:75", "10:00"])
def test_times_of_the_day(time: str) -> None:
    with pytest.raises(ValueError, match="time of the day"):
        When(time=time)


def test_the_first_rule_that_holds_decides() -> None:
    policy = Conditional((Rule(When(tools=True), ("c", "a")), Rule(When(stream=True), ("b",))))
    assert names(policy, Ask("m", True, tools=True), A, B, C) == "ca"
    assert names(policy, Ask("m", True), A, B, C) == "b"
    assert names(policy, Ask("m"), A, B, C) == "abc"
    assert policy.plan(Ask("m", True), [A, B], Random(1))[0].why == "rule 2"


def test_a_rule_may_choose_by_another_policy_and_names_all_credentials() -> None:
    policy = Conditional((Rule(When(), ("b",), LeastLoaded()),))
    second = Candidate("b#2")
    assert names(policy, Ask("m"), A, B._replace(in_flight=3), second) == "b#2b"


def test_patterns() -> None:
    assert matches("a|b*", "bcd")
    assert matches("!a|b", "c")
    assert not matches("!a|b", "a")
    assert not matches("gpt-?", "gpt-55")


# ---- trials ---------------------------------------------------------------------------------------------------------


def test_a_canarys_shares_are_nested() -> None:
    policy = Canary("b")
    small, large = (owners(policy, [A, B._replace(share=share)]) for share in (0.05, 0.25))
    assert 0.04 < small.count("b") / len(small) < 0.06
    assert all(after == "b" for before, after in zip(small, large, strict=True) if before == "b")
    assert set(owners(policy, [A, B._replace(share=0.0)])) == {"a"}
    assert set(owners(policy, [A, B._replace(share=1.0)])) == {"b"}


def test_thompsons_chances_are_the_chances_to_be_best() -> None:
    rng = Random(3)
    arms = [(20.0, 5.0), (30.0, 10.0), (3.0, 2.0)]
    best = Counter(
        max(range(3), key=lambda arm: draws[arm])
        for draws in ([rng.betavariate(*arm) for arm in arms] for _ in range(20_000))
    )
    for arm, chance in enumerate(best_chances(arms)):
        assert abs(best[arm] / 20_000 - chance) < 0.02


def test_the_bandit_prefers_what_was_rewarded() -> None:
    seen = firsts(Bandit(), [A._replace(posterior=(90.0, 10.0)), B._replace(posterior=(50.0, 50.0))])
    assert seen["a"] == 2000
    even = firsts(Bandit(), [A, B])
    assert 850 < even["a"] < 1150
