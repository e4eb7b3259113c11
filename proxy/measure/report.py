"""What the store's records say about targets, routes, keys or tags: figures with their intervals. Pure.

What failed is not left out of the latencies: an answer that never came is as slow as can be (infinite). Requests that
the client got wrong are left out, and so are those that it gave up before an answer, which are counted beside.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from proxy.measure import stats
from proxy.measure.stats import Estimate, Sums

BY = ("target", "route", "key", "tag")
NEVER = float("inf")
_CLIENTS_DOING = ("client_error", "client_closed")

COLUMNS = (
    "at", "target", "route", "key", "tags", "outcome", "stream", "ttft_ms", "e2e_ms", "stall_count", "attempts",
    "failovers", "cost_usd", "winner_no", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens",
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
        if outcome not in _CLIENTS_DOING:
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
        ttft, e2e = sorted(self._ttft), sorted(self._e2e)
        shown: dict[str, Any] = {
            "requests": self.requests,
            "outcomes": dict(sorted(self.outcomes.items())),
            "attempts": self.attempts,
            "errors": stats.share(self.failed, self.judged),
            "failovers": stats.share(self.failovers, self.tried),
            "left_by_client": self.left,
            "ttft_ms": {name: stats.quantile(ttft, q) for name, q in QUANTILES.items()},
            "e2e_ms": {name: stats.quantile(e2e, q) for name, q in QUANTILES.items()},
            "ttft_answered_ms": _answered(ttft),
            "e2e_answered_ms": _answered(e2e),
            "stalled_streams": stats.share(self.stalled, self.streams),
            "tokens": dict(self.tokens),
            "cost_usd": self.cost_usd,
            "cost_per_request_usd": self._per_request.ratio(),
            "cost_per_success_usd": self._per_success.ratio(),
            "unpriced": stats.share(self.unpriced, self.answered),
        }
        if self._levels.asked:
            shown["within_levels"] = stats.share(self.met, self.judged)
            shown["goodput_per_s"] = self.met / seconds if seconds else None
        return shown


def _answered(ordered: Sequence[float]) -> dict[str, Estimate]:
    """Quantiles of what came alone: how fast it is when it works."""
    came = ordered[: bisect_left(ordered, NEVER)]
    return {name: stats.quantile(came, q) for name, q in QUANTILES.items()}


QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
COMPARED = ("errors", "failovers", "stalled_streams", "cost_per_request_usd", "cost_per_success_usd")


class Report(NamedTuple):
    by: str
    since: str
    until: str
    total: dict[str, Any]
    groups: dict[str, dict[str, Any]]


def report(
    rows: Iterable[Mapping[str, Any]], by: str, since: str, until: str, seconds: float, levels: Levels
) -> Report:
    """`rows` of `v_exchanges`, at least the `COLUMNS`."""
    total = Group(levels)
    groups: dict[str, Group] = {}
    for row in rows:
        total.add(row)
        for name in _names(row, by):
            group = groups.get(name)
            if group is None:
                group = groups[name] = Group(levels)
            group.add(row)
    ordered = sorted(groups.items(), key=lambda pair: (-pair[1].requests, pair[0]))
    figures = {name: group.figures(seconds) for name, group in ordered}
    return Report(by, since, until, total.figures(seconds), figures)


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
