"""The adaptive limit, against a target that bears a known number at once."""

from __future__ import annotations

import pytest

from policies.gradient import FIRST, LEAST, MOST, Gradient


def settled(bears: int, answers: int = 3000) -> float:
    """The mean limit over the last third, where each request beyond `bears` waits its turn."""
    gradient, limit, seen = Gradient(), FIRST, []
    for _ in range(answers):
        seconds = 0.4 * max(1.0, limit / bears)
        limit = gradient.observe(seconds, limit)
        seen.append(limit)
    late = seen[-answers // 3 :]
    return sum(late) / len(late)


@pytest.mark.parametrize("bears", [20, 40, 100])
def test_it_finds_what_a_target_bears(bears: int) -> None:
    assert bears * 0.9 < settled(bears) < bears * 3


def test_it_stays_within_its_bounds() -> None:
    assert settled(100_000, 60_000) == pytest.approx(MOST, abs=5)
    gradient = Gradient()
    gradient.observe(0.01, 100)
    assert all(LEAST <= gradient.observe(0.01 * 1.5**number, 100) <= MOST for number in range(40))


def test_half_idle_tells_nothing() -> None:
    gradient = Gradient()
    assert {gradient.observe(0.4, 3) for _ in range(200)} == {FIRST}
