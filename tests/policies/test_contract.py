"""One contract for every registered policy, within the composition in which the router asks it."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import POLICIES
from policies.bandit import Bandit
from policies.base import Ask, Candidate, Passed, Policy
from policies.canary import Canary
from policies.compose import Arranged, arrange
from policies.conditional import Conditional, Rule, When
from policies.fastest import Fastest
from policies.least_loaded import LeastLoaded
from policies.ranked import Ranked
from policies.weighted import Weighted
from proxy.config import parse
from proxy.config.policy import policy_of
from proxy.wire.controls import SORTS

RULES = (
    Rule(When(tools=True, tokens=">1000"), ("a", "c"), Fastest()),
    Rule(When(json_mode="any"), ("b",)),
    Rule(When(stream=True, time="08:00-20:00"), policy=Weighted()),
)
SAMPLES: dict[str, Sequence[dict[str, Any]]] = {
    "weighted": [{}, {"seed": "x"}],
    "fastest": [{}, {"quantile": 0.9}],
    "cheapest": [{}, {"slo": 1.0}],
    "sticky": [{}, {"on": "unit", "bound": 1.0}],
    "conditional": [{}, {"rules": RULES, "otherwise": LeastLoaded()}],
    "canary": [{"candidate": "a"}, {"candidate": "zz"}],
}
"""Settings to try, for those whose defaults are not all."""


def third_party() -> Policy:
    """The one of docs/add-a-policy.md, named as a config names it: `module:Class`."""
    text = (Path(__file__).parents[2] / "docs" / "add-a-policy.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    module = sys.modules["contract_mine"] = types.ModuleType("contract_mine")
    exec(code, module.__dict__)  # noqa: S102  (our own page)
    route = '{policy: {kind: "contract_mine:Mostly", target: b, share: 70%}, targets: [x/b]}'
    config = f"providers: {{x: {{base_url: http://x/v1, api_key: null}}}}\nroutes: {{chat: {route}}}"
    return policy_of(parse(config, source="test", format="yaml", env={}).routes["chat"].policy)


CASES: dict[str, Policy] = {
    **{
        f"{kind}, {settings}" if settings else kind: cls(**settings)
        for kind, cls in POLICIES.items()
        for settings in SAMPLES.get(kind, [{}])
    },
    "composed of bandit and canary": Conditional(
        (Rule(When(tokens="<=500"), policy=Bandit()),), otherwise=Canary("a", steps=(0.3, 1.0))
    ),
    "composed of composed": Conditional((Rule(When(), ("a", "b", "d", "f"), Conditional((), otherwise=Weighted())),)),
    "a third party's": third_party(),
    **{f"sort: {by}": Ranked(by) for by in SORTS},
}
NAMES = "abcdef"


class Times(NamedTuple):
    """A latency view: an answer in two is slower than this, of so many."""

    seconds: float
    count: float

    def beyond(self, seconds: float) -> tuple[float, float]:
        return (self.count if seconds <= 0 else self.count / 2 if seconds < self.seconds else 0.0), self.count

    def quantile(self, q: float) -> float | None:
        return self.seconds * 2 * q


def positive(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most, allow_nan=False)


def candidates(barred: st.SearchStrategy[str]) -> st.SearchStrategy[list[Candidate]]:
    one = st.builds(
        Candidate,
        name=st.just(""),
        weight=positive(0.1, 10),
        in_flight=st.integers(0, 100),
        context_window=st.none() | st.integers(1, 10**6),
        barred=barred,
        outstanding=st.integers(0, 10**6),
        ttft=st.none() | positive(0.001, 60),
        success=positive(0, 1),
        level=positive(0, 1),
        ramp=st.sampled_from([0.1, 0.5, 1.0]),
        priority=st.integers(1, 3),
        lacks=st.sampled_from([frozenset[str](), frozenset({"vision"})]),
        input_price=st.none() | positive(0, 100),
        output_price=st.none() | positive(0, 100),
        tpot=st.none() | positive(0, 1),
        latency=st.none() | st.builds(Times, positive(0, 60), positive(0, 500)),
        posterior=st.tuples(positive(1, 500), positive(1, 500)),
        share=st.none() | positive(0, 1),
    )
    several = st.lists(one, min_size=1, max_size=len(NAMES))
    return several.map(lambda found: [each._replace(name=NAMES[place]) for place, each in enumerate(found)])


ASKS = st.builds(
    Ask,
    model=st.just("m"),
    stream=st.booleans(),
    size=st.integers(1, 10**7),
    tokens=st.integers(0, 10**6),
    output=st.integers(1, 10**5),
    tools=st.booleans(),
    vision=st.booleans(),
    json=st.sampled_from(["", "object", "schema"]),
    unit=st.text(max_size=8),
    affinity=st.text(max_size=8),
    at=positive(0, 4e9),
    turn=st.integers(0, 10**6),
)
STATES = st.sampled_from(["", "", Passed.BREAKER.value, Passed.LIMIT.value])


def ordered_by(policy: Policy, ask: Ask, given_: Sequence[Candidate], seed: int, explore: float = 0.0) -> Arranged:
    return arrange(policy, ask, given_, Random(seed), explore)


@pytest.mark.parametrize("policy", CASES.values(), ids=CASES)
@given(candidates(STATES), ASKS, st.integers(0, 2**32), st.sampled_from([0.0, 0.01]))
def test_the_contract_of_every_policy(
    policy: Policy, given_: list[Candidate], ask: Ask, seed: int, explore: float
) -> None:
    before = list(given_), repr(ask)
    found = ordered_by(policy, ask, given_, seed, explore)
    order = [choice.candidate for choice in found.order]
    passed = [place for place, _ in found.passed_over]
    assert sorted([*order, *passed]) == list(range(len(given_))), "each candidate is tried or passed over, once"
    assert all(reason in set(Passed) for _, reason in found.passed_over)
    assert all(0.0 <= choice.propensity <= 1.0 for choice in found.order)
    if order:
        assert sum(choice.propensity for choice in found.order) == pytest.approx(1.0)
        assert found.order[0].propensity > 0.0
    barred = {place for place in order if given_[place].barred}
    assert not barred or barred == set(order), "what is barred is asked only where nothing else is left"
    priorities = [given_[place].priority for place in order]
    assert priorities == sorted(priorities)
    assert (given_, repr(ask)) == before, "the input is untouched"
    assert ordered_by(policy, ask, given_, seed, explore) == found, "the same seed gives the same plan"


@pytest.mark.parametrize(("name", "policy"), CASES.items(), ids=CASES)
@pytest.mark.parametrize("explore", [0.0, 0.1])
@pytest.mark.parametrize("world", range(3))
def test_propensities_are_the_frequencies_of_the_first_choice(
    name: str, policy: Policy, explore: float, world: int
) -> None:
    rng = Random(f"{name} {world}")
    given_ = worlds(rng)[world]
    said, seen, variance = [0.0] * len(given_), [0] * len(given_), [0.0] * len(given_)
    for turn in range(2000):
        ask = Ask("m", tokens=500, unit=f"unit {turn}", affinity=f"unit {turn}", turn=turn)
        found = arrange(policy, ask, given_, rng, explore)
        seen[found.order[0].candidate] += 1
        for choice in found.order:
            said[choice.candidate] += choice.propensity
            variance[choice.candidate] += choice.propensity * (1.0 - choice.propensity)
    for place in range(len(given_)):
        assert abs(seen[place] - said[place]) <= 5.0 * sqrt(variance[place]) + 1e-6, given_[place]


def worlds(rng: Random) -> list[list[Candidate]]:
    """Nothing known; all different; and one in which some may not be asked."""
    fresh = [Candidate(name) for name in NAMES[:3]]
    varied = [
        Candidate(
            name,
            weight=rng.uniform(0.5, 3),
            in_flight=rng.randrange(20),
            outstanding=rng.randrange(1, 9000),
            ttft=rng.uniform(0.2, 3),
            input_price=rng.uniform(0.1, 5),
            output_price=rng.uniform(0.1, 5),
            posterior=(rng.uniform(5, 80), rng.uniform(5, 30)),
            share=0.2 if place == 0 else None,
            latency=Times(rng.uniform(0.2, 3), 50.0),
        )
        for place, name in enumerate(NAMES[:4])
    ]
    mixed = [*varied, Candidate("e", barred=Passed.BREAKER), Candidate("f", priority=2)]
    return [fresh, varied, mixed]
