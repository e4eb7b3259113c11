"""The few statistics that the tables need; all pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def quantile(values: Sequence[float], q: float) -> float:
    """The value at or below which a share `q` of the sample lies (the higher of two); NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def student_975(freedom: int) -> float:
    """97.5 % quantile of Student's t by its expansion in 1/freedom; right to 0.01 from 4 degrees on."""
    z: float = statistics.NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope of y over x and the half width of its 95 % interval; at least 4 points."""
    fit = statistics.linear_regression(x, y)
    rest = [b - (fit.intercept + fit.slope * a) for a, b in zip(x, y, strict=True)]
    freedom = len(x) - 2
    variance = sum(r * r for r in rest) / freedom
    mean = statistics.fmean(x)
    return fit.slope, student_975(freedom) * math.sqrt(variance / sum((a - mean) ** 2 for a in x))
