"""Durations as counts by class of size: what can be added up over time and still be asked for quantiles.

64 classes an octave, so a quantile read from the counts is within 0.8 % of the sample that it stands for.
Plain integers and dictionaries: one bit operation and one dictionary write a sample.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from typing import NamedTuple

Counts = dict[int, int]
"""Class -> how many."""

_OCTAVE = 64
_SHIFT = 7  # bit_length of the smallest value that has a class of its own octave
_Z = 1.959964  # two-sided 95 % of the normal distribution


class Quantile(NamedTuple):
    """Nanoseconds, with the 95 % interval of order statistics; None where n is too small to tell."""

    value: float | None
    low: float | None
    high: float | None


def class_of(ns: int) -> int:
    if ns < _OCTAVE:
        return max(ns, 0)
    octave = ns.bit_length()
    return octave * _OCTAVE + ((ns >> (octave - _SHIFT)) & (_OCTAVE - 1))


def middle(index: int) -> float:
    """The duration in nanoseconds that stands for all of a class."""
    octave, part = divmod(index, _OCTAVE)
    if not octave:
        return float(part)
    width = 1 << (octave - _SHIFT)
    return (_OCTAVE + part) * width + (width - 1) / 2


def add(counts: Counts, ns: int) -> None:
    index = class_of(ns)
    counts[index] = counts.get(index, 0) + 1


def pack(counts: Mapping[int, int]) -> array[int]:
    """The same in a tenth of the memory: class, count, class, count, ..."""
    return array("I", [number for pair in counts.items() for number in pair])


def merge(into: Counts, packed: array[int]) -> None:
    for place in range(0, len(packed), 2):
        index = packed[place]
        into[index] = into.get(index, 0) + packed[place + 1]


def total(counts: Mapping[int, int]) -> int:
    return sum(counts.values())


def quantiles(counts: Mapping[int, int], qs: Iterable[float]) -> list[Quantile]:
    """Nearest rank. The value needs one sample beyond it (p99: n >= 100), the interval its ranks within the sample."""
    n = total(counts)
    ordered = sorted(counts)
    found = []
    for q in qs:
        if n * (1 - q) < 1 - 1e-9:
            found.append(Quantile(None, None, None))
            continue
        spread = _Z * math.sqrt(n * q * (1 - q))
        low, high = math.floor(n * q - spread), math.ceil(n * q + spread) + 1
        found.append(
            Quantile(
                _ranked(counts, ordered, math.ceil(n * q - 1e-9)),
                _ranked(counts, ordered, low) if low >= 1 and high <= n else None,
                _ranked(counts, ordered, high) if low >= 1 and high <= n else None,
            )
        )
    return found


def nearest(counts: Mapping[int, int], q: float) -> float | None:
    """The nearest rank whatever n is: the largest sample stands for a p99 of fewer than 100. For charts, beside n."""
    n = total(counts)
    return _ranked(counts, sorted(counts), max(1, math.ceil(n * q - 1e-9))) if n else None


def _ranked(counts: Mapping[int, int], ordered: list[int], rank: int) -> float:
    """The sample at `rank` (from 1) in order of size."""
    for index in ordered:
        rank -= counts[index]
        if rank <= 0:
            return middle(index)
    raise ValueError("no sample has this rank")
