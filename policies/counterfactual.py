"""What other shares among the same targets would have done, from what was recorded. Standard library, pure.

Every recorded request says where it went and with which probability it went there. A request that the other shares
would have sent there more often counts for more, by the ratio of the two. Two estimates: *self-normalised* (the
weighted mean) and *doubly robust* (the targets' own means, corrected by the weighted errors of those means), which is
right if either the probabilities or the means are. Neither can speak of a target that was never drawn: there is no
support, and no estimate. Sources: Swaminathan & Joachims 2015; Dudík, Langford & Li 2011; Kish 1965 (effective size).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

LEAST = 30.0
"""Effective requests below which nothing is estimated."""
_Z95 = 1.96


class Logged(NamedTuple):
    """One request."""

    target: str
    """Where it went first."""
    propensity: float
    """Probability with which it went there, as recorded."""
    value: float
    """What came of it."""


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


class Counterfactual(NamedTuple):
    n: int
    effective: float
    """As many independent requests as the weighted ones are worth."""
    as_served: float
    """The mean of what did happen."""
    self_normalised: Estimate
    doubly_robust: Estimate


class Unsupported(Exception):
    """The records cannot tell; the text says why and what would help."""


def estimate(logged: Sequence[Logged], shares: Mapping[str, float]) -> Counterfactual:
    """`shares` of the targets, summing to 1. Raises `Unsupported`."""
    seen = {one.target for one in logged}
    missing = sorted(name for name, share in shares.items() if share > 0 and name not in seen)
    if missing:
        raise Unsupported(
            f"no request ever went to {', '.join(missing)}: give the route `explore: 1%`, or mirror to it first"
        )
    certain = sorted(
        name for name, share in shares.items()
        if 0 < share < 1 and all(one.propensity >= 1.0 for one in logged if one.target == name)
    )  # fmt: skip
    if certain:
        raise Unsupported(
            f"requests went to {', '.join(certain)} only where nothing else could happen, so they are no fair sample:"
            " give the route `explore: 1%`"
        )
    weights = [shares.get(one.target, 0.0) / one.propensity for one in logged]
    total = sum(weights)
    effective = total * total / (sum([weight * weight for weight in weights]) or 1.0)
    if effective < LEAST:
        raise Unsupported(
            f"{len(logged):,} requests are worth only {effective:.0f} for these shares; {LEAST:.0f} are the least"
        )
    n = len(logged)
    mean = sum([weight * one.value for weight, one in zip(weights, logged, strict=True)]) / total
    spread = sqrt(sum([(w * (one.value - mean)) ** 2 for w, one in zip(weights, logged, strict=True)])) / total
    means = _means(logged)
    direct = sum([share * means[name] for name, share in shares.items() if share > 0])
    parts = [direct + w * (one.value - means[one.target]) for w, one in zip(weights, logged, strict=True)]
    robust = sum(parts) / n
    deviation = sqrt(sum([(part - robust) ** 2 for part in parts]) / max(1, n - 1) / n)
    return Counterfactual(
        n,
        effective,
        sum([one.value for one in logged]) / n,
        Estimate(mean, mean - _Z95 * spread, mean + _Z95 * spread),
        Estimate(robust, robust - _Z95 * deviation, robust + _Z95 * deviation),
    )


def _means(logged: Sequence[Logged]) -> dict[str, float]:
    sums: dict[str, tuple[int, float]] = {}
    for one in logged:
        count, value = sums.get(one.target, (0, 0.0))
        sums[one.target] = count + 1, value + one.value
    return {name: value / count for name, (count, value) in sums.items()}
