"""An experiment's report as lines of text, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

TITLES = {
    "promote": "Promote the candidate",
    "reject": "Keep the primary",
    "inconclusive": "No verdict",
    "budget_exhausted": "No verdict: the budget is used up",
    "running": "Not decided yet",
    "paused": "Paused",
}
STANDING = {
    "shown": "shown to be no worse than allowed",
    "harmed": "worse than allowed",
    "open": "not decided yet",
    "not applicable": "cannot tell here",
}


def as_lines(told: Json) -> Iterator[str]:
    yield f"{told['name']}: {TITLES[told['state']].upper()}{labelled(told)}"
    yield told["next"]
    yield ""
    routes = ", ".join(told["routes"])
    yield f"candidate {told['candidate']}, routes {routes}, {share(told['rate'])} of the conversations"
    yield f"why: {told['why']}"
    spent = f"{money(told['spent_usd'])} of {money(told['budget']['total_usd'])}"
    yield f"{told['units']:,} conversations, {told['pairs']:,} pairs, {spent}"
    yield ""
    rows = [["METRIC", "ROLE", "N", "CANDIDATE VS PRIMARY", "95 % BETWEEN", "LIMIT", "STANDING"]]
    rows += [
        [metric["name"], metric["role"], f"{metric['n']:,}", *compared(metric), STANDING[metric["standing"]]]
        for metric in told["metrics"]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield SIGN
    yield ""
    yield accounted(told["accounting"])
    yield f"failed: {'; '.join(_failures(told, arm) for arm in ('primary', 'candidate'))}"
    for one in told["asked_differently"]:
        yield f"asked differently in {one['pairs']:,} of {told['pairs']:,} pairs: {one['difference']}"
    yield from _worst_lines(told["worst"][:3])
    yield from (f"warning: {warning}" for warning in told["warnings"])


SIGN = "Points above 0 speak for the candidate, in `errors`, `ttft` and `e2e` as well; of a ratio (x), below 1."
"""What is compared is scores, and more is better; a reader of `errors -2` might think of fewer errors."""


def _failures(told: Json, arm: str) -> str:
    found = told["arms"][arm]
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in found["error_kinds"].items())
    return f"{arm} {found['errors']:,} of {told['pairs']:,}{f' ({kinds})' if kinds else ''}"


def _worst_lines(pairs: Sequence[Json]) -> Iterator[str]:
    if pairs:
        yield ""
        yield "where the candidate did worst (the html and json formats show more):"
    for one in pairs:
        reasons = "; ".join(one["reasons"]) or "-"
        yield f"  {points(one['difference'])}  {reasons}  ({one['live_id']}, {one['shadow_id']})"
        if one["asked"] is None:
            yield f"      {one['no_text']}"
        else:
            for who in ("asked", "primary", "candidate"):
                yield f"      {who}: {_line(one[who] or one['no_text'] or '-')}"
    if pairs:
        yield ""


def _line(text: str) -> str:
    plain = "".join([sign if sign.isprintable() else " " for sign in " ".join(text.split())])
    return plain if len(plain) <= 160 else plain[:157] + "..."


def accounted(counts: Json) -> str:
    dropped = ", ".join(f"{reason} {n:,}" for reason, n in counts["dropped"].items() if n)
    return (
        f"eligible {counts['eligible']:,} = sampled {counts['sampled']:,} + unsampled {counts['unsampled']:,};"
        f" sampled = completed {counts['completed']:,} + failed {counts['failed']:,}"
        f" + dropped {sum(counts['dropped'].values()):,}{f' ({dropped})' if dropped else ''}"
        f" + under way {counts['under_way']:,}"
    )


def money(usd: float) -> str:
    if usd >= 1 or usd == 0:
        return f"${usd:,.2f}" if usd else "$0"
    return f"${float(f'{usd:.3g}'):.12f}".rstrip("0")


def share(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def labelled(told: Json) -> str:
    return f" ({told['label']})" if told["label"] else ""


def compared(metric: Json) -> list[str]:
    """Estimate, interval and limit, as they are shown."""
    if metric["estimate"] is None:
        return ["-", "-", value_form(metric)(metric["bound"])]
    form = value_form(metric)
    low, high = (form(limit) if limit is not None else "∞" for limit in (metric["low"], metric["high"]))
    return [form(metric["estimate"]), f"{low} to {high}", form(metric["bound"])]


def value_form(metric: Json) -> Callable[[float], str]:
    if metric["is_ratio"]:
        return lambda value: f"{value:.3g}x"
    return points


def points(value: float) -> str:
    """A difference of scores in points of a hundred."""
    return f"{100 * value:+.1f} pts"


def as_list(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
