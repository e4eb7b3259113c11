"""What a scrape shows, read back with the library's own parsers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from policies.verdict import VERDICTS, Failover, Kind, Outcome
from proxy.measure import prometheus
from proxy.measure.bus import Bus
from proxy.measure.prometheus import Metrics
from proxy.record import OPERATIONS, Decision, Exchange, Origin
from tests.measure.records import MS, ROUTES, TARGETS, TRACE, any_exchange, attempt, exchange, streamed, used

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def metrics() -> Metrics:
    return Metrics((), ROUTES, version="1.2.3", started=1_790_000_000.0)


def scrape(metrics: Metrics) -> dict[str, Metric]:
    body, _ = metrics.render("")
    return {family.name: family for family in plain(body.decode())}


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Value by label values, in the order of the label names' alphabet; zeros left out."""
    found = {}
    for family in scrape(metrics).values():
        for sample in family.samples:
            if sample.name == f"weighbridge_{name}" and sample.value:
                found[tuple(sample.labels[label] for label in sorted(sample.labels))] = sample.value
    return found


def count(metrics: Metrics) -> int:
    return sum(len(family.samples) for family in scrape(metrics).values())


def test_an_answered_request() -> None:
    shown = metrics()
    shown.accept(exchange(used(attempt()), end_ms=101))
    assert samples(shown, "requests_total") == {("ok", "chat", TARGETS[0]): 1}
    assert samples(shown, "attempts_total") == {("none", "ok", "chat", TARGETS[0]): 1}
    assert samples(shown, "request_duration_seconds_count") == {(TARGETS[0],): 1}
    assert samples(shown, "request_duration_seconds_sum") == {(TARGETS[0],): 0.101}
    assert samples(shown, "attempt_duration_seconds_sum") == {(TARGETS[0],): pytest.approx(0.0999)}
    assert samples(shown, "time_to_first_token_seconds_count") == {}
    assert samples(shown, "overhead_seconds_sum") == {(): pytest.approx(0.0012)}
    assert samples(shown, "tokens_total") == {
        (TARGETS[0], "uncached_input"): 70,
        (TARGETS[0], "cache_read"): 20,
        (TARGETS[0], "cache_write"): 10,
        (TARGETS[0], "output_text"): 8,
        (TARGETS[0], "reasoning"): 3,
    }


def test_a_stream_after_a_failover_and_a_retry() -> None:
    shown = metrics()
    first = attempt(kind=Kind.RATE_LIMIT, end_ms=5)
    again = attempt(kind=Kind.SERVER_ERROR, no=2, begun_ms=6, end_ms=9)
    won = used(streamed(attempt(TARGETS[1], no=3, begun_ms=10), first_ms=40, gaps_ms=(10, 20, 30)))
    shown.accept(exchange(first, again, won, stream=True))
    assert samples(shown, "requests_total") == {("ok", "chat", TARGETS[1]): 1}
    assert samples(shown, "retries_total") == {("rate_limited", TARGETS[0]): 1}
    assert samples(shown, "failovers_total") == {(TARGETS[0], "upstream_error", TARGETS[1]): 1}
    assert samples(shown, "attempts_total") == {
        ("rate_limit", "rate_limited", "chat", TARGETS[0]): 1,
        ("server_error", "upstream_error", "chat", TARGETS[0]): 1,
        ("none", "ok", "chat", TARGETS[1]): 1,
    }
    assert samples(shown, "time_to_first_token_seconds_sum") == {(TARGETS[1],): 0.04}
    assert samples(shown, "time_per_output_token_seconds_sum") == {(TARGETS[1],): 0.006}
    assert samples(shown, "stream_aborts_total") == {}


@pytest.mark.parametrize(
    ("kind", "by"),
    [
        (Kind.DOWNSTREAM_CLOSED, "client"),
        (Kind.TRUNCATED, "upstream"),
        (Kind.STALL, "upstream"),
        (Kind.INTERNAL, "proxy"),
    ],
)
def test_whose_fault_it_was_that_a_stream_broke_off(kind: Kind, by: str) -> None:
    shown = metrics()
    shown.accept(exchange(streamed(attempt(kind=kind)), stream=True, answered=True))
    assert samples(shown, "stream_aborts_total") == {(by, TARGETS[0]): 1}


