"""Recent times, against the exact quantiles of what was put in."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.recent import Peak, Recent


@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.5, 0.9, 0.95, 0.99]))
def test_quantiles_are_within_a_class(seed: int, q: float) -> None:
    rng = Random(seed)
    values = sorted(rng.lognormvariate(-1.0, 0.8) for _ in range(400))
    recent = Recent(fade=1e9)
    for value in values:
        recent.add(value, 10.0)
    found, place = recent.quantile(q), int(q * 400)
    assert found is not None
    assert values[place - 2] / 1.125 <= found <= values[min(399, place + 1)] * 1.125


def test_nothing_is_said_of_too_few() -> None:
    recent = Recent()
    assert recent.quantile(0.5) is None
    assert recent.beyond(1.0) == (0.0, 0.0)
    recent.add(0.2, 1.0)
    assert recent.quantile(0.5, least=2) is None
    assert recent.quantile(0.5) == pytest.approx(0.2, rel=0.1)


def test_old_times_fade_at_any_age() -> None:
    for gap in (60.0, 3_000.0, 1e6):
        recent = Recent(fade=20.0)
        for _ in range(100):
            recent.add(0.1, 5.0)
        for _ in range(20):
            recent.add(3.0, 5.0 + gap)
        assert recent.quantile(0.5) == pytest.approx(3.0, rel=0.1)
        assert recent.beyond(1.0) == (pytest.approx(20.0), pytest.approx(20.0, rel=0.3))


def test_what_never_came_took_longer_than_anything() -> None:
    recent = Recent()
    for _ in range(9):
        recent.add(0.1, 1.0)
    recent.missed(1.0)
    assert recent.beyond(100.0) == (pytest.approx(1.0), pytest.approx(10.0))


def test_extremes_have_a_class() -> None:
    recent = Recent()
    for value in (0.0, 1e-9, 1e9):
        recent.add(value, 1.0)
    assert recent.beyond(10.0) == (1.0, 3.0)


def test_a_peak_is_believed_at_once_and_forgotten_slowly() -> None:
    peak = Peak(fade=30.0)
    assert peak.value(0.0) is None
    for _ in range(100):
        peak.add(0.4, 0.0)
    assert peak.value(0.0) == pytest.approx(0.4)
    peak.add(4.0, 0.0)
    at_once = peak.value(0.0)
    assert at_once is not None
    assert at_once == pytest.approx(4.0)
    later, much_later = peak.value(30.0), peak.value(300.0)
    assert later is not None
    assert much_later is not None
    assert 1.5 < later < 2.2
    assert much_later == pytest.approx(0.47, abs=0.01)


def test_a_punishment_fades_whatever_else_comes() -> None:
    peak = Peak(fade=30.0)
    peak.punish(10.0, 0.0)
    assert peak.value(0.0) == 10.0
    peak.add(0.5, 1.0)
    during, after = peak.value(1.0), peak.value(200.0)
    assert during is not None
    assert after is not None
    assert during > 5.0
    assert after == pytest.approx(0.5, abs=0.05)
