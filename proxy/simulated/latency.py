"""How long a simulated upstream takes, and how much it says: fixed values and distributions as people write them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from random import Random

_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"({_NUMBER}) ?(ms|s|m)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_LOGNORMAL = re.compile(rf"lognormal\(\s*([^,()]+?)\s*,\s*({_NUMBER})\s*\)")
_RANGE = re.compile(r"(\d+)(?:\.\.(\d+))?")
_MOST_TOKENS = 1_000_000


def seconds(text: str) -> float:
    """`200ms`, `1.5s`, `2m` or `0` in seconds. Raises ValueError."""
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration: {text!r}; write it as 200ms, 1.5s or 2m")
    return float(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds: `low` when both are equal, else uniform from `low` to `high`; with `sigma`, lognormal around `low`."""

    low: float = 0.0
    high: float = 0.0
    sigma: float = 0.0
    """Of the logarithm; `low` is then the median."""

    @classmethod
    def of(cls, value: str | float | Latency) -> Latency:
        """`200ms`, `100ms..300ms`, `lognormal(200ms,0.4)` (median, sigma), or a number of seconds.

        Raises ValueError.
        """
        if isinstance(value, Latency):
            return value
        if isinstance(value, int | float):
            if isinstance(value, bool) or not 0 <= value < math.inf:
                raise ValueError(f"a latency is a number of seconds, 0 or more: {value!r}")
            return cls(float(value), float(value))
        if not isinstance(value, str):
            raise ValueError(f"a latency is text such as 200ms or a number of seconds, not {value!r}")
        text = value.strip()
        if text.startswith("lognormal"):
            match = _LOGNORMAL.fullmatch(text)
            if match is None:
                raise ValueError(f"not a distribution: {value!r}; write it as lognormal(200ms,0.4): median, sigma")
            median = seconds(match[1])
            return cls(median, median, float(match[2]))
        low, separator, high = text.partition("..")
        first = seconds(low.strip())
        last = seconds(high.strip()) if separator else first
        if last < first:
            raise ValueError(f"the range {value!r} runs backwards")
        return cls(first, last)

    def draw(self, rng: Random) -> float:
        if self.sigma:
            return self.low * math.exp(rng.gauss(0.0, self.sigma))
        if self.high > self.low:
            return rng.uniform(self.low, self.high)
        return self.low

    def __str__(self) -> str:
        low = f"{self.low * 1000:g}ms"
        if self.sigma:
            return f"lognormal({low},{self.sigma:g})"
        return low if self.high == self.low else f"{low}..{self.high * 1000:g}ms"


@dataclass(frozen=True, slots=True)
class Tokens:
    """How many tokens an answer has that no limit or stop cuts short: from `low` to `high`."""

    low: int = 20
    high: int = 20

    @classmethod
    def of(cls, value: str | int | Tokens) -> Tokens:
        """`50`, `"50"` or `"20..80"`. Raises ValueError."""
        if isinstance(value, Tokens):
            return value
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(f"tokens are a number or a range, such as 50 or 20..80, not {value!r}")
        match = _RANGE.fullmatch(str(value).strip())
        if match is None:
            raise ValueError(f"not a number of tokens: {value!r}; write it as 50 or 20..80")
        low = int(match[1])
        high = int(match[2] or low)
        if not 1 <= low <= high <= _MOST_TOKENS:
            raise ValueError(f"tokens run from 1 to {_MOST_TOKENS}, the smaller number first: {value!r}")
        return cls(low, high)

    def draw(self, rng: Random) -> int:
        return rng.randint(self.low, self.high) if self.high > self.low else self.low

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}..{self.high}"