def test_an_answer_that_never_began_was_no_stream() -> None:
    shown = metrics()
    shown.accept(exchange(attempt(kind=Kind.TIMEOUT), stream=True))
    assert samples(shown, "stream_aborts_total") == {}
    assert samples(shown, "requests_total") == {("timeout", "chat", TARGETS[0]): 1}


def test_the_winner_is_the_target_even_where_another_attempt_ended_later() -> None:
    shown = metrics()
    won = streamed(attempt())
    both = exchange(won, attempt(TARGETS[1], kind=Kind.INTERNAL, no=2), stream=True, outcome=Outcome.OK)
    both.winner = won
    shown.accept(both)
    assert samples(shown, "requests_total") == {("ok", "chat", TARGETS[0]): 1}


def test_what_was_asked_for_is_counted_by_how_it_ended() -> None:
    shown = metrics()
    for operation, kind in (("chat", Kind.OK), ("embeddings", Kind.OK), ("embeddings", Kind.TIMEOUT)):
        shown.accept(exchange(attempt(kind=kind), operation=operation))
    assert samples(shown, "operations_total") == {
        ("chat", "ok"): 1, ("embeddings", "ok"): 1, ("embeddings", "timeout"): 1,
    }  # fmt: skip


def test_shadow_and_bench_traffic_is_left_to_the_store() -> None:
    shown = metrics()
    for origin in (Origin.SHADOW, Origin.BENCH):
        made = exchange(attempt())
        made.origin = origin
        shown.accept(made)
    assert samples(shown, "requests_total") == {}


# -- labels


def test_labels_come_from_the_config_whatever_clients_name() -> None:
    shown = metrics()
    shown.accept(exchange(attempt("openai/anything"), route=None))
    before = count(shown)
    for number in range(10_000):
        shown.accept(exchange(attempt(f"openai/model-{number}"), route=None))
    assert count(shown) == before
    assert samples(shown, "requests_total") == {("ok", "direct", "openai/*"): 10_001}


def test_a_request_that_came_to_nothing_names_no_target() -> None:
    shown = metrics()
    shown.accept(exchange(route=None, outcome=Outcome.CLIENT_ERROR))
    shown.accept(exchange(outcome=Outcome.NO_TARGET))
    shown.accept(exchange(route="removed by a reload", outcome=Outcome.NO_TARGET))
    assert samples(shown, "requests_total") == {
        ("client_error", "none", "none"): 1,
        ("no_target", "chat", "none"): 1,
        ("no_target", "other", "none"): 1,
    }
    assert samples(shown, "request_duration_seconds_count") == {("none",): 3}


def test_counters_begin_at_nought_for_what_is_configured() -> None:
    family = scrape(metrics())["weighbridge_requests"]
    shown = {(s.labels["route"], s.labels["target"]) for s in family.samples if s.labels["outcome"] == "upstream_error"}
    assert shown == {(route, target) for route, targets in ROUTES.items() for target in targets}
    assert all(sample.value == 0 for sample in family.samples)


def test_a_reload_adds_names_and_loses_no_count() -> None:
    shown = metrics()
    shown.accept(exchange(attempt()))
    shown.allow(["new/one"], {"fresh": ["new/one"]})
    shown.accept(exchange(attempt("new/one"), route="fresh"))
    assert samples(shown, "requests_total") == {("ok", "chat", TARGETS[0]): 1, ("ok", "fresh", "new/one"): 1}


def test_cost_is_summed_and_what_has_none_is_counted() -> None:
    shown = metrics()
    paid, free, unpriced, silent, failed = (attempt(no=no) for no in range(1, 6))
    paid.cost_usd, free.cost_usd = 0.25, 0.0
    for one in (paid, free, unpriced):
        used(one)
    failed = attempt(kind=Kind.SERVER_ERROR)
    broken = streamed(attempt(kind=Kind.TRUNCATED))
    for one in (paid, free, unpriced, silent, failed, broken):
        shown.accept(exchange(one))
    assert samples(shown, "cost_usd_total")[(TARGETS[0],)] == 0.25
    told = samples(shown, "unpriced_attempts_total")
    assert (told["no_price", TARGETS[0]], told["no_usage", TARGETS[0]]) == (1, 2)


