"""What the store's records say about targets, routes, keys or tags: figures with their intervals. Pure.

What failed is not left out of the latencies: an answer that never came is as slow as can be (infinite). Requests that
the client got wrong are left out, and so are those that it gave up before an answer, which are counted beside.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from proxy.measure import sketch, stats
from proxy.measure.stats import Estimate, Sums

BY = ("target", "route", "key", "tag", "operation")
NEVER = float("inf")
CLIENTS_DOING = ("client_error", "client_closed")

COLUMNS = (
    "at", "target", "route", "key", "operation", "tags", "outcome", "stream", "ttft_ms", "e2e_ms", "stall_count",
    "attempts", "failovers", "cost_usd", "winner_no", "input_tokens", "cached_tokens", "output_tokens",
    "reasoning_tokens",
)  # fmt: skip
"""Of `v_exchanges`, as `Group.add` takes them."""


class Levels(NamedTuple):
    """Service levels, in milliseconds; None: not asked for."""

    ttft_ms: float | None = None
    e2e_ms: float | None = None

    @property
    def asked(self) -> bool:
        return self.ttft_ms is not None or self.e2e_ms is not None


class Group:
    """Everything that is added up about one target (route, key, tag)."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        self.requests = 0
        self.judged = 0
        """Requests that the client got right and waited for."""
        self.failed = 0
        self.left = 0
        """Given up by the client before their answer."""
        self.failovers = 0
        self.tried = 0
        self.attempts = 0
        self.streams = 0
        self.stalled = 0
        self.met = 0
        self.answered = 0
        self.unpriced = 0
        self.cost_usd = 0.0
        self.tokens = dict.fromkeys(("input", "cached", "output", "reasoning"), 0)
        self.outcomes: dict[str, int] = {}
        self._ttft = array("d")
        self._e2e = array("d")
        self._summed_ttft: sketch.Counts = {}
        self._summed_e2e: sketch.Counts = {}
        self._never_ttft = self._never_e2e = 0
        self._summed = False
        self._incomplete = False
        """Some sums lack what costs by request need."""
        self._per_request = Sums()
        self._per_success = Sums()

    def add(self, row: Mapping[str, Any]) -> None:
        outcome = row["outcome"]
        self.requests += 1
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.attempts += row["attempts"]
        self.tried += row["attempts"] > 0
        self.failovers += row["failovers"] > 0
        ok = outcome == "ok"
        if outcome not in CLIENTS_DOING:
            self.judged += 1
            self.failed += not ok
            self._e2e.append(row["e2e_ms"] if ok and row["e2e_ms"] is not None else NEVER)
            if row["stream"]:
                self._ttft.append(row["ttft_ms"] if row["ttft_ms"] is not None else NEVER)
            self.met += ok and self._meets(row)
        elif outcome == "client_closed":
            self.left += 1
        if row["stream"] and row["ttft_ms"] is not None:
            self.streams += 1
            self.stalled += (row["stall_count"] or 0) > 0
        self._add_cost(row, ok)
        for name in self.tokens:
            self.tokens[name] += row[f"{name}_tokens"] or 0

    def add_sum(self, row: Mapping[str, Any]) -> None:
        """A row of `v_rollups`, its histograms as counts by class."""
        outcomes, requests = row["outcomes"], row["requests"]
        ok = outcomes.get("ok", 0)
        judged = sum(count for outcome, count in outcomes.items() if outcome not in CLIENTS_DOING)
        self._summed = True
        self.requests += requests
        self.judged += judged
        self.failed += judged - ok
        self.left += outcomes.get("client_closed", 0)
        self.failovers += row["failovers"]
        self.tried += requests if row["target"] else 0
        self.stalled += row["stalled_streams"]
        self.cost_usd += row["cost_usd"]
        self.unpriced += row["unpriced"]
        for outcome, count in outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        for name, of in _TOKENS.items():
            self.tokens[name] += sum(row[f"{one}_tokens"] for one in of)
        for into, counts in ((self._summed_ttft, row["ttft"]), (self._summed_e2e, row["e2e"])):
            for size, count in counts.items():
                into[size] = into.get(size, 0) + count
        came = sketch.total(row["ttft"])
        self._never_e2e += judged - sketch.total(row["e2e"])
        if row["priced"] is None:
            # Of before store version 12: what is not known is taken as it is most often.
            self._incomplete = True
            self.streams += row["streams"]
            self.answered += ok
            return
        self._never_ttft += max(0, row["judged_streams"] - came)
        self.streams += row["answered_streams"]
        self.answered += row["answered"]
        self.attempts += row["attempts"]
        priced, usd, squared = row["priced"], row["cost_usd"], row["squared_usd"]
        self._per_request.merge(priced, usd, priced, squared, priced, usd)
        counted = requests - (ok - row["priced_ok"])
        self._per_success.merge(counted, usd, row["priced_ok"], squared, row["priced_ok"], row["ok_cost_usd"])

    def _meets(self, row: Mapping[str, Any]) -> bool:
        levels = self._levels
        if levels.e2e_ms is not None and row["e2e_ms"] > levels.e2e_ms:
            return False
        return levels.ttft_ms is None or not row["stream"] or row["ttft_ms"] <= levels.ttft_ms

    def _add_cost(self, row: Mapping[str, Any], ok: bool) -> None:
        cost = row["cost_usd"]
        self.cost_usd += cost or 0.0
        if row["winner_no"] is not None:
            self.answered += 1
            self.unpriced += cost is None
        if cost is not None:
            self._per_request.add(cost)
        if cost is not None or not ok:
            self._per_success.add(cost or 0.0, float(ok))

    def figures(self, seconds: float) -> dict[str, Any]:
        """As `weighbridge report --format json` shows them; `seconds`: length of the window."""
        ttft = _Sample(self._ttft, self._summed_ttft, self._never_ttft)
        e2e = _Sample(self._e2e, self._summed_e2e, self._never_e2e)
        shown: dict[str, Any] = {
            "requests": self.requests,
            "outcomes": dict(sorted(self.outcomes.items())),
            "attempts": self.attempts,
            "errors": stats.share(self.failed, self.judged),
            "failovers": stats.share(self.failovers, self.tried),
            "left_by_client": self.left,
            "ttft_ms": ttft.quantiles(),
            "e2e_ms": e2e.quantiles(),
            "ttft_answered_ms": ttft.answered().quantiles(),
            "e2e_answered_ms": e2e.answered().quantiles(),
            "stalled_streams": stats.share(self.stalled, self.streams),
            "tokens": dict(self.tokens),
            "cost_usd": None if self.unpriced == self.answered > 0 and not self.cost_usd else self.cost_usd,
            "cost_per_request_usd": UNKNOWN if self._incomplete else self._per_request.ratio(),
            "cost_per_success_usd": UNKNOWN if self._incomplete else self._per_success.ratio(),
            "unpriced": stats.share(self.unpriced, self.answered),
        }
        if self._incomplete:
            shown["attempts"] = None
        if self._levels.asked:
            shown["within_levels"] = stats.share(self.met, self.judged)
            shown["goodput_per_s"] = self.met / seconds if seconds else None
        return shown


