"""Loads against real simulated providers: what is written down is what the providers counted. No durations asserted."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from proxy import config as settings
from proxy.bench import data
from proxy.bench.load import Loader
from proxy.bench.loadfigures import figures
from proxy.bench.loadreport import LoadReport, as_html, as_json, as_markdown, report, said
from proxy.bench.planning import plan
from proxy.bench.results import Run
from proxy.bench.runner import Spend
from proxy.bench.saturation import Watch, saturated
from proxy.bench.scorers import Scorers
from proxy.bench.session import Session
from proxy.bench.suite import Suite, parse
from proxy.config.load import parse as parse_config
from proxy.simulated import Simulated

CASES = [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(40)]


def planned(load: dict[str, Any], target: str = "chat", **more: Any) -> Suite:
    whole = {
        "name": "load",
        "targets": [target],
        "tasks": {"sums": {"data": CASES, "scorers": ["numeric"]}},
        "sampling": {"max_tokens": 64},
        "slo": {"e2e": "30s"},
        "load": {"warmup": "0s", **load},
        **more,
    }
    return parse(json.dumps(whole))


def config(*upstreams: Simulated, **more: Any) -> settings.Config:
    whole = {
        "storage": "none",
        "providers": {
            f"p{place}": {"dialect": "openai", "base_url": one.base_url, "api_key": None}
            for place, one in enumerate(upstreams)
        },
        "routes": {"chat": {"targets": [f"p{place}/m" for place in range(len(upstreams))]}},
        **more,
    }
    return parse_config(json.dumps(whole), source="test", format="json")


async def loaded(suite: Suite, settings: settings.Config, run: Run, *, score: bool = False) -> list[dict[str, Any]]:
    assert suite.load is not None
    async with Session(settings, suite, suite.load.plain) as session:
        judged = Scorers(suite, session.words) if score else None
        label, cases = suite.targets[0].label, data.load(suite)
        spend = Spend(suite.budget, plan(suite, cases, session.dearest).worst_case)
        await Loader(suite, suite.load, label, cases, session, run, spend, judged).run()
    return run.rows()


def asked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == "request"]


@pytest.mark.parametrize(
    "load",
    [
        {"users": 5, "for": "1s"},
        {"ramp": [1, 6], "steps": 3, "for": "500ms"},
        {"rate": 40, "for": "1s"},
        {"rate": 40, "for": "1s", "arrivals": "constant"},
    ],
    ids=["users", "ramp", "poisson", "constant"],
)
def test_every_request_is_written_down_once(tmp_path: Path, load: dict[str, Any]) -> None:
    async def play() -> None:
        async with Simulated(tokens=4, ttft="5ms", itl="2ms") as upstream:
            suite = planned(load)
            rows = await loaded(suite, config(upstream), Run(tmp_path))
            requests = asked(rows)
            assert len(requests) == upstream.stats.requests > 0
            assert {row["outcome"] for row in requests} == {"ok"}
            if "rate" in load and load.get("arrivals") == "constant":
                assert len(requests) == 40
            found = figures(suite, "chat", rows)
            assert sum(phase.requests for phase in found.phases) == len(requests)
            assert len(found.generator) == len(found.phases)
            for phase in found.phases:
                assert phase.tokens == pytest.approx(4 * phase.throughput)
                assert phase.tpot["p50"].value is not None
                assert phase.tpot["p50"].value > 0
            assert found.closed == ("rate" not in load)

    asyncio.run(play())


def test_what_is_more_than_may_be_under_way_is_not_sent_and_counted(tmp_path: Path) -> None:
    async def play() -> None:
        async with Simulated(tokens=2, ttft="400ms") as upstream:
            suite = planned({"rate": 50, "arrivals": "constant", "for": "1s", "most": 3})
            rows = await loaded(suite, config(upstream), Run(tmp_path))
            counts = Counter(row["outcome"] for row in asked(rows))
            assert sum(counts.values()) == 50
            assert counts["ok"] == upstream.stats.requests
            assert counts["not_sent"] == 50 - counts["ok"] > 0
            (phase,) = figures(suite, "chat", rows).phases
            assert phase.kinds == {"not_sent": counts["not_sent"]}
            assert phase.e2e["p50"].value == float("inf")

    asyncio.run(play())


def test_limits_and_timeouts_and_cuts_are_told_apart(tmp_path: Path) -> None:
    async def play() -> None:
        faults = ["http_429#1-10", "cut_mid_stream=after:1#11-15", "stall_mid_stream=after:1#16-18"]
        async with Simulated(tokens=6, faults=faults) as upstream:
            made = config(upstream)
            route = made.routes["chat"]
            quick = route.model_copy(
                update={
                    "retries": route.retries.model_copy(update={"per_target": 1}),
                    "targets": tuple(
                        one.model_copy(update={"timeouts": one.timeouts.model_copy(update={"stall": 0.3})})
                        for one in route.targets
                    ),
                    "breaker": False,
                }
            )
            made = made.model_copy(update={"routes": {"chat": quick}})
            suite = planned({"rate": 30, "arrivals": "constant", "for": "1s"})
            rows = await loaded(suite, made, Run(tmp_path))
            kinds = Counter(row["error_kind"] for row in asked(rows))
            assert kinds["rate_limit"] == 10
            assert kinds["truncated"] == 5
            assert kinds["stall"] == 3
            assert kinds[None] == 12

    asyncio.run(play())


def test_a_drill_finds_the_failover_and_what_the_fallback_is_worth(tmp_path: Path) -> None:
    async def play() -> None:
        async with (
            Simulated(tokens=2, ttft="5ms", skill=1.0) as first,
            Simulated(tokens=2, ttft="5ms", skill=0.0) as second,
        ):
            control = first.base_url.removesuffix("/v1") + "/control"
            drill = {"control": control, "fault": "http_503", "at": "500ms", "for": "1s"}
            suite = planned({"users": 4, "for": "3s", "drill": drill})
            rows = await loaded(suite, config(first, second), Run(tmp_path), score=True)
            requests = asked(rows)
            assert {row["outcome"] for row in requests} == {"ok"}  # no client saw anything of it
            found = figures(suite, "chat", rows).recovery
            assert found is not None
            assert found.primary == "p0/m"
            assert found.errors == 0
            assert found.diverted["p1/m"] > 0
            assert found.to_failover_s is not None
            assert found.quality["p0/m"].value == 1.0
            assert found.quality["p1/m"].value == 0.0
            assert not first.faults
            made = report(suite, {"id": "x"}, rows)
            assert any("diverted" in words for words in said(made, made.targets[0]))
            assert b"<svg" in as_html(made)
            assert "p1/m" in as_markdown(made)
            assert json.loads(as_json(made))["targets"][0]["recovery"]["errors"] == 0

    asyncio.run(play())


def test_a_ramp_finds_where_a_real_target_begins_to_refuse_and_logs_every_failure(tmp_path: Path) -> None:
    """By itself the target is slowed down by its 429s; behind a route another one hides them from the client."""

    async def play() -> None:
        faults = ["hang_before_headers#20", "hang_before_headers#40"]
        async with Simulated(tokens=3, ttft="20ms", capacity=4) as limited, Simulated(tokens=3, ttft="20ms") as spare:
            made = config(limited, spare)
            quick = made.defaults.timeouts.model_copy(update={"ttft": 0.3})
            made = made.model_copy(update={"defaults": made.defaults.model_copy(update={"timeouts": quick})})
            found = {}
            for target in ("p0/m", "chat"):
                limited.stats.reset()
                limited.faults = faults
                suite = planned({"ramp": [1, 9], "steps": 5, "for": "600ms", "think": "5ms"}, target)
                run = Run(tmp_path / target.replace("/", "-"))
                run.begin({})
                rows = await loaded(suite, made, run)
                tries = sum((Counter(row["failed_tries"]) for row in asked(rows)), Counter[str]())
                assert tries["rate_limit"] == limited.stats.faults["http_429"] > 0
                assert tries["timeout"] == limited.stats.faults["hang_before_headers"] == 2
                found[target] = figures(suite, target, rows)
                assert f"rate_limit {tries['rate_limit']}" in as_markdown(report(suite, {"id": "x"}, rows))
            alone, routed = found["p0/m"], found["chat"]
            assert alone.knee is not None
            assert alone.beyond is not None
            assert (alone.knee.users, alone.beyond.users) == (3, 5)
            assert sum(sum(phase.kinds.values()) for phase in alone.phases) > 0  # somebody saw it
            assert all(not phase.kinds for phase in routed.phases)  # nobody did
            assert sum(phase.hidden.get("rate_limit", 0) for phase in routed.phases) > 0

    asyncio.run(play())


def test_a_plain_load_spares_nobody(tmp_path: Path) -> None:
    """What the provider carries, not what the proxy makes of its refusals."""

    async def play() -> None:
        async with Simulated(tokens=2, ttft="50ms", capacity=2) as limited, Simulated() as spare:
            suite = planned({"ramp": [1, 5], "steps": 3, "for": "500ms", "think": "20ms", "plain": True})
            rows = asked(await loaded(suite, config(limited, spare), Run(tmp_path)))
            assert spare.stats.requests == 0
            assert len(rows) == limited.stats.requests
            assert {row["attempts"] for row in rows} == {1}
            counts = Counter(row["outcome"] for row in rows)
            assert counts["rate_limited"] == limited.stats.faults["http_429"] > counts["ok"] > 20

    asyncio.run(play())


def test_a_load_keeps_to_its_budget(tmp_path: Path) -> None:
    async def play() -> None:
        async with Simulated(tokens=2) as upstream:
            made = config(upstream, prices={"p0/m": {"input": 1.0, "output": 10.0}})
            suite = planned({"rate": 100, "arrivals": "constant", "for": "1s"}, "p0/m", budget="0.002 USD")
            rows = asked(await loaded(suite, made, Run(tmp_path)))
            spent = sum(row["cost_usd"] for row in rows)
            assert len(rows) == upstream.stats.requests < 100
            assert 0 < spent <= 0.002

    asyncio.run(play())


def test_what_failed_without_an_answer_costs_nothing_and_what_has_no_price_is_unknown(tmp_path: Path) -> None:
    async def play() -> None:
        async with Simulated(tokens=2) as priced, Simulated(tokens=2) as unpriced:
            made = config(priced, unpriced, prices={"p0/m": {"input": 1.0, "output": 10.0}})
            for place, one in enumerate((priced, unpriced)):
                one.faults = ["http_500#1-6"]
                (tmp_path / str(place)).mkdir()
                suite = planned({"rate": 20, "arrivals": "constant", "for": "500ms"}, f"p{place}/m")
                rows = asked(await loaded(suite, made, Run(tmp_path / str(place))))
                costs = {row["outcome"]: row["cost_usd"] for row in rows}
                assert set(costs) == {"ok", "upstream_error"}
                assert costs["upstream_error"] == 0.0
                assert (costs["ok"] is None) == (one is unpriced)

    asyncio.run(play())


def test_the_knee_is_where_the_target_begins_to_refuse(tmp_path: Path) -> None:
    """A ramp against one that carries four at a time: made-up rows, so that the truth is known."""
    suite = planned({"ramp": [2, 8], "steps": 4, "for": "1s"}, slo={"e2e": "1s"})
    rows = []
    for users in (2, 4, 6, 8):
        for n in range(200):
            refused = users > 4 and n % users >= 4
            rows.append(
                {
                    "kind": "request", "target": "chat", "phase": f"{users} users", "users": users, "rate": None,
                    "measured": True, "due_s": users + n / 200, "outcome": "rate_limited" if refused else "ok",
                    "error_kind": "rate_limit" if refused else None, "ttft_ms": 100.0, "e2e_ms": 200.0, "stalls": 0,
        "tpot_ms": 1.0, "output_tokens": 9,
                    "attempts": 1, "failed_tries": {}, "lag_ms": 0.0,
                    "served_by": None if refused else "a", "cost_usd": None,
                }
            )  # fmt: skip
    found = figures(suite, "chat", rows)
    assert found.knee is not None
    assert found.knee.users == 4
    assert found.phases[2].kinds == {"rate_limit": sum(1 for n in range(200) if n % 6 >= 4)}


@pytest.mark.parametrize(("rise", "word"), [(60.0, "grew"), (0.0, "did not change"), (-60.0, "fell")])
def test_a_soak_says_whether_the_target_tires(rise: float, word: str) -> None:
    """Made-up rows of two minutes in which the answers take `rise` ms more at the end; one slice is slow by chance."""
    suite = planned({"users": 4, "for": "120s"})
    rng = Random(1)
    rows: list[dict[str, Any]] = [
        {
            "kind": "request", "target": "chat", "phase": "4 users", "users": 4, "rate": None, "measured": True,
            "due_s": at, "outcome": "ok", "error_kind": None, "ttft_ms": 50.0, "stalls": 0, "tpot_ms": 1.0,
            "e2e_ms": 200.0 + rise * at / 120 + rng.expovariate(0.05) + (900.0 if 60 < at < 63 else 0.0),
            "output_tokens": 9, "attempts": 1, "failed_tries": {}, "lag_ms": 0.0, "served_by": "a", "cost_usd": None,
        }
        for at in [number / 10 for number in range(1200)]
    ]  # fmt: skip
    found = figures(suite, "chat", rows)
    trend = found.phases[0].trend
    assert trend.low is not None
    assert trend.high is not None
    assert trend.low <= rise <= trend.high
    (told,) = [one for one in said(LoadReport(suite, {}, [found], rows), found) if "the median answer" in one]
    assert f"the median answer {word}" in told
    short = figures(suite, "chat", rows[:90])
    assert not short.phases[0].trend.known


def test_a_generator_with_nothing_left_makes_a_closed_loop_invalid() -> None:
    suite = planned({"users": 3, "for": "1s"})
    row = {
        "kind": "request", "target": "chat", "phase": "3 users", "users": 3, "rate": None, "measured": True,
        "due_s": 0.0, "outcome": "ok", "error_kind": None, "ttft_ms": 1.0, "e2e_ms": 2.0, "stalls": 0,
        "tpot_ms": 1.0, "output_tokens": 9, "attempts": 1,
        "failed_tries": {}, "lag_ms": 0.0, "served_by": "a", "cost_usd": None,
    }  # fmt: skip
    reading = {"kind": "generator", "target": "chat", "phase": "3 users", "measured": True, "late_ms": 1.0, "busy": 0.5}
    reading |= {"at_s": 0.0, "seconds": 1.0}
    assert not figures(suite, "chat", [row, reading]).invalid
    for sign in ({"busy": 0.99}, {"late_ms": 80.0}):
        (reason,) = figures(suite, "chat", [row, reading | sign]).invalid
        assert reason.startswith("3 users: the load generator")
    assert not figures(suite, "chat", [row, reading | {"busy": 0.99, "measured": False}]).invalid


def test_a_loop_that_is_held_up_is_noticed() -> None:
    async def play() -> dict[str, Any]:
        async with Watch() as watch:
            for _ in range(6):  # lets others in only now and then
                await asyncio.sleep(0.001)
                time.sleep(0.1)  # noqa: ASYNC251  (it is what must not be done)
            await asyncio.sleep(0.001)
        return watch.told()

    told = asyncio.run(play())
    assert told["late_ms"] > 50.0
    assert saturated(told) is not None


def test_a_generator_that_was_late_makes_the_run_invalid() -> None:
    suite = planned({"rate": 10, "for": "1s"})
    row = {
        "kind": "request", "target": "chat", "phase": "10/s", "users": None, "rate": 10, "measured": True,
        "due_s": 0.0, "outcome": "ok", "error_kind": None, "ttft_ms": 1.0, "e2e_ms": 2.0, "stalls": 0,
        "tpot_ms": 1.0, "output_tokens": 9, "attempts": 1,
        "failed_tries": {}, "lag_ms": 90.0, "served_by": "a", "cost_usd": None,
    }  # fmt: skip
    assert figures(suite, "chat", [row] * 50).invalid
    assert not figures(suite, "chat", [{**row, "lag_ms": 1.0}] * 50).invalid