def test_a_pause_of_a_second_is_a_stall() -> None:
    shown = metrics()
    for gaps_ms in ((10.0, 10.0, 1000.0), (10.0, 10.0, 10.0), (10.0, 700.0, 10.0, 900.0, 10.0)):
        shown.accept(exchange(streamed(attempt(), gaps_ms=gaps_ms), stream=True))
    assert samples(shown, "stalled_streams_total")[(TARGETS[0],)] == 2
    assert samples(shown, "stall_seconds_total")[(TARGETS[0],)] == pytest.approx(2.6)


def test_a_trace_is_an_exemplar_in_openmetrics_alone() -> None:
    shown = metrics()
    made = exchange(streamed(attempt()), stream=True)
    made.trace = TRACE
    shown.accept(exchange(streamed(attempt()), stream=True))
    shown.accept(made)
    body, _ = shown.render(OPENMETRICS)
    marked = [line for line in body.decode().splitlines() if "trace_id" in line]
    assert len(marked) == 2
    assert all(f'# {{trace_id="{TRACE.trace_id}"}}' in line for line in marked)
    assert b"trace_id" not in shown.render("")[0]
    [*openmetrics(body.decode())]


def test_the_policys_first_choice_is_counted() -> None:
    shown = metrics()
    made = exchange(attempt())
    made.decision = Decision("weighted", 0.5, (TARGETS[1], TARGETS[0]))
    shown.accept(made)
    made.decision = Decision("direct", 1.0, ("openai/named-by-a-client",))
    shown.accept(made)
    told = samples(shown, "routing_decisions_total")
    assert told == {("weighted", TARGETS[1]): 1, ("direct", "openai/*"): 1}


def test_awkward_names_are_escaped() -> None:
    name = 'a"b\\c\nd'
    shown = Metrics((), {name: [f"p/{name}"]}, version="1")
    shown.accept(exchange(attempt(f"p/{name}"), route=name))
    assert samples(shown, "requests_total") == {("ok", name, f"p/{name}"): 1}


def test_no_traffic_makes_more_than_5000_series_of_10_routes_and_10_targets() -> None:
    targets = [f"provider-{number}/model" for number in range(10)]
    shown = Metrics((), {f"route-{number}": targets for number in range(10)}, version="1")
    shown.watch(inflight=lambda: 0, losses=Bus({}).losses, store=None, lag=lambda: 0.0)
    passing = [kind for kind, verdict in VERDICTS.items() if verdict.failover is not Failover.NO]
    for route in [*(f"route-{number}" for number in range(10)), "other", None]:
        for target in [*targets, "provider-0/direct"]:
            for kind in set(Kind) - {Kind.BUSY, Kind.OVER_LIMIT}:  # of them no attempt is made
                shown.accept(exchange(streamed(attempt(target, kind)), route=route, stream=True, answered=True))
        for outcome in (Outcome.NO_TARGET, Outcome.CLIENT_ERROR, Outcome.INTERNAL_ERROR):
            shown.accept(exchange(route=route, outcome=outcome))
    for operation in OPERATIONS:
        for outcome in Outcome:
            shown.accept(exchange(route="route-0", outcome=outcome, operation=operation))
    for kind in passing:
        for before in targets:
            for after in targets:
                shown.accept(exchange(attempt(before, kind), attempt(after, no=2), route="route-0"))
    # 5,000 is for what can be configured; direct targets and unknown routes come on top of it here.
    body, _ = shown.render("")
    configured = [line for line in body.splitlines() if b"#" not in line[:1] and b"/*" not in line]
    configured = [line for line in configured if b'"other"' not in line and b'"direct"' not in line]
    assert 4_000 < len(configured) <= 5_000


# -- histograms and formats


