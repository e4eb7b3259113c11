"""The report as one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from proxy import pictures
from proxy.shadow.lines import SIGN, STANDING, TITLES, accounted, compared, labelled, money, points, share, value_form
from proxy.shadow.scores import CENTRE

Json = Mapping[str, Any]

_TONES = {"promote": "good", "reject": "bad", "inconclusive": "warn", "budget_exhausted": "warn"}
_TIME = "time to first content"


def as_json(told: Json) -> bytes:
    return orjson.dumps(told, option=orjson.OPT_INDENT_2)


def as_html(told: Json) -> bytes:
    state = told["state"]
    parts = [
        pictures.note(f"{TITLES[state]}{labelled(told)}. {told['next']}", _TONES.get(state, "")),
        _tiles(told),
        *[pictures.note(warning, "warn") for warning in told["warnings"]],
        _metrics(told),
        _course(told),
        _arms(told),
        _scores(told),
        _accounting(told),
        _worst(told),
        _history(told),
    ]
    subtitle = f"Shadow experiment: {told['candidate']} beside {', '.join(told['routes'])}, since {told['since'][:16]}Z"
    return pictures.page(told["name"], [part for part in parts if part], subtitle=subtitle, footer=_FOOTER)


_FOOTER = (
    "Verdicts may be looked at after every conversation: their error rates hold however often one looks. Conversations"
    " are taken to be independent; where quality drifts, the answer is about the average."
)


def _tiles(told: Json) -> str:
    decided, pace = told["decided"], told["pace"]["units_per_day"]
    arms = told["arms"]
    costs = [arms[arm]["mean_cost_usd"] for arm in ("primary", "candidate")]
    shown = [
        (
            "conversations",
            f"{told['units']:,}",
            f"decided after {decided['units']:,}" if decided else "scored once each",
        ),
        ("spent", money(told["spent_usd"]), f"of {money(told['budget']['total_usd'])}"),
        ("pace", f"{pace:,.0f} a day" if pace else "–", f"{share(told['rate'])} of the conversations"),
    ]
    if costs[0] and costs[1] is not None:
        shown.append(("an answer costs", money(costs[1]), f"the primary's {money(costs[0])}"))
    return pictures.tiles(shown)


def _metrics(told: Json) -> str:
    differences = [metric for metric in told["metrics"] if not metric["is_ratio"]]
    ratios = [metric for metric in told["metrics"] if metric["is_ratio"]]
    drawn = []
    for metric in differences:
        drawn.append(
            pictures.intervals(
                [_interval(metric)], label=f"{metric['name']}, difference in points", form=points,
                marks=[(metric["bound"], "limit"), (0.0, "equal")],
            )
        )  # fmt: skip
    for metric in ratios:
        drawn.append(
            pictures.intervals(
                [_interval(metric)], label=f"{metric['name']}, candidate / primary", form=value_form(metric),
                marks=[(metric["bound"], "limit"), (1.0, "equal")],
            )
        )  # fmt: skip
    rows = [
        [
            metric["name"],
            metric["role"],
            metric["rule"],
            f"{metric['n']:,}",
            *compared(metric),
            STANDING[metric["standing"]],
        ]
        for metric in told["metrics"]
    ]
    head = ["metric", "role", "rule", "conversations", "candidate vs primary", "between", "limit", "standing"]
    return pictures.section(
        "Is it good enough?",
        pictures.table(head, rows, numbers=(3, 4, 5, 6)),
        *drawn,
        lead="The bar is where the true difference lies, with 95 % certainty at all times. A metric passes when its"
        " whole bar is on the good side of the limit; the candidate is promoted when all pass, and rejected when one is"
        f" on the bad side. {SIGN.replace('`', '')}",
    )


def _interval(metric: Json) -> pictures.Interval:
    return pictures.Interval("candidate", metric["estimate"], metric["low"], metric["high"], f"n = {metric['n']:,}")


def _course(told: Json) -> str:
    course = told["course"]
    if not course:
        return ""
    lead = told["metrics"][0]
    line = pictures.Line(
        lead["name"],
        [(at["units"], at["mean"]) for at in course],
        [(at["units"], at["low"], at["high"]) for at in course],
    )
    picture = pictures.lines(
        [line], x="conversations", y=f"{lead['name']}: candidate - primary, points",
        y_form=lambda value: f"{100 * value:+.0f}", logarithmic=True,
        levels=[(lead["bound"], "limit"), (0.0, "equal")],
    )  # fmt: skip
    head = ["day", "conversations", "mean difference", "95 % between"]
    days = [[day["day"], f"{day['n']:,}", points(day["mean"]), _between(day)] for day in told["days"]]
    table = pictures.table(head, days, numbers=(1, 2, 3)) if len(days) > 1 else ""
    return pictures.section(
        "How it came to this",
        picture,
        table,
        lead="The band is certain at every moment at once, so it may be watched as it narrows.",
    )


def _between(one: Json) -> str:
    return f"{points(one['low'])} to {points(one['high'])}"


def _arms(told: Json) -> str:
    arms = told["arms"]
    drawn = []
    for column, title, x in (
        ("ttft_ms", "Time to first content (streamed answers)", "ms"),
        ("e2e_ms", "Time to the whole answer", "ms"),
        ("cost_usd", "Cost of an answer", "USD"),
    ):
        curves = [
            pictures.Line(arm, [(max(at, 1e-9), share) for at, share in arms[arm]["curves"][column]])
            for arm in ("primary", "candidate")
        ]
        if (
            all(len(curve.points) > 1 for curve in curves)
            and len({at for curve in curves for at, _ in curve.points}) > 2
        ):
            drawn.append(f"<h3>{title}</h3>")
            drawn.append(pictures.lines(curves, x=x, y="share of answers", y_form=lambda share: f"{share:.0%}"))
    rows = [
        [title, *(_quantile(arms[arm][column], q, form) for arm in ("primary", "candidate"))]
        for column, title, form in (
            ("ttft_ms", _TIME, _ms),
            ("e2e_ms", "whole answer", _ms),
            ("cost_usd", "cost", money),
        )
        for q, title in (("p50", f"{title}, half within"), ("p95", f"{title}, 95 % within"))
    ]
    rows.append(["failed", *(f"{arms[arm]['errors']:,} of {told['pairs']:,}" for arm in ("primary", "candidate"))])
    kinds = dict.fromkeys([kind for arm in ("primary", "candidate") for kind in arms[arm]["error_kinds"]])
    rows += [
        [
            f"– {kind.replace('_', ' ')}",
            *(f"{arms[arm]['error_kinds'].get(kind, 0):,}" for arm in ("primary", "candidate")),
        ]
        for kind in kinds
    ]
    rows.append(["prompt found in a cache", *(f"{arms[arm]['cached']:,}" for arm in ("primary", "candidate"))])
    served = f"{told['served_errors']:,} of {told['pairs']:,}"
    return pictures.section(
        "Both arms",
        *drawn,
        pictures.table(["", "primary", "candidate"], rows, numbers=(1, 2)),
        lead="The primary's first try beside the candidate's only one; failures of both count. As served, after retries"
        f" and failover, clients saw {served} requests fail.",
    )


def _quantile(quantiles: Json, q: str, form: Callable[[float], str]) -> str:
    found = quantiles.get(q)
    if found is None:
        return "–"
    low, high = (form(found[end]) if found[end] is not None else "?" for end in ("low", "high"))
    return f"{form(found['value'])} ({low} to {high}, n = {quantiles['n']:,})"


def _ms(value: float) -> str:
    return f"{value:,.0f} ms"


_ASIDE = "likeness; decides nothing"
_TWICE = "two answers of the primary; decides nothing"


def _scores(told: Json) -> str:
    rows = []
    for mean in told["means"]:
        same = mean["metric"].startswith("same_")
        centre = mean["metric"] == CENTRE
        primary = "–" if mean["primary_mean"] is None else f"{mean['primary_mean']:.4g}"
        candidate = "–" if mean["candidate_mean"] is None else f"{mean['candidate_mean']:.4g}"
        rows.append(
            [mean["metric"], f"{mean['n']:,}", primary, candidate, _ASIDE if same else _TWICE if centre else ""]
        )
    if not rows:
        return ""
    judge, centre = told["judge"], told["judge_centre"]
    notes = []
    if judge is not None:
        notes.append(f"Judge: {judge['model']} (wording {judge['hash']}). Rubric: {judge['rubric']}")
    if centre is not None:
        notes.append(
            f"Before two answers of the primary (n = {centre['n']:,}) the judge prefers the second by"
            f" {points(centre['mean'])} ({_between(centre)}); an honest one lies around 0."
        )
    return pictures.section(
        "Scores",
        pictures.table(["metric", "conversations", "primary", "candidate", ""], rows, numbers=(1, 2, 3)),
        *[f"<p>{pictures.escape(note)}</p>" for note in notes],
        lead="Mean scores, 0 to 1 (ttft and e2e in seconds where they have no limit, cost in USD). Likeness compares"
        " the two answers; its column `primary` is how like itself the primary was when it was asked again.",
    )


def _accounting(told: Json) -> str:
    counts = told["accounting"]
    dropped = [(reason.replace("_", " "), float(n)) for reason, n in counts["dropped"].items() if n]
    bar = pictures.Bar(
        "sampled",
        [
            ("completed", counts["completed"]),
            ("failed", counts["failed"]),
            *dropped,
            ("under way", counts["under_way"]),
        ],
    )
    return pictures.section(
        "What was mirrored",
        pictures.bars([bar], label="requests"),
        f"<p>{pictures.escape(accounted(counts))}</p>",
        _differently(told),
        lead="Every eligible request is accounted for. Nothing is dropped for what it says.",
    )


def _differently(told: Json) -> str:
    rows = [[one["difference"], f"{one['pairs']:,} of {told['pairs']:,}"] for one in told["asked_differently"]]
    if not rows:
        return "<p>The candidate was asked the very same, with the same parameters.</p>" if told["pairs"] else ""
    return pictures.table(["asked differently (primary -> candidate)", "pairs"], rows, numbers=(1,))


def _worst(told: Json) -> str:
    rows = [
        [points(one["difference"]), "; ".join(one["reasons"]) or "–", _moment(one), one["live_id"], one["shadow_id"]]
        for one in told["worst"]
    ]
    if not rows:
        return ""
    texts = [_texts(one) for one in told["worst"]]
    missing = {one["no_text"] for one in told["worst"]} - {None}
    return pictures.section(
        "Where the candidate did worst",
        pictures.table(["difference", "why", "at", "live request", "candidate's"], rows, numbers=(0,)),
        *[f"<p class=dim>{pictures.escape(why)}</p>" for why in sorted(missing)],
        *texts,
        lead="The ids lead to /api/exchanges/ID.",
    )


def _texts(one: Json) -> str:
    """What was asked and what both said, side by side; nothing where no text is kept."""
    if one["asked"] is None:
        return ""
    rows = [[one["asked"], one["primary"] or "–", one["candidate"] or one["no_text"] or "–"]]
    head = f"{one['live_id']}, {points(one['difference'])}: {'; '.join(one['reasons'])}"
    return f"<h3>{pictures.escape(head)}</h3>" + pictures.table(["asked", "primary", "candidate"], rows)


def _moment(one: Json) -> str:
    return str(one["at"])[:16].replace("T", " ")


def _detail(detail: Json) -> str:
    return "; ".join([str(detail[name]) for name in ("why", "done") if detail.get(name)])


def _history(told: Json) -> str:
    rows = [[_moment(event), event["event"], _detail(event["detail"])] for event in told["events"]]
    return pictures.section("What happened to it", pictures.table(["at", "what", "why"], rows))
