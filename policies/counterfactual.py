"""What another policy would have done with the same requests, from what was recorded. Standard library, pure.

Every recorded request says where it went and with which probability each target would have come first. A request that
the other policy would have sent there more often counts for more, by the ratio of the two. Three estimates: *weighted*
(the plain mean of the weighted values: unbiased, and wild where weights are), *self-normalised* (divided by the
weights' own sum) and *doubly robust* (the targets' own means, corrected by the weighted errors of those means), which
is right if either the probabilities or the means are. None can speak of what was never tried: there is no support, and
no estimate. Requests of one conversation are drawn together and alike, so intervals count conversations.
Sources: Horvitz & Thompson 1952; Swaminathan & Joachims 2015; Dudík, Langford & Li 2011; Kish 1965 (effective size).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

LEAST = 30.0
"""Effective conversations below which nothing is estimated."""
UNTRIED = 0.01
"""Share of the other policy's choices that may lie where nothing was ever tried; the estimate is silent about them."""
_Z95 = 1.96


class Logged(NamedTuple):
    """One request."""

    target: str
    """Where it went first."""
    chances: Mapping[str, float]
    """Probability of each target to come first, as recorded. Those that could not are missing."""
    wanted: Mapping[str, float]
    """The same under the other policy; sums to 1."""
    value: float
    """What came of it."""
    unit: str = ""
    """Its conversation, where that was looked at; empty: it stands for itself."""


class Tried(NamedTuple):
    """One request that two targets answered, as in a shadow pair."""

    served: str
    """The one whose answer the client had."""
    wanted: Mapping[str, float]
    values: Mapping[str, float]
    """What came of it at either target."""
    unit: str


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


class Counterfactual(NamedTuple):
    n: int
    units: int
    """Conversations."""
    effective: float
    """As many independent conversations as the weighted ones are worth."""
    as_served: float
    """The mean of what did happen."""
    weighted: Estimate | None
    self_normalised: Estimate | None
    doubly_robust: Estimate | None
    both_asked: Estimate | None = None
    """From requests that were sent to both targets; then there are no weights, and none of the other three."""


class Unsupported(Exception):
    """The records cannot tell; the text says why and what would help."""


def estimate(logged: Sequence[Logged], *, share: bool = False) -> Counterfactual:
    """`share`: values are 0 or 1, of which one may not have been seen yet. Raises `Unsupported`."""
    _check_support(logged)
    weights = [one.wanted.get(one.target, 0.0) / one.chances[one.target] for one in logged]
    units = [one.unit or place for place, one in enumerate(logged)]
    total = sum(weights)
    effective = total * total / (sum([weight * weight for weight in _by_unit(units, weights)]) or 1.0)
    if effective < LEAST:
        raise Unsupported(
            f"{len(logged):,} requests are worth only {effective:.0f} conversations for this policy; {LEAST:.0f} are"
            " the least"
        )
    n, values = len(logged), [one.value for one in logged]
    means = _means(logged)
    normal = sum([weight * value for weight, value in zip(weights, values, strict=True)]) / total
    guessed = [sum([share * means[name] for name, share in one.wanted.items() if name in means]) for one in logged]
    corrected = [
        guess + weight * (one.value - means[one.target])
        for guess, weight, one in zip(guessed, weights, logged, strict=True)
    ]
    found = (
        mean_of(units, [weight * value for weight, value in zip(weights, values, strict=True)]),
        _around(normal, units, [w * (value - normal) / total for w, value in zip(weights, values, strict=True)]),
        mean_of(units, corrected),
    )
    if share:
        found = (_of_share(found[0], effective), _of_share(found[1], effective), _of_share(found[2], effective))
    return Counterfactual(n, len(set(units)), effective, sum(values) / n, *found)


def estimate_tried(tried: Sequence[Tried], *, share: bool = False) -> Counterfactual:
    """From requests whose answers at all wanted targets are known. Raises `Unsupported`."""
    known = [one for one in tried if all(name in one.values for name, share in one.wanted.items() if share > 0)]
    if len(known) < (1.0 - UNTRIED) * len(tried):
        raise Unsupported("mirrored requests were answered by the primary and the candidate, and by no other target")
    units = [one.unit for one in known]
    if len(set(units)) < LEAST:
        raise Unsupported(f"only {len(set(units))} conversations were mirrored; {LEAST:.0f} are the least")
    values = [sum([share * one.values[name] for name, share in one.wanted.items() if share > 0]) for one in known]
    served = sum([one.values[one.served] for one in known]) / len(known)
    count = len(set(units))
    both = mean_of(units, values)
    both = _of_share(both, count) if share else both
    return Counterfactual(len(known), count, float(count), served, None, None, None, both)


def _check_support(logged: Sequence[Logged]) -> None:
    """The other policy may choose only what could have come first in the very same request."""
    untried: dict[str, float] = {}
    for one in logged:
        for name, share in one.wanted.items():
            if share > 0 and one.chances.get(name, 0.0) <= 0:
                untried[name] = untried.get(name, 0.0) + share
    if sum(untried.values()) <= UNTRIED * len(logged):
        return
    never = sorted(name for name in untried if all(one.target != name for one in logged))
    share = sum(untried.values()) / (len(logged) or 1)
    if never:
        what = f"no request ever went to {', '.join(never)}"
    else:
        what = (
            f"in {share:.0%} of the requests it would choose {', '.join(sorted(untried))}, where that was not possible"
        )
    raise Unsupported(f"{what}: give the route `explore: 1%`, or mirror its requests there (`shadow`) first")


def _by_unit(units: Sequence[object], values: Sequence[float]) -> list[float]:
    sums: dict[object, float] = {}
    for unit, value in zip(units, values, strict=True):
        sums[unit] = sums.get(unit, 0.0) + value
    return [*sums.values()]


def mean_of(units: Sequence[object], values: Sequence[float]) -> Estimate:
    """The mean over requests."""
    n = len(values)
    mean = sum(values) / n
    return _around(mean, units, [(value - mean) / n for value in values])


def _around(value: float, units: Sequence[object], parts: Sequence[float]) -> Estimate:
    """`parts`: what each request adds to the estimate's error; those of one unit are not independent."""
    sums = _by_unit(units, parts)
    count = len(sums)
    half = _Z95 * sqrt(sum([one * one for one in sums]) * count / max(1, count - 1))
    return Estimate(value, value - half, value + half)


def _of_share(one: Estimate, n: float) -> Estimate:
    """At least as wide as Wilson's interval for a share of `n`: none seen does not mean that there are none."""
    seen = min(1.0, max(0.0, one.value))
    scale = 1.0 + _Z95 * _Z95 / n
    middle = (seen + _Z95 * _Z95 / (2.0 * n)) / scale
    half = _Z95 * sqrt(seen * (1.0 - seen) / n + (_Z95 / (2.0 * n)) ** 2) / scale
    return Estimate(one.value, max(0.0, min(one.low, middle - half)), min(1.0, max(one.high, middle + half)))


def _means(logged: Sequence[Logged]) -> dict[str, float]:
    sums: dict[str, tuple[int, float]] = {}
    for one in logged:
        count, value = sums.get(one.target, (0, 0.0))
        sums[one.target] = count + 1, value + one.value
    return {name: value / count for name, (count, value) in sums.items()}
