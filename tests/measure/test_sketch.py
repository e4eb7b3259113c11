"""Durations by class: what is read from the counts is what was counted, within the promised 0.8 %."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.measure import sketch

_durations = st.lists(st.integers(0, 10**13), min_size=1, max_size=400)


@given(st.integers(0, 10**15))
def test_a_class_stands_for_what_is_in_it(ns: int) -> None:
    assert abs(sketch.middle(sketch.class_of(ns)) - ns) <= ns * 0.0079


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_classes_are_in_the_order_of_durations(one: int, other: int) -> None:
    one, other = sorted((one, other))
    assert sketch.class_of(one) <= sketch.class_of(other)


@given(_durations, st.sampled_from([0.5, 0.95, 0.99]))
def test_the_nearest_rank(durations: list[int], q: float) -> None:
    counts: sketch.Counts = {}
    for ns in durations:
        sketch.add(counts, ns)
    exact = sorted(durations)[max(1, math.ceil(len(durations) * q - 1e-9)) - 1]
    near = sketch.nearest(counts, q)
    assert near is not None
    assert abs(near - exact) <= exact * 0.0079
    (found,) = sketch.quantiles(counts, [q])
    enough = len(durations) * (1 - q) >= 1 - 1e-9
    assert (found.value is not None) == enough
    if enough:
        assert found.value == near
    if found.low is not None and found.high is not None:
        assert found.value is not None
        assert found.low <= found.value <= found.high


@given(_durations, _durations)
def test_packed_counts_add_up(some: list[int], more: list[int]) -> None:
    one, other, both = ({} for _ in range(3))  # type: sketch.Counts, sketch.Counts, sketch.Counts
    for ns in some:
        sketch.add(one, ns)
        sketch.add(both, ns)
    for ns in more:
        sketch.add(other, ns)
        sketch.add(both, ns)
    sketch.merge(one, sketch.pack(other))
    assert one == both
    assert sketch.total(both) == len(some) + len(more)


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_the_interval_covers_the_truth_as_often_as_it_says(q: float) -> None:
    """200 samples of 500 from a uniform distribution; at 95 % at least 179 of 200 cover (the 0.1 % binomial bound)."""
    rng = Random(5)
    covered = 0
    for _ in range(200):
        counts: sketch.Counts = {}
        for _ in range(500):
            sketch.add(counts, int(rng.random() * 1e9))
        (found,) = sketch.quantiles(counts, [q])
        assert found.low is not None
        assert found.high is not None
        covered += found.low * 0.992 <= q * 1e9 <= found.high * 1.008
    assert covered >= 179


def test_nothing_has_no_quantile() -> None:
    assert sketch.nearest({}, 0.5) is None
    assert sketch.quantiles({}, [0.5]) == [sketch.Quantile(None, None, None)]
