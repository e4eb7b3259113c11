"""The last day in memory, in buckets of time: what `/api/stats` and the live page show.

A sink of plain integers. The store is not asked for this: it may be `none`, and a quarter of an hour at a thousand
requests a second would be a million rows to sort at every refresh. Here a request costs some microseconds
(`benchmarks/micro.py recent`) and a refresh some milliseconds in a thread, whatever the traffic.

Buckets of one second are kept for five minutes; as each closes it is added to one of ten seconds (kept for an hour),
and that to one of five minutes (kept for a day). Only live traffic is counted, under the same names as the metrics:
what clients named directly is `provider/*`, so memory is bounded by the config.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from operator import add as add_up
from typing import NamedTuple

from policies.verdict import Kind, Outcome
from proxy.measure import sketch, timing
from proxy.record import Attempt, Exchange, Origin
from proxy.wire.usage import CLASSES

SECOND = 1_000_000_000
LEVELS = ((1, 300), (10, 360), (300, 288))
"""(seconds a bucket, buckets kept), from fine to coarse; each a multiple of the one before."""
POINTS = 75
"""A window is shown in at most so many steps, each of one of these numbers of seconds."""
STEPS = (2, 5, 10, 20, 30, 60, 120, 300, 600, 1200)
LONGEST_S = LEVELS[-1][0] * LEVELS[-1][1]

FAILED = frozenset(set(Outcome) - {Outcome.OK, Outcome.CLIENT_ERROR, Outcome.CLIENT_CLOSED})
"""Somebody's fault but the client's. Of an attempt it is an error before failover, of an exchange one after it."""

NONE = "none"
"""The target of requests that reached none."""

(REQUESTS, REQUESTS_FAILED, ATTEMPTS, ATTEMPTS_FAILED, FAILOVERS, RETRIES) = range(6)
(STREAMS, STALLED, COST_NANO, PRICED, UNPRICED, TOKENS) = range(6, 12)
WIDTH = TOKENS + len(CLASSES)
"""`TOKENS` and what follows are the classes of `Usage`, in its order. `COST_NANO` is in billionths of a dollar."""


class Cell:
    """What happened to one target in one bucket."""

    __slots__ = ("e2e", "kinds", "numbers", "ttft")

    def __init__(self) -> None:
        self.numbers = [0] * WIDTH
        self.kinds: dict[Kind, int] = {}
        """Failed attempts."""
        self.ttft: sketch.Counts = {}
        self.e2e: sketch.Counts = {}


class Packed(NamedTuple):
    """A cell that will not change any more."""

    numbers: list[int]
    kinds: dict[Kind, int]
    ttft: array[int]
    e2e: array[int]


Cells = dict[str, Cell]
Bucket = tuple[int, dict[str, Packed]]
"""(a number, target -> what happened): within a level numbers count buckets, in a `Window` seconds."""


def pack(cell: Cell) -> Packed:
    return Packed(cell.numbers.copy(), cell.kinds.copy(), sketch.pack(cell.ttft), sketch.pack(cell.e2e))


def add(into: Cell, more: Packed) -> None:
    into.numbers = [a + b for a, b in zip(into.numbers, more.numbers, strict=True)]
    for kind, count in more.kinds.items():
        into.kinds[kind] = into.kinds.get(kind, 0) + count
    sketch.merge(into.ttft, more.ttft)
    sketch.merge(into.e2e, more.e2e)


class _Level:
    __slots__ = ("closed", "keep", "number", "open", "width")

    def __init__(self, width: int, keep: int) -> None:
        self.width = width
        self.keep = keep
        self.number = -1
        self.open: Cells = {}
        self.closed: deque[Bucket] = deque()

    def close(self) -> dict[str, Packed]:
        packed = {target: pack(cell) for target, cell in self.open.items()}
        if packed:
            self.closed.append((self.number, packed))
        self.open = {}
        while self.closed and self.closed[0][0] <= self.number - self.keep:
            self.closed.popleft()
        return packed


class Window(NamedTuple):
    """A copy of the buckets of some time, in seconds on the clock of the marks."""

    first: int
    """Where the first step begins."""
    step: int
    now_ns: int
    labels: Sequence[str]
    """The configured targets, in the config's order."""
    buckets: Sequence[Bucket]


