"""Arrivals, ramps and the search for the highest rate."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bench.arrivals import Search, constant, poisson, ramp, recorded


@given(st.floats(0.5, 200), st.floats(0.5, 20))
def test_constant_arrivals_are_evenly_spaced_and_as_many_as_asked(rate: float, seconds: float) -> None:
    times = list(constant(rate, seconds))
    assert len(times) == round(rate * seconds)
    assert all(0 <= at <= seconds + 1 / rate for at in times)


def test_poisson_arrivals_have_the_rate_and_the_spread_of_chance() -> None:
    gaps: list[float] = []
    count = 0
    for seed in range(20):
        times = list(poisson(50.0, 20.0, Random(seed)))
        assert times == sorted(times)
        assert times == list(poisson(50.0, 20.0, Random(seed)))
        count += len(times)
        gaps += [b - a for a, b in pairwise(times)]
    assert 19_300 < count < 20_700  # 5 sigma
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance == pytest.approx(mean**2, rel=0.1)  # as of an exponential law


def test_recorded_arrivals_keep_their_distances() -> None:
    assert recorded([105.0, 100.0, 101.0]) == [0.0, 1.0, 5.0]
    assert recorded([100.0, 104.0], speed=2.0) == [0.0, 2.0]


def test_a_ramp_goes_from_end_to_end() -> None:
    assert [phase.users for phase in ramp(1, 100, 10, 5.0)] == [1, 12, 23, 34, 45, 56, 67, 78, 89, 100]
    assert [phase.users for phase in ramp(1, 3, 10, 5.0)] == [1, 2, 3]


@given(st.floats(0.5, 900))
def test_the_search_finds_the_edge(edge: float) -> None:
    search = Search(1.0, 1000.0)
    tries = 0
    while (rate := search.next) is not None:
        tries += 1
        assert tries < 30
        search.tried(rate, rate <= edge)
    assert search.good is not None
    assert search.good <= edge <= search.good * 1.11 + 1e-9


def test_the_search_ends_where_everything_or_nothing_holds() -> None:
    for holds in (True, False):
        search = Search(1.0, 64.0)
        for _ in range(30):
            if (rate := search.next) is None:
                break
            search.tried(rate, holds)
        assert search.next is None
        assert (search.good == 64.0) is holds
