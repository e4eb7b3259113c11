"""Shadow experiments in the exposition; their names come from the config. `/api/shadow` has all about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

VERDICTS = {"running": 0, "inconclusive": 1, "budget_exhausted": 1, "promote": 2, "reject": 3}


class Standing(NamedTuple):
    """How one experiment is."""

    name: str
    state: str
    units: int
    pairs: Mapping[str, int]
    """Result -> how many; results are a closed list."""
    spent_usd: float


def families(experiments: Sequence[Standing]) -> Iterator[Metric]:
    pairs = CounterMetricFamily(
        "weighbridge_shadow_pairs", "Mirrored requests, by what became of them.", labels=("experiment", "result")
    )
    spent = CounterMetricFamily("weighbridge_shadow_spent_usd", "US dollars spent on it.", labels=("experiment",))
    units = GaugeMetricFamily("weighbridge_shadow_units", "Units that have their score.", labels=("experiment",))
    verdict = GaugeMetricFamily(
        "weighbridge_shadow_verdict", "0: running, 1: inconclusive, 2: promote, 3: reject.", labels=("experiment",)
    )
    for one in experiments:
        for result, count in one.pairs.items():
            pairs.add_metric((one.name, result), count)
        spent.add_metric((one.name,), one.spent_usd)
        units.add_metric((one.name,), one.units)
        verdict.add_metric((one.name,), VERDICTS[one.state])
    yield from (pairs, spent, units, verdict)
