"""A live run whose truth is written down: the store, /metrics, the API, the headers and the report all tell it.

Counts, tokens and money are exact. Of durations only lower bounds are certain on a busy machine; beyond them all
places must tell the same.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.measure.prometheus import SECONDS
from tests import processes
from tests.e2e.scripted import Scene, scripted

PRICE = {"input": 2.0, "cache_read": 0.5, "output": 8.0, "reasoning": 10.0, "tiers": {"flex": "50%"}}
COUNT = 80
STALLED = (20, 60)
"""5 % of the streams pause for a second in their middle."""


def usage_of(number: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 100 + number,
        "completion_tokens": 20 + number,
        "total_tokens": 120 + 2 * number,
        "prompt_tokens_details": {"cached_tokens": number},
        "completion_tokens_details": {"reasoning_tokens": number % 5},
    }


def truth(number: int) -> dict[str, Any]:
    """What the good upstream says, and what it costs by hand."""
    told = usage_of(number)
    reasoning = number % 5
    millionths = 100 * 2.0 + number * 0.5 + (20 + number - reasoning) * 8.0 + reasoning * 10.0
    return {
        "input": told["prompt_tokens"], "cached": number, "output": told["completion_tokens"], "reasoning": reasoning,
        "cost": millionths / 1e6 * (0.5 if tier(number) == "flex" else 1.0) if is_priced(number) else None,
    }  # fmt: skip


def is_stream(number: int) -> bool:
    return number % 2 == 0


def is_refused(number: int) -> bool:
    """The first target fails, the second answers."""
    return number % 8 == 3


def is_priced(number: int) -> bool:
    return tier(number) != "priority"


def tier(number: int) -> str:
    """`priority` has no price in the config."""
    return {5: "flex", 7: "priority"}.get(number % 10, "default")


def scene(number: int) -> Scene:
    gaps = (0.01, 0.01, 1.0, 0.01, 0.01) if number in STALLED else (0.01,) * 5
    return Scene(ttft_s=0.03 if number % 4 else 0.08, gaps_s=gaps, usage=usage_of(number), tier=tier(number))


class Told(NamedTuple):
    folder: Path
    answers: list[processes.Answer]
    metrics: dict[str, dict[tuple[str, ...], float]]
    api: list[dict[str, Any]]
    stats: dict[str, Any]
    report: dict[str, Any]
    failed_there: int
    """How many requests the failing upstream saw."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("truth")
    refusing = [Scene(status=503) if is_refused(number) else scene(number) for number in range(COUNT)]
    with scripted(refusing) as first, scripted([scene(number) for number in range(COUNT)]) as second:
        config = {
            "providers": {
                name: {"base_url": one.base_url, "api_key": None} for name, one in (("one", first), ("two", second))
            },
            "routes": {
                "chat": {
                    "targets": ["one/m", "two/m"], "breaker": False, "retries": {"per_target": 1, "per_request": 2},
                }
            },
            "prices": {"one/m": PRICE, "two/*": PRICE},
        }  # fmt: skip
        with processes.proxy(config, folder) as proxy:

            def ask(number: int) -> processes.Answer:
                body: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": str(number)}]}
                if is_stream(number):
                    body |= {"stream": True, "stream_options": {"include_usage": True}}
                return proxy.ask("/v1/chat/completions", body)

            with ThreadPoolExecutor(8) as pool:
                answers = [*pool.map(ask, range(COUNT))]
            api = proxy.ask("/api/exchanges?limit=1000").json()["exchanges"]
            metrics = samples(proxy.ask("/metrics").body.decode())
            stats = proxy.ask("/api/stats?window=1h").json()
        failed_there = sum(scene.status != 200 for _, scene in first.served)
    command = [sys.executable, "-m", "proxy", "report", "--storage", str(folder / "exchanges.db"), "--format", "json"]
    made = subprocess.run([*command, "--since", "1h"], capture_output=True, check=True)
    return Told(folder, answers, metrics, api, stats, json.loads(made.stdout), failed_there)


def samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Value by label values in the order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = tuple(one.labels[name] for name in sorted(one.labels))
            found.setdefault(one.name.removeprefix("weighbridge_"), {})[labels] = one.value
    return found


def rows(told: Told, query: str) -> list[dict[str, Any]]:
    return processes.rows(told.folder, query)


TRUTH = [truth(number) for number in range(COUNT)]
REFUSED = [number for number in range(COUNT) if is_refused(number)]
COST = sum(one["cost"] or 0.0 for one in TRUTH)
UNPRICED = sum(one["cost"] is None for one in TRUTH)


def test_the_clients_were_told(told: Told) -> None:
    for number, answer in enumerate(told.answers):
        cost = TRUTH[number]["cost"]
        assert answer.status == 200
        assert answer.headers["x-weighbridge-attempts"] == ("2" if is_refused(number) else "1")
        if not is_stream(number):
            shown = answer.headers.get("x-weighbridge-cost-usd")
            assert (float(shown) if shown else None) == (pytest.approx(cost) if cost is not None else None)
            continue
        (event,) = [line for line in answer.body.splitlines() if b'"prompt_tokens"' in line]
        body = json.loads(event[6:])
        assert body["usage"]["prompt_tokens"] == TRUTH[number]["input"]
        assert body.get("cost") == (pytest.approx(cost) if cost is not None else None)


def test_the_store_holds_the_truth(told: Told) -> None:
    shown = {one["id"]: one for one in rows(told, "SELECT * FROM v_exchanges")}
    assert len(shown) == COUNT
    for number, answer in enumerate(told.answers):
        row, right = shown[answer.headers["x-request-id"]], TRUTH[number]
        assert (row["outcome"], row["stream"], row["attempts"]) == ("ok", is_stream(number), 1 + is_refused(number))
        assert row["target"] == ("two/m" if is_refused(number) else "one/m")
        for name in ("input", "cached", "output", "reasoning"):
            assert row[f"{name}_tokens"] == right[name]
        assert row["uncached_input_tokens"] + row["cached_tokens"] == right["input"]
        assert row["cost_usd"] == (pytest.approx(right["cost"], rel=1e-12) if right["cost"] is not None else None)
        assert row["cost_source"] == ("config" if right["cost"] is not None else None)
        if is_stream(number):
            assert row["ttft_ms"] >= scene(number).ttft_s * 1e3
            assert row["tpot_ms"] > 0
            if number in STALLED:
                assert row["stall_count"] >= 1
                assert row["stall_ms"] >= 995  # timers of the loop may fire a millisecond early
                assert row["max_gap_ms"] >= 995
        assert row["e2e_ms"] >= row["overhead_ms"] >= 0
    tries = Counter((one["target"], one["outcome"]) for one in rows(told, "SELECT target, outcome FROM v_attempts"))
    assert tries == {
        ("one/m", "ok"): COUNT - len(REFUSED),
        ("two/m", "ok"): len(REFUSED),
        ("one/m", "upstream_error"): len(REFUSED),
    }
    assert told.failed_there == len(REFUSED)


def test_the_metrics_tell_the_same(told: Told) -> None:
    requests = told.metrics["requests_total"]
    assert requests["ok", "chat", "one/m"] == COUNT - len(REFUSED)
    assert requests["ok", "chat", "two/m"] == len(REFUSED)
    assert sum(requests.values()) == COUNT
    assert told.metrics["attempts_total"]["server_error", "upstream_error", "chat", "one/m"] == len(REFUSED)
    assert told.metrics["failovers_total"] == {("one/m", "upstream_error", "two/m"): len(REFUSED)}
    tokens = told.metrics["tokens_total"]
    by_type = Counter[str]()
    for (_, kind), count in tokens.items():
        by_type[kind] += int(count)
    assert by_type["cache_read"] == sum(one["cached"] for one in TRUTH)
    assert by_type["uncached_input"] + by_type["cache_read"] == sum(one["input"] for one in TRUTH)
    assert by_type["reasoning"] == sum(one["reasoning"] for one in TRUTH)
    assert by_type["output_text"] + by_type["reasoning"] == sum(one["output"] for one in TRUTH)
    assert sum(told.metrics["cost_usd_total"].values()) == pytest.approx(COST, rel=1e-12)
    unpriced = Counter[str]()
    for labels, count in told.metrics["unpriced_attempts_total"].items():
        unpriced[labels[0]] += int(count)
    assert (unpriced["no_price"], unpriced["no_usage"]) == (UNPRICED, 0)
    ((stalled,),) = [
        tuple(one.values()) for one in rows(told, "SELECT count(*) FROM v_exchanges WHERE stall_count > 0")
    ]
    assert sum(told.metrics["stalled_streams_total"].values()) == stalled >= len(STALLED)
    assert sum(told.metrics["records_dropped_total"].values()) == 0


