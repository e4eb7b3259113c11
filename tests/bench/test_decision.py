"""From rows with a known truth to figures, comparisons and decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from proxy.bench import compare
from proxy.bench.choices import InBatches, turning_weight
from proxy.bench.decision import decide
from proxy.bench.figures import figures, tables
from proxy.bench.stats import Estimate
from proxy.bench.suite import Suite
from tests.bench.rows import Json, Law, rows, suite

RUNS = 200
ENOUGH = int(scipy_stats.binom.ppf(0.001, RUNS, 0.95))


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def decided(
    plan: Suite,
    made: list[Json],
    providers: dict[str, str] | None = None,
    batches: dict[str, InBatches] | None = None,
) -> Any:
    laid = tables(plan, made)
    found = [figures(plan, table, rng()) for table in laid]
    return decide(plan, laid, found, providers or {table.target: table.target for table in laid}, batches=batches)


def test_intervals_cover_the_truth() -> None:
    """Accuracy behind repeats, latencies with 429s, stalls, service levels, cost per success; over 200 seeded runs."""
    law = Law(accuracy=0.8, spread=0.4, failing=0.02, stalling=0.05, usd=0.002)
    plan = suite(["a"], 60, repeats=3, slo={"e2e": "1600ms"})
    truth = {
        "stalls": 0.05,
        "attainment": 0.98 * float(scipy_stats.norm.cdf(np.log(2.0) / law.sigma)),
        "p50": law.quantile_ms(0.5),
        "accuracy": 0.8 * 0.98,
        "p95": law.quantile_ms(0.95),
        "errors": 0.02,
        "cost": 0.002 / (0.8 * 0.98),
        "per dollar": 0.8 * 0.98 / 0.002,
    }
    covered = dict.fromkeys(truth, 0)
    for seed in range(RUNS):
        draw = rng(seed)
        (table,) = tables(plan, rows(plan, {"a": law}, 60, draw))
        found = figures(plan, table, draw)
        for name, one in (
            ("accuracy", found.accuracy),
            ("p95", found.latency),
            ("errors", found.errors),
            ("cost", found.cost_per_success),
            ("per dollar", found.accuracy_per_dollar),
            ("stalls", found.stalled),
            ("attainment", found.attainment),
            ("p50", found.e2e["p50"]),
        ):
            covered[name] += one.low <= truth[name] <= one.high  # type: ignore[operator]
    assert min(covered.values()) >= ENOUGH, covered


def test_close_targets_are_not_ranked() -> None:
    plan = suite(["a", "b"], 500, weights={"accuracy": 1})
    found = decided(plan, rows(plan, {"a": Law(0.72), "b": Law(0.73)}, 500, rng(5), shared=0.8))
    assert found.pairs[0].words == "not distinguishable"
    assert 0.01 < found.pairs[0].detectable < 0.1
    choice = found.choices[0]
    assert {choice.target, *choice.among} == {"a", "b"}


def test_a_clear_winner_is_named_and_the_dominated_one_too() -> None:
    plan = suite(["good", "bad"], 200, safety=True)
    laws = {"good": Law(0.9, usd=0.001, median_ms=500), "bad": Law(0.6, safety=0.9, usd=0.004, median_ms=2000)}
    found = decided(plan, rows(plan, laws, 200, rng()))
    assert [choice.target for choice in found.choices] == ["good", "good", None]
    assert found.standings[1].dominated_by == "good"
    assert found.standings[0].best > 0.99
    assert found.pairs[0].words == "worse"
    assert "accurate" in found.choices[0].passed_over["bad"]


def test_uses_differ() -> None:
    """The fast one serves live, the cheap one offline, the fallback comes from another provider."""
    plan = suite(["fast", "cheap", "twin"], 300, slo={"e2e": "3s"}, weights={"accuracy": 1, "latency": 2, "cost": 1})
    laws = {
        "fast": Law(0.8, median_ms=400, usd=0.002),
        "cheap": Law(0.8, median_ms=4000, usd=0.0002),
        "twin": Law(0.8, median_ms=450, usd=0.0021),
    }
    found = decided(plan, rows(plan, laws, 300, rng()), {"fast": "x", "twin": "x", "cheap": "y"})
    by_use = {choice.use: choice for choice in found.choices}
    assert by_use["real_time"].target == "fast"
    assert "limit" in by_use["real_time"].passed_over["cheap"]
    assert by_use["offline"].target == "cheap"
    assert by_use["fallback"].target == "cheap"
    assert "outages" in by_use["fallback"].passed_over["twin"]


def test_the_fallback_is_another_than_what_serves_in_real_time() -> None:
    """The fast one is not accurate enough for real time, though it would lead there; as a fallback it may serve."""
    plan = suite(["fast", "good"], 300, weights={"accuracy": 1, "latency": 4})
    laws = {"fast": Law(0.83, median_ms=50), "good": Law(0.9, median_ms=1000)}
    for seed in range(20):
        found = decided(plan, rows(plan, laws, 300, rng(seed)), {"fast": "x", "good": "y"})
        by_use = {choice.use: choice for choice in found.choices}
        if by_use["real_time"].target == "good" and "fast" not in by_use["fallback"].passed_over:
            break
    else:
        raise AssertionError("no seed of 20 makes the case")
    assert by_use["fallback"].target == "fast"
    assert by_use["fallback"].passed_over["good"] == "is the first choice for real time"


def test_a_fallback_is_of_what_was_chosen_for_real_time() -> None:
    """The cheap one has the highest score and is too inaccurate for real time, but not for a fallback."""
    plan = suite(
        ["cheap", "best", "good"], 1500, weights={"accuracy": 1, "cost": 4}, gates={"accuracy": {"margin": 0.06}}
    )
    laws = {"cheap": Law(0.8, usd=0.0001), "best": Law(0.9, usd=0.004), "good": Law(0.9, usd=0.002)}
    found = decided(plan, rows(plan, laws, 1500, rng()), {"cheap": "x", "best": "y", "good": "z"})
    by_use = {choice.use: choice for choice in found.choices}
    assert "cheap" in by_use["real_time"].passed_over
    assert by_use["real_time"].target == "good"
    assert "best of those fit in 100%" in by_use["real_time"].because[0]
    assert by_use["fallback"].target == "cheap"
    assert by_use["fallback"].passed_over["good"] == "is the first choice for real time"


@pytest.mark.parametrize("prompts", [5, 9])
def test_a_handful_of_prompts_ranks_nobody(prompts: int) -> None:
    plan = suite(["good", "bad"], prompts)
    found = decided(plan, rows(plan, {"good": Law(1.0), "bad": Law(0.6)}, prompts, rng(4)))
    assert all(not one.score.known and one.score.value is not None for one in found.standings)
    real_time = found.choices[0]
    assert "too few prompts to rank" in real_time.because[0]
    assert {real_time.target, *real_time.among} == {"good", "bad"}


def in_batches(ratio: float, p: float = 1.0) -> InBatches:
    return InBatches("b1", Estimate(ratio, ratio - 0.02, ratio + 0.02, 200), Estimate(900.0, None, None, 3), p)


def test_batches_count_for_offline_use_where_they_are_the_same_model() -> None:
    plan = suite(["dear", "cheap"], 200)
    laws = {"dear": Law(0.8, usd=0.003), "cheap": Law(0.8, usd=0.002)}
    made = rows(plan, laws, 200, rng(), shared=0.9)
    by_use = {choice.use: choice for choice in decided(plan, made).choices}
    assert by_use["offline"].target == "cheap"
    halved = {choice.use: choice for choice in decided(plan, made, batches={"dear": in_batches(0.5)}).choices}
    assert halved["offline"].target == "dear"
    assert any("0.50 of its real-time price" in why and "n = 3 batches" in why for why in halved["offline"].because)
    assert halved["real_time"] == by_use["real_time"]
    other = {c.use: c for c in decided(plan, made, batches={"dear": in_batches(0.5, p=0.001)}).choices}
    assert other["offline"].target == "cheap"
    assert "another model" in other["offline"].changes[0]


def test_a_metric_that_one_target_lacks_counts_for_none() -> None:
    plan = suite(["a", "b"], 50)
    made = rows(plan, {"a": Law(), "b": Law()}, 50, rng())
    for row in made:
        if row["target"] == "b":
            row["cost_usd"] = None
    found = decided(plan, made)
    assert found.left_out == ["cost", "safety"]
    assert set(found.standings[0].parts) == {"accuracy", "latency"}


def test_adding_a_target_changes_no_others_score() -> None:
    plan = suite(["a", "b", "c"], 80)
    made = rows(plan, {"a": Law(), "b": Law(0.8), "c": Law(0.5, usd=0.5)}, 80, rng())
    with_c = decided(plan, made).standings
    without = decided(plan, [row for row in made if row["target"] != "c"]).standings
    assert [one.score.value for one in with_c[:2]] == [one.score.value for one in without]


def test_the_turning_weight_makes_scores_equal() -> None:
    plan = suite(["a", "b"], 10)
    mine = {"accuracy": 0.9, "latency": 0.5, "cost": 0.5, "safety": 0.9}
    theirs = {"accuracy": 0.7, "latency": 0.9, "cost": 0.6, "safety": 0.9}
    turn = turning_weight(plan, "latency", mine, theirs)
    assert turn is not None
    rest = {metric: plan.weight(metric) / (1 - plan.weight("latency")) * (1 - turn) for metric in mine}
    rest["latency"] = turn
    assert sum(rest[m] * mine[m] for m in mine) == pytest.approx(sum(rest[m] * theirs[m] for m in mine))
    assert turning_weight(plan, "safety", mine, {**mine, "safety": 0.8}) is None


# -- against a baseline


def compared(plan: Suite, old: list[Json], new: list[Json]) -> compare.Compared:
    return compare.compare(plan, tables(plan, old), tables(plan, new))


def by_metric(found: compare.Compared) -> dict[str, str]:
    return {gate.metric: gate.verdict for gate in found.gates}


def test_an_identical_rerun_passes() -> None:
    plan = suite(["a"], 500, safety=True)
    old = rows(plan, {"a": Law(sigma=0.2)}, 500, rng())
    new = [{**row, "e2e_ms": row["e2e_ms"] * 1.01} for row in old]
    found = compared(plan, old, new)
    assert found.code == compare.PASS
    assert set(by_metric(found).values()) == {"pass"}


def test_a_planted_regression_of_8_points_is_caught() -> None:
    plan = suite(["a"], 500)
    found = compared(
        plan, rows(plan, {"a": Law(0.80)}, 500, rng(), shared=1.0), rows(plan, {"a": Law(0.72)}, 500, rng(), shared=1.0)
    )
    assert found.code == compare.REGRESSION
    assert by_metric(found)["accuracy"] == "regression"


@pytest.mark.parametrize(
    ("worse", "metric"),
    [(Law(safety=0.85), "safety"), (Law(median_ms=1600), "latency"), (Law(usd=0.002), "cost")],
)
def test_other_regressions_are_caught(worse: Law, metric: str) -> None:
    plan = suite(["a"], 400, safety=True)
    found = compared(
        plan, rows(plan, {"a": Law()}, 400, rng(), shared=1.0), rows(plan, {"a": worse}, 400, rng(), shared=1.0)
    )
    assert found.code == compare.REGRESSION
    assert {name for name, verdict in by_metric(found).items() if verdict == "regression"} == {metric}


def test_too_little_is_inconclusive_and_says_how_much_is_needed() -> None:
    plan = suite(["a"], 30, gates={"accuracy": {"margin": 0.03}})
    found = compared(plan, rows(plan, {"a": Law()}, 30, rng(1)), rows(plan, {"a": Law()}, 30, rng(2)))
    assert found.code == compare.INCONCLUSIVE
    assert (found.gates[0].needed or 0) > 100


def test_equal_targets_are_seldom_called_a_regression() -> None:
    plan = suite(["a"], 150, gates={"accuracy": {"margin": 0.03}, "cost": {"margin": 0.1}})
    codes = [
        compared(plan, rows(plan, {"a": Law()}, 150, rng(seed)), rows(plan, {"a": Law()}, 150, rng(seed + 1000))).code
        for seed in range(60)
    ]
    assert codes.count(compare.REGRESSION) <= int(scipy_stats.binom.ppf(0.999, 60, 0.05))


def test_runs_that_asked_other_things_are_not_compared() -> None:
    good = {"data": "d", "scorers": "s", "sampling": {"temperature": 0}, "stream": True, "finished": "now"}
    assert compare.invalid(good, dict(good)) == []
    assert compare.invalid(good, {**good, "sampling": {"temperature": 1}})
    assert compare.invalid(good, {**good, "data": "e"})
    assert compare.invalid(good, {**good, "finished": None})
    assert compare.invalid({**good, "invalid": ["the load generator was late"]}, good)
    old = rows(plan := suite(["a"], 3), {"a": Law()}, 3, rng())
    new = [{**row, "wire": "w2"} for row in old]
    assert compare.wire_mismatch({"old": old, "new": new}) == [
        "a was sent other parameters for task quality in one run than in the other"
    ]
    assert compare.wire_mismatch({"old": old, "new": list(old)}) == []
    assert plan.name
