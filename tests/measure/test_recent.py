"""The last day in memory, against the plain list of what was counted; by a clock that only the test moves."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from policies.verdict import Kind
from proxy.measure import recent, timing, window
from proxy.measure.recent import LEVELS, LONGEST_S, POINTS, Recent
from proxy.record import Exchange, Origin
from proxy.wire.usage import CLASSES
from tests.measure.records import SECOND, T0, TARGETS, attempt, exchange, streamed, used

FIRST, SECOND_TARGET, _ = TARGETS


def later(made: Exchange, seconds: float) -> Exchange:
    """The same, so much later."""
    shift = round(seconds * SECOND)
    for marks in (made.marks, *(one.marks for one in made.attempts)):
        for name in marks.__slots__:
            if getattr(marks, name):
                setattr(marks, name, getattr(marks, name) + shift)
    return made


def report(ring: Recent, seconds: int, at_s: float) -> dict[str, Any]:
    now = T0 + round(at_s * SECOND)
    return window.report(ring.since(seconds, now), T0, 1_790_000_000.0)


def by_target(found: dict[str, Any]) -> dict[str, Any]:
    return {row["target"]: row for row in found["targets"]}


def test_a_hedge_that_was_won_is_no_failover() -> None:
    ring = Recent(TARGETS)
    slow = attempt(FIRST, Kind.SUPERSEDED)
    ring.accept(exchange(slow, used(streamed(attempt(SECOND_TARGET, no=2, begun_ms=20))), stream=True))
    found = by_target(report(ring, 300, 10))
    assert (found[FIRST]["failovers"], found[FIRST]["attempts"], found[SECOND_TARGET]["attempts"]) == (0, 1, 1)


def test_a_failover_is_an_error_before_it_and_none_after() -> None:
    ring = Recent(TARGETS)
    failed = attempt(FIRST, Kind.SERVER_ERROR)
    answered = used(streamed(attempt(SECOND_TARGET, no=2, begun_ms=20)))
    answered.cost_usd = 0.25
    ring.accept(exchange(failed, answered, stream=True))
    found = report(ring, 300, 10)
    first, second = by_target(found)[FIRST], by_target(found)[SECOND_TARGET]
    assert (first["requests"], first["attempts"], first["failovers"]) == (0, 1, 1)
    assert first["errors_before_failover"]["rate"] == 1.0
    assert first["error_kinds"] == {"server_error": 1}
    assert (second["requests"], second["share"], second["streams"], second["stalled_streams"]) == (1, 1.0, 1, 0)
    assert second["errors_after_failover"]["rate"] == 0.0
    assert second["ttft_ms"]["n"] == second["e2e_ms"]["n"] == 1
    assert second["ttft_ms"]["p50"]["value"] is None  # of one, nothing can be said
    assert second["cost_usd"] == 0.25
    assert second["cost_per_hour_usd"] == 0.25 / 10 * 3600
    assert second["tokens"] == dict(zip(CLASSES, answered.usage, strict=False))  # type: ignore[arg-type]
    assert found["totals"]["errors_before_failover"]["failed"] == 1
    after = found["totals"]["errors_after_failover"]
    assert after == {"failed": 0, "n": 1, "rate": 0.0, "low": 0.0, "high": pytest.approx(0.7935, abs=1e-4)}


def test_what_only_the_client_did_is_no_error() -> None:
    ring = Recent(TARGETS)
    for kind in (Kind.BAD_REQUEST, Kind.DOWNSTREAM_CLOSED):
        ring.accept(exchange(attempt(FIRST, kind)))
    totals = report(ring, 60, 5)["totals"]
    assert totals["requests"] == 2
    assert totals["errors_before_failover"]["failed"] == totals["errors_after_failover"]["failed"] == 0


def test_a_stall_is_counted_once_a_stream() -> None:
    ring = Recent(TARGETS)
    ring.accept(exchange(streamed(attempt(end_ms=5000), gaps_ms=(10, 10, 1000, 10, 900)), stream=True, end_ms=5001))
    ring.accept(exchange(streamed(attempt(end_ms=5000), gaps_ms=(400, 450, 490)), stream=True, end_ms=5001))
    totals = report(ring, 60, 10)["totals"]
    assert (totals["streams"], totals["stalled_streams"]) == (2, 1)


def test_what_has_no_price_is_told_apart_from_what_is_free() -> None:
    ring = Recent(TARGETS)
    ring.accept(exchange(used(attempt())))
    totals = report(ring, 60, 5)["totals"]
    assert (totals["cost_usd"], totals["cost_per_hour_usd"], totals["unpriced_attempts"]) == (None, None, 1)
    free = used(attempt())
    free.cost_usd = 0.0
    ring.accept(exchange(free))
    totals = report(ring, 60, 5)["totals"]
    assert (totals["cost_usd"], totals["unpriced_attempts"]) == (0.0, 1)


def test_configured_targets_stand_in_their_order_and_named_ones_under_their_provider() -> None:
    ring = Recent(["z/1", "a/1"])
    ring.accept(exchange(attempt("openai/whatever-a-client-wrote")))
    ring.accept(exchange(attempt("openai/something-else")))
    ring.accept(exchange(route=None))
    assert [row["target"] for row in report(ring, 60, 5)["targets"]] == ["z/1", "a/1", "openai/*", "none"]


def test_shadow_and_bench_are_not_counted() -> None:
    ring = Recent(TARGETS)
    for origin in (Origin.SHADOW, Origin.BENCH):
        made = exchange(attempt())
        made.origin = origin
        ring.accept(made)
    assert report(ring, 60, 5)["totals"]["requests"] == 0


def any_of_these(rng: Random) -> Exchange:
    """One to three attempts, each of any kind, the last one answering or not."""
    attempts = [attempt(rng.choice(TARGETS), rng.choice([*Kind]), no) for no in range(1, rng.randint(2, 4))]
    if rng.random() < 0.5:
        used(streamed(attempts[-1]))
    made = exchange(*attempts, stream=rng.random() < 0.5, answered=rng.random() < 0.7)
    made.origin = rng.choice([Origin.LIVE, Origin.LIVE, Origin.SHADOW])
    return made


@pytest.mark.parametrize("seed", range(40))
def test_a_window_holds_what_ended_in_it(seed: int) -> None:
    """Against the list of all exchanges: the sums of any window, whatever level of buckets it is read from."""
    rng = Random(seed)
    ring = Recent(TARGETS)
    longest = rng.choice([100, 4000, 100_000])
    made = sorted((later(any_of_these(rng), rng.random() * longest) for _ in range(200)), key=lambda one: one.marks.end)
    for one in made:
        ring.accept(one)
    seconds = rng.randint(1, rng.choice([300, 3600, LONGEST_S]))
    taken = ring.since(seconds, made[-1].marks.end + round(rng.random() * seconds * SECOND))
    found = window.report(taken, T0, 0.0)
    inside = [one for one in made if one.origin is Origin.LIVE and one.marks.end // SECOND >= taken.first]
    totals, series = found["totals"], found["series"]
    assert totals["requests"] == len(inside) == sum(sum(one["requests"]) for one in series["targets"].values())
    assert totals["attempts"] == sum(len(one.attempts) for one in inside)
    assert totals["errors_after_failover"]["failed"] == sum(one.outcome in recent.FAILED for one in inside)
    assert totals["errors_before_failover"]["failed"] == sum(
        tried.outcome in recent.FAILED for one in inside for tried in one.attempts
    )
    assert totals["ttft_ms"]["n"] == sum(timing.exchange_ttft(one) is not None for one in inside)
    assert totals["tokens"]["reasoning"] == sum(
        tried.usage.reasoning for one in inside for tried in one.attempts if tried.usage
    )
    assert len(series["at"]) <= POINTS + 1
    assert seconds - found["step_s"] < found["window_s"] <= seconds + found["step_s"]


def test_memory_is_bounded_and_old_things_go() -> None:
    """Two days of a request every ten seconds leave a day's buckets, and the last window is right."""
    ring = Recent(TARGETS)
    for number in range(2 * 24 * 360):
        ring.accept(later(exchange(attempt()), number * 10))
    for level, (_, keep) in zip(ring._levels, LEVELS, strict=True):
        assert len(level.closed) <= keep
    end = 2 * 24 * 3600
    assert report(ring, LONGEST_S, end)["totals"]["requests"] == pytest.approx(8640, abs=120)
    assert report(ring, 3600, end)["totals"]["requests"] == pytest.approx(360, abs=7)
    assert report(ring, 60, end + 3600)["totals"]["requests"] == 0


def test_quantiles_of_a_known_distribution() -> None:
    ring = Recent(TARGETS)
    for ms in range(1, 1001):
        ring.accept(exchange(attempt(end_ms=float(ms)), end_ms=float(ms)))
    e2e = report(ring, 60, 5)["totals"]["e2e_ms"]
    assert e2e["n"] == 1000
    for name, truth in (("p50", 500), ("p95", 950), ("p99", 990)):
        assert e2e[name]["value"] == pytest.approx(truth, rel=0.008)
        assert e2e[name]["low"] < truth < e2e[name]["high"]
