"""Whether a canary's share grows, holds or falls back to nothing: from what came of its units and of the others'.

A unit (a conversation) of the canary is paired with one that the others served at about the same time, and the
differences are counted over the whole rollout. A step is left upwards when every metric is shown to be no worse than
the step's margin, with enough units and time; the margins narrow from step to step, and the last one before all
traffic is the margin itself. So a candidate that is worse than its margin reaches the end with a chance of at most
alpha / 2, however often one looks. It is rolled back for harm when a metric is shown to be worse than the margin,
over the whole rollout or since the step began (alpha / 2, shared by the metrics and by these two). Where a step shows
neither in its time, it is rolled back, too, but that is called a time-out and no harm.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log
from typing import Any, NamedTuple

from policies import evidence

SEEN = 50_000
"""Units that are remembered as counted; the least recent goes first, and counts again if it comes back."""
WAITING = 1000
"""Units of either side that wait for one of the other."""
WIDER = (4.0, 3.0, 2.0, 1.0)
"""The margins of the last steps before all traffic, as multiples of the margin; earlier steps have the first."""


class Status(StrEnum):
    RUNNING = "running"
    PROMOTED = "promoted"
    HARM = "rolled_back"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class Terms:
    steps: tuple[float, ...]
    margins: Mapping[str, float]
    """How much worse each metric may be; scores are in [0, 1] and more is better. The first one must be there."""
    alpha: float = 0.05
    units: int = 100
    """Pairs that a step must have seen."""
    hold: float = 60.0
    """Seconds that a step lasts at least."""
    patience: float = 7 * 86400.0
    """Seconds after which a step that has shown nothing is given up."""


class Event(NamedTuple):
    """What is written into the audit."""

    at: float
    event: str
    """`started`, `advanced`, `promoted`, `rolled_back`, `timed_out`."""
    share: float
    """From now on."""
    units: int
    """Pairs so far."""
    detail: str


class Rollout:
    """Mutable; times in seconds of one clock, which never runs backwards."""

    __slots__ = (
        "_began",
        "_counts",
        "_look",
        "_seen",
        "_since",
        "_step_counts",
        "_waiting",
        "status",
        "step",
        "terms",
        "units",
    )

    def __init__(self, terms: Terms, now: float) -> None:
        self.terms = terms
        self.status = Status.RUNNING
        self.step = 0
        self.units = 0
        """Pairs so far."""
        self._began = now
        self._look = 0
        """Pairs at which to judge next: looking less often is always allowed, and looking costs."""
        self._since = 0
        """Pairs before this step."""
        self._counts: dict[str, dict[int, int]] = {}
        self._step_counts: dict[str, dict[int, int]] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._waiting: dict[bool, deque[tuple[str, Mapping[str, float]]]] = {
            True: deque(maxlen=WAITING),
            False: deque(maxlen=WAITING),
        }

    @property
    def share(self) -> float:
        if self.status is Status.RUNNING:
            return self.terms.steps[self.step]
        return 1.0 if self.status is Status.PROMOTED else 0.0

    def unit(self, id: str, canary: bool, scores: Mapping[str, float], now: float) -> Event | None:
        """The first that is known of a unit; later ones of the same unit say nothing new."""
        if self.status is not Status.RUNNING or id in self._seen:
            return None
        self._seen[id] = None
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        others = self._waiting[not canary]
        if not others:
            self._waiting[canary].append((id, scores))
            return None
        # The latest of the plentiful side, the longest waiting of the scarce one: near in time either way.
        other_id, other = others.pop() if canary else others.popleft()
        pair = f"{id}\x1f{other_id}"
        mine, theirs = (scores, other) if canary else (other, scores)
        for metric in self.terms.margins:
            if metric in mine and metric in theirs:
                bin = evidence.bin_of(mine[metric] - theirs[metric], f"{metric}\x1f{pair}")
                for counts in (self._counts, self._step_counts):
                    one = counts.setdefault(metric, {})
                    one[bin] = one.get(bin, 0) + 1
        self.units += 1
        if self.units < self._look:
            return self.tick(now)
        self._look = self.units + max(10, self.units // 50)
        return self._judged(now)

    def tick(self, now: float) -> Event | None:
        """Time has passed."""
        if self.status is Status.RUNNING and now - self._began >= self.terms.patience:
            return self._ended(Status.TIMED_OUT, now, f"nothing shown within {self.terms.patience:.0f} s")
        return None

    def _judged(self, now: float) -> Event | None:
        harmed = self._harmed()
        if harmed:
            return self._ended(Status.HARM, now, f"worse than the margin on {', '.join(harmed)}")
        terms = self.terms
        if self.units - self._since < terms.units or now - self._began < terms.hold or not self._shown():
            return self.tick(now)
        if (self.step + 2 >= len(terms.steps) and terms.steps[-1] >= 1.0) or self.step + 1 == len(terms.steps):
            return self._ended(Status.PROMOTED, now, "no metric is worse than its margin")
        self.step += 1
        self._began, self._since, self._step_counts = now, self.units, {}
        return Event(now, "advanced", self.share, self.units, f"step {self.step + 1} of {len(terms.steps)}")

    def _harmed(self) -> list[str]:
        bar = log(2.0 * 2.0 * len(self.terms.margins) / self.terms.alpha)
        return [
            metric
            for metric, margin in self.terms.margins.items()
            if any(
                evidence.log_below(counts[metric], -margin) >= bar
                for counts in (self._counts, self._step_counts)
                if metric in counts
            )
        ]

    def _shown(self) -> bool:
        bar = log(2.0 / self.terms.alpha)
        wider = self.wider()
        first = next(iter(self.terms.margins))
        return first in self._counts and all(
            evidence.log_above(self._counts[metric], -min(1.0, margin * wider)) >= bar
            for metric, margin in self.terms.margins.items()
            if metric in self._counts
        )

    def wider(self) -> float:
        """By how much this step's margins are wider than the last one's."""
        last = len(self.terms.steps) - (2 if self.terms.steps[-1] >= 1.0 else 1)
        return WIDER[max(0, len(WIDER) - 1 - max(0, last - self.step))]

    def _ended(self, status: Status, now: float, detail: str) -> Event:
        self.status = status
        return Event(now, status.value, self.share, self.units, detail)

    def shown(self) -> dict[str, Any]:
        """For pages and the store; `restored` takes it back, but for units that wait."""
        return {
            "status": self.status.value,
            "step": self.step,
            "share": self.share,
            "units": self.units,
            "began": self._began,
            "since": self._since,
            "counts": {metric: sorted(counts.items()) for metric, counts in self._counts.items()},
            "step_counts": {metric: sorted(counts.items()) for metric, counts in self._step_counts.items()},
        }

    @classmethod
    def restored(cls, terms: Terms, state: Mapping[str, Any]) -> Rollout:
        made = cls(terms, state["began"])
        made.status = Status(state["status"])
        made.step = min(int(state["step"]), len(terms.steps) - 1)
        made.units, made._since = int(state["units"]), int(state["since"])
        made._counts = _read(state["counts"])
        made._step_counts = _read(state["step_counts"])
        return made


def _read(stored: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, dict[int, int]]:
    return {metric: {int(bin): int(number) for bin, number in counts} for metric, counts in stored.items()}