def test_every_bucket_counts_what_the_store_holds(told: Told) -> None:
    for metric, column in (("time_to_first_token", "ttft_ms"), ("request_duration", "e2e_ms")):
        for target in ("one/m", "two/m"):
            query = f"SELECT {column} FROM v_exchanges WHERE target = '{target}' AND {column} IS NOT NULL"  # noqa: S608
            exact = [row[column] for row in rows(told, query)]
            buckets = told.metrics[f"{metric}_seconds_bucket"]
            for bound in SECONDS:
                assert buckets[str(bound), target] == sum(ms <= bound * 1e3 for ms in exact)
            assert told.metrics[f"{metric}_seconds_count"][target,] == len(exact)
            assert told.metrics[f"{metric}_seconds_sum"][target,] == pytest.approx(sum(exact) / 1e3)


def test_the_api_tells_the_same(told: Told) -> None:
    stored = {one["id"]: one for one in rows(told, "SELECT * FROM v_exchanges")}
    assert len(told.api) == COUNT
    for row in told.api:
        held = stored[row["id"]]
        for name in (
            "target",
            "outcome",
            "cost_usd",
            "input_tokens",
            "output_tokens",
            "ttft_ms",
            "e2e_ms",
            "failovers",
        ):
            assert row[name] == held[name]
    totals = told.stats["totals"]
    assert totals["requests"] == COUNT
    assert totals["errors_after_failover"]["failed"] == 0
    assert totals["cost_usd"] == pytest.approx(COST, abs=COUNT * 1e-9)


def test_the_report_tells_the_same(told: Told) -> None:
    total, groups = told.report["total"], told.report["groups"]
    assert (total["requests"], total["outcomes"], total["attempts"]) == (COUNT, {"ok": COUNT}, COUNT + len(REFUSED))
    assert {name: one["requests"] for name, one in groups.items()} == {
        "one/m": COUNT - len(REFUSED), "two/m": len(REFUSED),
    }  # fmt: skip
    assert total["errors"]["value"] == 0
    assert total["errors"]["high"] > 0
    assert total["failovers"]["value"] == len(REFUSED) / COUNT
    assert total["tokens"] == {
        name: sum(one[name] for one in TRUTH) for name in ("input", "cached", "output", "reasoning")
    }
    assert total["cost_usd"] == pytest.approx(COST, rel=1e-12)
    assert total["unpriced"]["value"] == UNPRICED / COUNT
    assert total["cost_per_success_usd"]["value"] == pytest.approx(COST / (COUNT - UNPRICED))
    stalled = total["stalled_streams"]
    assert stalled["n"] == COUNT / 2
    assert stalled["value"] >= len(STALLED) / (COUNT / 2)
    exact = sorted(row["e2e_ms"] for row in rows(told, "SELECT e2e_ms FROM v_exchanges"))
    assert total["e2e_ms"]["p50"]["value"] == pytest.approx((exact[39] + exact[40]) / 2)
    assert total["e2e_ms"]["p99"]["value"] is None


def test_no_figure_is_missing_from_the_run(told: Told) -> None:
    """What the dashboards and the page read is there."""
    text = " ".join(told.metrics)
    for name in ("overhead_seconds", "routing_decisions_total", "policy_last_reload_timestamp_seconds", "build_info"):
        assert re.search(rf"\b{name}", text), name