class _Sample:
    """Times in milliseconds: single ones (infinite where an answer never came), and sums of them by class."""

    def __init__(self, single: Sequence[float], summed: Mapping[int, int], never: int) -> None:
        self._single = sorted(single)
        self._summed = summed
        self._never = never
        """How many of the sums' never came."""

    def answered(self) -> _Sample:
        """What came alone: how fast it is when it works."""
        return _Sample(self._single[: bisect_left(self._single, NEVER)], self._summed, 0)

    def quantiles(self) -> dict[str, Estimate]:
        if not self._summed and not self._never:
            return {name: stats.quantile(self._single, q) for name, q in QUANTILES.items()}
        counts = [(sketch.middle(size) / 1e6, count) for size, count in self._summed.items()]
        counts += [(value, 1) for value in self._single]
        counts += [(NEVER, self._never)]
        counts.sort()
        return {name: stats.quantile_of(counts, q) for name, q in QUANTILES.items()}


_TOKENS = {
    "input": ("uncached_input", "cache_read", "cache_write"),
    "cached": ("cache_read",),
    "output": ("output_text", "reasoning"),
    "reasoning": ("reasoning",),
}
UNKNOWN = Estimate(None, None, None, 0, "sums of before store version 12 do not tell it")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
COMPARED = ("errors", "failovers", "stalled_streams", "cost_per_request_usd", "cost_per_success_usd")


class Source(NamedTuple):
    """Where a part of a window was read from."""

    kind: str
    """`records`, or sums by the `minute` or `day`."""
    since: str
    until: str


class Report(NamedTuple):
    by: str
    since: str
    until: str
    total: dict[str, Any]
    groups: dict[str, dict[str, Any]]
    sources: Sequence[Source] = ()


def report(
    rows: Iterable[Mapping[str, Any]],
    by: str,
    since: str,
    until: str,
    seconds: float,
    levels: Levels,
    sums: Iterable[Mapping[str, Any]] = (),
    sources: Sequence[Source] = (),
) -> Report:
    """`rows` of `v_exchanges`, at least the `COLUMNS`; `sums` of `v_rollups` for what is older, of no record twice."""
    total = Group(levels)
    groups: dict[str, Group] = {}
    for row in rows:
        total.add(row)
        for name in _names(row, by):
            group = groups.get(name)
            if group is None:
                group = groups[name] = Group(levels)
            group.add(row)
    for row in sums:
        total.add_sum(row)
        name = row[by] or "(none)"
        if name not in groups:
            groups[name] = Group(levels)
        groups[name].add_sum(row)
    ordered = sorted(groups.items(), key=lambda pair: (-pair[1].requests, pair[0]))
    figures = {name: group.figures(seconds) for name, group in ordered}
    return Report(by, since, until, total.figures(seconds), figures, sources)


def _names(row: Mapping[str, Any], by: str) -> Sequence[str]:
    if by == "tag":
        return (row["tags"] or "(none)").split(" ")
    return (row[by] or "(none)",)


def changes(now: Report, before: Report) -> dict[str, dict[str, str]]:
    """By group and figure: `higher`, `lower` (for certain, at 95 %), or `no difference shown`."""
    found = {}
    for name in now.groups.keys() & before.groups.keys():
        one, other = now.groups[name], before.groups[name]
        pairs = {figure: (one[figure], other[figure]) for figure in COMPARED}
        for times in ("ttft_ms", "e2e_ms"):
            pairs.update({f"{times} {q}": (one[times][q], other[times][q]) for q in QUANTILES})
        found[name] = {figure: _change(*pair) for figure, pair in pairs.items()}
    return found


def _change(now: Estimate, before: Estimate) -> str:
    differ = stats.apart(now, before)
    if differ is None:
        return "too little to tell"
    if not differ or now.value is None or before.value is None:
        return "no difference shown"
    return "higher" if now.value > before.value else "lower"