def test_a_bound_belongs_to_its_bucket() -> None:
    shown = metrics()
    for end_ms in (10.0, 10.1, 30_000.0, 200_000.0):
        shown.accept(exchange(attempt(end_ms=end_ms), end_ms=end_ms))
    family = scrape(shown)["weighbridge_request_duration_seconds"]
    buckets = {
        sample.labels["le"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_bucket") and sample.labels["target"] == TARGETS[0]
    }
    assert buckets["0.01"] == 1
    assert buckets["0.0125"] == buckets["25.0"] == 2
    assert buckets["30.0"] == buckets["120.0"] == 3
    assert buckets["+Inf"] == 4


@pytest.mark.parametrize(
    ("bounds", "size"), [(prometheus.SECONDS, 43), (prometheus.TOKEN_SECONDS, 18), (prometheus.OVERHEAD_SECONDS, 12)]
)
def test_bounds_ascend(bounds: Sequence[float], size: int) -> None:
    assert len(bounds) == size
    assert list(bounds) == sorted(set(bounds))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_the_format_is_what_was_asked_for(accept: str, content_type: str) -> None:
    shown = metrics()
    shown.accept(exchange(used(streamed(attempt())), stream=True))
    body, given = shown.render(accept)
    assert given.startswith(content_type)
    parse = openmetrics if "openmetrics" in given else plain
    names = {family.name for family in parse(body.decode())}
    assert {"weighbridge_requests", "weighbridge_request_duration_seconds"} <= names


class _Store:
    written, pending, degraded = 7, 2, "the disk is full"


def test_what_is_read_at_the_scrape() -> None:
    shown = metrics()
    bus = Bus({"metrics": shown})
    shown.watch(inflight=lambda: 3, losses=bus.losses, store=_Store(), lag=lambda: 0.25)
    expected = {
        "inflight_requests": {(): 3},
        "records_written_total": {(): 7},
        "record_queue_depth": {(): 2},
        "store_degraded": {(): 1},
        "event_loop_lag_seconds": {(): 0.25},
        "process_start_time_seconds": {(): 1_790_000_000.0},
        "build_info": {("1.2.3",): 1},
    }
    assert {name: samples(shown, name) for name in expected} == expected
    assert [s.labels for s in scrape(shown)["weighbridge_records_dropped"].samples] == [
        {"sink": "metrics", "reason": "raised"}
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(any_exchange(), max_size=20))
def test_everything_is_counted_once(exchanges: list[Exchange]) -> None:
    shown = metrics()
    for made in exchanges:
        shown.accept(made)
    live = [made for made in exchanges if made.origin is Origin.LIVE]
    attempts = [one for made in live for one in made.attempts]
    used_up = [sum(one.usage[:5]) for one in attempts if one.usage is not None]
    # A hedge that one side of won is no step from one to the other.
    pairs = [pair for made in live for pair in pairwise(made.attempts)]
    steps = sum(Kind.SUPERSEDED not in (before.kind, after.kind) for before, after in pairs)
    assert sum(samples(shown, "requests_total").values()) == len(live)
    assert sum(samples(shown, "request_duration_seconds_count").values()) == len(live)
    assert sum(samples(shown, "overhead_seconds_count").values()) == len(live)
    assert sum(samples(shown, "attempts_total").values()) == len(attempts)
    assert sum(samples(shown, "attempt_duration_seconds_count").values()) == len(attempts)
    assert sum(samples(shown, "tokens_total").values()) == sum(used_up)
    assert sum(samples(shown, "retries_total").values()) + sum(samples(shown, "failovers_total").values()) == steps


def test_a_scrape_while_requests_are_counted() -> None:
    shown = metrics()
    failed: list[BaseException] = []
    done = threading.Event()

    def scrapes() -> None:
        try:
            while not done.is_set():
                shown.render("")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=scrapes)
    thread.start()
    for number in range(3_000):
        shown.accept(exchange(attempt(f"provider-{number % 300}/x"), route=None))
    done.set()
    thread.join()
    assert not failed
    assert sum(samples(shown, "requests_total").values()) == 3_000


def test_durations_are_summed_without_rounding() -> None:
    shown = metrics()
    for _ in range(1_000):
        shown.accept(exchange(attempt(), end_ms=0.1))
    assert samples(shown, "request_duration_seconds_sum") == {(TARGETS[0],): 1_000 * MS / 10 / 1e9}
