"""`docs/metrics.md` against a scrape: the same families, types, labels, values of closed lists and buckets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from policies import trial
from policies.base import Passed
from policies.breaker import State
from policies.verdict import Kind, Outcome
from proxy.measure.bus import Bus
from proxy.measure.prometheus import TOKEN_TYPES, Metrics
from proxy.measure.shadow_metrics import VERDICTS, Standing
from proxy.measure.store.writer import StoreSink
from proxy.record import Decision
from proxy.shadow.experiment import RESULTS
from tests.measure.records import ROUTES, TARGETS, attempt, exchange, streamed, used

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")


def _rows(heading: str) -> list[list[str]]:
    """Cells of the table that begins with `heading`."""
    table = DOCUMENT[DOCUMENT.index(f"| {heading} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def _quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Metric]:
    """By the name that the text format shows."""
    store = StoreSink.open(tmp_path_factory.mktemp("store") / "store.db")
    metrics = Metrics((), ROUTES, version="1")
    bus = Bus({"prometheus": metrics, "store": store})
    condition = {"target": TARGETS[0], "breaker": State.OPEN, "opened": 1, "barred": Passed.BREAKER}
    experiment = Standing("trial", "running", 1, {"completed": 2, "failed": 3}, 0.5)
    metrics.watch(
        inflight=lambda: 0,
        losses=bus.losses,
        store=store,
        lag=lambda: 0.0,
        targets=lambda: [condition],
        shadow=lambda: [experiment],
    )
    failed = [attempt(kind=Kind.CONNECT), attempt(kind=Kind.CONNECT, no=2)]
    made = exchange(*failed, used(streamed(attempt(TARGETS[1], no=3))), stream=True)
    made.decision = Decision("ordered", 1.0, (TARGETS[0],))
    bus.publish(made)
    assert store.close()
    body, _ = metrics.render("")
    found = text_string_to_metric_families(body.decode())
    return {f"{family.name}_total" if family.type == "counter" else family.name: family for family in found}


def test_every_metric_is_documented_and_there(families: dict[str, Metric]) -> None:
    documented = [(_quoted(name)[0], kind, sorted(_quoted(labels))) for name, kind, labels, _ in _rows("metric")]
    shown = [
        (name, family.type, sorted({label for s in family.samples for label in s.labels} - {"le"}))
        for name, family in families.items()
    ]
    assert sorted(documented) == sorted(shown)


def test_every_bucket_is_documented(families: dict[str, Metric]) -> None:
    documented = {name: bounds.split() for names, bounds in _rows("of") for name in _quoted(names)}
    shown: dict[str, list[str]] = {}
    for name, family in families.items():
        if family.type == "histogram":
            bounds = [sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")]
            shown[name] = list(dict.fromkeys(bounds))
    assert documented == shown


def test_closed_lists_are_documented_whole() -> None:
    values = {name: _quoted(text) for name, text in _rows("label")}
    (outcomes,) = [listed for name, listed in values.items() if name.startswith("`outcome`")]
    assert outcomes == [outcome.value for outcome in Outcome]
    assert values["`error_kind`"] == ["none", *(kind.value for kind in Kind if kind is not Kind.OK)]
    (tokens,) = [meaning for name, _, _, meaning in _rows("metric") if "tokens_total" in name]
    assert _quoted(tokens) == list(TOKEN_TYPES)


def test_every_reason_for_a_loss_is_documented(families: dict[str, Metric]) -> None:
    shown = {sample.labels["reason"] for sample in families["weighbridge_records_dropped_total"].samples}
    text = (Path(__file__).parents[2] / "docs" / "store.md").read_text("utf-8")
    table = text[text.index("| reason |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.M)) == shown


def test_shadow_experiments_are_shown(families: dict[str, Metric]) -> None:
    assert VERDICTS.keys() == {state.value for state in trial.State}
    pairs = {sample.labels["result"]: sample.value for sample in families["weighbridge_shadow_pairs_total"].samples}
    assert pairs == {"completed": 2, "failed": 3}
    (results,) = [meaning for name, _, _, meaning in _rows("metric") if "shadow_pairs" in name]
    assert _quoted(results) == list(RESULTS)
    values = {name: families[f"weighbridge_shadow_{name}"].samples[0].value for name in ("units", "spent_usd_total")}
    assert values == {"units": 1, "spent_usd_total": 0.5}