class Recent:
    """A sink. `accept` and `since` run on the event loop; what `since` gives may be read in any thread."""

    def __init__(self, targets: Iterable[str]) -> None:
        self._levels = [_Level(width, keep) for width, keep in LEVELS]
        self._fine = self._levels[0]
        self._labels: dict[str, str] = {}
        self.allow(targets)

    def allow(self, targets: Iterable[str]) -> None:
        """The configured targets from now on, in the order in which they are shown."""
        self._order = [*targets]
        self._labels.update((target, target) for target in self._order)

    def accept(self, exchange: Exchange) -> None:
        if exchange.origin is not Origin.LIVE:
            return
        marks = exchange.marks
        number = marks.end // SECOND
        if number > self._fine.number:
            self._advance(number)
        attempts, winner, cell = exchange.attempts, exchange.winner, None
        previous: Attempt | None = None
        for attempt in attempts:
            if previous is not None and cell is not None and Kind.SUPERSEDED not in (previous.kind, attempt.kind):
                cell.numbers[RETRIES if previous.target == attempt.target else FAILOVERS] += 1
            cell = self._cell(attempt)
            _count_attempt(cell, attempt)
            previous = attempt
        if winner is not None and winner is not previous:
            cell = self._cell(winner)
        if cell is None:
            cell = self._named(NONE)
        numbers = cell.numbers
        numbers[REQUESTS] += 1
        if exchange.outcome in FAILED:
            numbers[REQUESTS_FAILED] += 1
        if marks.received:
            sketch.add(cell.e2e, marks.end - marks.received)
        if winner is not None and exchange.stream:
            _count_stream(cell, exchange, winner)

    def since(self, seconds: int, now_ns: int) -> Window:
        """The last `seconds` (at most `LONGEST_S`); `now_ns` on the clock of the marks."""
        number = now_ns // SECOND
        if number > self._fine.number:
            self._advance(number)
        place = next(place for place, level in enumerate(self._levels) if level.width * level.keep >= seconds)
        level = self._levels[place]
        step = next(step for step in STEPS if step % level.width == 0 and seconds / step <= POINTS)
        first = (now_ns // SECOND - seconds) // step * step + step
        buckets = [(number * level.width, cells) for number, cells in level.closed if number * level.width >= first]
        for finer in self._levels[: place + 1]:
            if finer.number * finer.width >= first:
                buckets.append((finer.number * finer.width, {name: pack(cell) for name, cell in finer.open.items()}))
        return Window(first, step, now_ns, self._order, buckets)

    def _cell(self, attempt: Attempt) -> Cell:
        return self._named(self._labels.get(attempt.target) or f"{attempt.provider}/*")

    def _named(self, label: str) -> Cell:
        cell = self._fine.open.get(label)
        if cell is None:
            cell = self._fine.open[label] = Cell()
        return cell

    def _advance(self, number: int) -> None:
        """Close the bucket that is over, and those of the coarser levels that end with it."""
        for place, level in enumerate(self._levels):
            now = number // level.width
            if now == level.number:
                return
            closed = level.close()
            if place + 1 < len(self._levels):
                coarser = self._levels[place + 1]
                for label, packed in closed.items():
                    cell = coarser.open.get(label)
                    if cell is None:
                        cell = coarser.open[label] = Cell()
                    add(cell, packed)
            level.number = now


def _count_attempt(cell: Cell, attempt: Attempt) -> None:
    numbers, kind = cell.numbers, attempt.kind
    numbers[ATTEMPTS] += 1
    if attempt.outcome in FAILED:
        numbers[ATTEMPTS_FAILED] += 1
        cell.kinds[kind] = cell.kinds.get(kind, 0) + 1
    usage = attempt.usage
    if usage is not None:
        numbers[TOKENS:] = map(add_up, numbers[TOKENS:], usage)  # `Usage.parts` is one too many
    if attempt.cost_usd is not None:
        numbers[COST_NANO] += round(attempt.cost_usd * 1e9)
        numbers[PRICED] += 1
    elif usage is not None:
        numbers[UNPRICED] += 1


def _count_stream(cell: Cell, exchange: Exchange, winner: Attempt) -> None:
    ttft = timing.exchange_ttft(exchange)
    if ttft is not None:
        sketch.add(cell.ttft, ttft)
    gaps = winner.gaps
    if gaps is not None:
        cell.numbers[STREAMS] += 1
        if gaps.long and timing.stalls(gaps)[0]:
            cell.numbers[STALLED] += 1
