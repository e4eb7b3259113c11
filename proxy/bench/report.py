"""The report of a run: one document (plain data), shown in a terminal, as Markdown, JSON or a self-contained page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from proxy import pictures
from proxy.bench.choices import InBatches, Standing
from proxy.bench.decision import Decision, decide
from proxy.bench.evidence import Traffic, read_back
from proxy.bench.figures import Figures, Table, figures, tables
from proxy.bench.stats import Estimate
from proxy.bench.suite import Suite

Json = dict[str, Any]

OTHER_EVIDENCE = (
    "real requests at other hours, whose answers nobody judged. It takes no part in the decision; times count from the "
    "last byte of a request, and failed requests are infinitely slow."
)
"""What live and shadow traffic are, in the words of a report."""
USE_WORDS = {"real_time": "real time", "offline": "offline", "fallback": "fallback"}


class Report(NamedTuple):
    """Everything that is said, made once; the forms below only show it."""

    suite: Suite
    manifest: Json
    tables: list[Table]
    figures: list[Figures]
    decision: Decision
    invalid: list[str]
    remarks: list[str]
    traffic: list[Traffic]
    """Evidence of another kind: what live and shadow traffic say."""


def report(
    suite: Suite,
    manifest: Json,
    rows: Sequence[Json],
    seed: int = 0,
    batches: Mapping[str, InBatches] | None = None,
) -> Report:
    """`batches`: what another run says of the targets in batches."""
    laid = tables(suite, rows)
    rng = np.random.default_rng(seed)
    found = [figures(suite, table, rng) for table in laid]
    providers: dict[str, str] = {}
    for row in rows:
        if row.get("provider"):
            providers.setdefault(row["target"], row["provider"])
    decision = decide(suite, laid, found, providers, seed, batches)
    invalid = list(manifest.get("invalid", []))
    remarks = _remarks(suite, manifest, laid, found, decision)
    traffic = read_back(manifest.get("evidence", ()))
    return Report(suite, manifest, laid, found, decision, invalid, remarks, traffic)


def _remarks(
    suite: Suite, manifest: Json, laid: Sequence[Table], found: Sequence[Figures], decision: Decision
) -> list[str]:
    said = []
    if not manifest.get("finished"):
        said.append("The run is not finished: what follows rests on the cases that every target was asked.")
    for metric in decision.left_out:
        said.append(f"{metric} counts for nobody: not every target has it.")
    unpriced = [f"{one.target} ({one.unpriced} of {one.requests})" for one in found if one.unpriced]
    if unpriced:
        said.append(f"Requests without a price: {', '.join(unpriced)}. Set `prices` in the config.")
    units = len(laid[0].units) if laid else 0
    if decision.pairs:
        worst = max(pair.detectable for pair in decision.pairs)
        said.append(
            f"With {units} prompts a difference in accuracy of {worst:.1%} or more is found with 80 % power; "
            "smaller ones may be there unseen."
        )
    return said


# -- plain data


def as_json(made: Report) -> bytes:
    whole = {
        "suite": made.suite.name,
        "run": made.manifest,
        "valid": not made.invalid,
        "invalid": made.invalid,
        "remarks": made.remarks,
        "targets": [plain(one) for one in made.figures],
        "decision": plain(made.decision),
        "traffic": plain(made.traffic),
    }
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2)


def plain(value: Any) -> Any:
    """Figures as JSON has them; what is infinite is the text `inf`."""
    if isinstance(value, Estimate):
        told = {"value": _finite(value.value), "low": _finite(value.low), "high": _finite(value.high), "n": value.n}
        return told | ({"note": value.note} if value.note else {})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(inner) for name, inner in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return _finite(value) if isinstance(value, float) else value


def _finite(value: float | None) -> float | str | None:
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf"


# -- rows of text, shared by terminal, Markdown and page

HEAD = ["target", "accuracy", "safety", "latency", "p50 / p99 ms", "USD per success", "successes per USD", "failed",
        "stalls", "n", "TTFT p50 / p99 ms", "TPOT p50 / p99 ms"]  # fmt: skip


PARTS = ((0, 1, 2, 5, 6, 9), (0, 3, 4, 10, 11, 7, 8))
"""Columns of `HEAD` that are shown as one table: all of them would be wider than a page."""


def lines(made: Report) -> list[list[str]]:
    """One row for each target, under `HEAD`."""
    metric = made.suite.latency
    return [
        [
            one.target,
            shown(one.accuracy, percent),
            shown(one.safety, percent),
            shown(one.latency, ms),
            f"{value_of(getattr(one, metric.metric)['p50'], ms)} / {value_of(getattr(one, metric.metric)['p99'], ms)}",
            shown(one.cost_per_success, usd),
            shown(one.accuracy_per_dollar, lambda value: f"{value:,.0f}"),
            shown(one.errors, percent),
            shown(one.stalled, percent),
            str(one.requests),
            f"{value_of(one.ttft['p50'], ms)} / {value_of(one.ttft['p99'], ms)}",
            f"{value_of(one.tpot['p50'], _fine)} / {value_of(one.tpot['p99'], _fine)}",
        ]
        for one in made.figures
    ]


def _fine(value: float) -> str:
    return f"{value:.2f}"


def _split(head: Sequence[str], rows: Sequence[Sequence[str]], *columns: Sequence[int]) -> list[str]:
    """A table that is wider than a page as several, each with its columns by place; all but the first hold numbers."""
    return [
        pictures.table([head[at] for at in one], [[row[at] for at in one] for row in rows], numbers=range(1, len(one)))
        for one in columns
    ]


def perplexities(made: Report) -> list[list[str]]:
    """One row for each task whose tokens were weighed: its name, then every target's."""
    names = [task for task in made.suite.tasks if any(task in one.perplexity for one in made.figures)]
    absent = Estimate(None, None, None, 0)
    return [
        [name, *(shown(one.perplexity.get(name, absent), lambda value: f"{value:.2f}") for one in made.figures)]
        for name in names
    ]


TRAFFIC_HEAD = ["target", "traffic", "requests", "failed", "p50 ms", "p95 ms", "USD per request", "from", "to",
                "verdict"]  # fmt: skip


def traffic_lines(made: Report) -> list[list[str]]:
    """One row for each target and kind of traffic, under `TRAFFIC_HEAD`."""
    return [
        [
            one.target, one.origin, f"{one.requests:,}", shown(one.errors, percent), shown(one.p50, ms),
            shown(one.p95, ms), "unknown" if one.cost_usd is None else f"{usd(one.cost_usd)} (n = {one.priced:,})",
            one.since[:16], one.until[:16], one.verdict or "–",
        ]
        for one in made.traffic
    ]  # fmt: skip


GAPS_HEAD = ["target", "task", "groups", "difference", "pairs", "p (Holm)", "in words"]


def group_lines(made: Report) -> list[list[str]]:
    """One row for each target and two groups, under `GAPS_HEAD`."""
    return [
        [gap.target, gap.task, f"{gap.group} - {gap.other}", shown(gap.difference, points), str(gap.difference.n),
         f"{gap.p:.3f}",
         gap.words]
        for one in made.figures
        for gap in one.gaps
    ]  # fmt: skip


def points(value: float) -> str:
    return f"{100 * value:+.1f} pts"


def shown(one: Estimate, form: Any) -> str:
    """`0.72 [0.68, 0.76]`, or why there is no interval."""
    if one.value is None:
        return one.note if one.n else "–"
    if one.low is None or one.high is None:
        return f"{form(one.value)} ({one.note})" if one.note else form(one.value)
    return f"{form(one.value)} [{form(one.low)}, {form(one.high)}]"


def value_of(one: Estimate, form: Any) -> str:
    """The value alone; in brackets where it has no interval."""
    if one.value is None:
        return "–"
    return form(one.value) if one.low is not None else f"({form(one.value)})"


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def ms(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:,.0f}"


def usd(value: float) -> str:
    if math.isinf(value):
        return "∞"
    return f"{value:.2e}" if 0 < value < 1e-5 else f"{value:.6f}".rstrip("0").rstrip(".") if value else "0"


def verdicts(made: Report) -> list[tuple[str, str, list[str]]]:
    """(use, target or `nobody`, sentences)."""
    said = []
    for choice in made.decision.choices:
        sentences = list(choice.because)
        if choice.among:
            sentences.append(f"not told apart from {', '.join(choice.among)}")
        sentences += [f"not {name}: {why}" for name, why in choice.passed_over.items()]
        sentences += choice.changes
        said.append((USE_WORDS[choice.use], choice.target or "nobody", sentences))
    return said


def as_markdown(made: Report) -> str:
    out = [f"# {made.suite.name}", "", _about(made), ""]
    out += [f"> **Invalid run.** {reason}" for reason in made.invalid]
    if made.invalid:
        out.append("")
    out += ["| use | target | because |", "| --- | --- | --- |"]
    out += [f"| {use} | **{_md(target)}** | {_md('; '.join(why))} |" for use, target, why in verdicts(made)]
    out += ["", f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
    out += [f"| {' | '.join(_md(cell) for cell in row)} |" for row in lines(made)]
    if made.decision.standings:
        out += ["", "| target | score | P(best) | dominated by | on the frontier |", "| --- | --- | --- | --- | --- |"]
        out += [
            f"| {_md(one.target)} | {shown(one.score, lambda v: f'{v:.3f}')} | {_chance(one)} | "
            f"{_md(one.dominated_by or '–')} | {'yes' if one.frontier else 'no'} |"
            for one in made.decision.standings
        ]
    if weighed := perplexities(made):
        out += ["", f"| perplexity | {' | '.join(_md(one.target) for one in made.figures)} |"]
        out += ["|" + " --- |" * (1 + len(made.figures))]
        out += [f"| {' | '.join(_md(cell) for cell in row)} |" for row in weighed]
    if grouped := group_lines(made):
        out += ["", f"| {' | '.join(GAPS_HEAD)} |", "|" + " --- |" * len(GAPS_HEAD)]
        out += [f"| {' | '.join(_md(cell) for cell in row)} |" for row in grouped]
    if lines_of := traffic_lines(made):
        out += ["", f"Not of this suite: {OTHER_EVIDENCE}", ""]
        out += [f"| {' | '.join(TRAFFIC_HEAD)} |", "|" + " --- |" * len(TRAFFIC_HEAD)]
        out += [f"| {' | '.join(_md(cell) for cell in row)} |" for row in lines_of]
    out += [""] + [f"- {_md(remark)}" for remark in made.remarks] + [""]
    return "\n".join(out)


def _chance(one: Standing) -> str:
    return f"{one.best:.0%}" if one.score.known else "?"


def _md(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _about(made: Report) -> str:
    suite = made.suite
    cases = made.manifest.get("cases", 0)
    return (
        f"{cases} cases, {suite.repeats} repeat{'s' if suite.repeats != 1 else ''}, {len(suite.targets)} targets, "
        f"{'streamed' if suite.stream else 'not streamed'}, {suite.concurrency} at a time; {_weights(made)}. "
        f"Intervals are 95 %; failed requests count as infinitely slow and score 0."
    )


def _weights(made: Report) -> str:
    known = [f"{metric} {weight:.0%}" for metric, weight in made.decision.weights.items()]
    return "weights " + ", ".join(known) if known else "no weights"


# -- the page


def as_html(made: Report) -> bytes:
    found = made.figures
    parts: list[str] = [pictures.note(f"Invalid run: {reason}", "bad") for reason in made.invalid]
    parts.append(pictures.tiles([(use, target, why[0] if why else "") for use, target, why in verdicts(made)]))
    parts += [pictures.note(remark, "warn") for remark in made.remarks]
    parts.append(
        pictures.section(
            "Which for what",
            pictures.table(["use", "target", "why"], [[u, t, "; ".join(w)] for u, t, w in verdicts(made)]),
            lead="Targets that the data do not tell apart are named together; none of them is 'the best'.",
        )
    )
    parts.append(_quality(made))
    parts.append(_latency(made))
    parts.append(_frontier(made))
    if made.decision.standings:
        parts.append(
            pictures.section(
                "Score",
                pictures.intervals(
                    [
                        pictures.Interval(
                            one.target, one.score.value, one.score.low, one.score.high, f"best in {_chance(one)}"
                        )
                        for one in made.decision.standings
                    ],
                    label=f"weighted score, 0 to 1 ({_weights(made)})",
                ),
                pictures.table(
                    ["target", *made.decision.weights, "dominated by"],
                    [
                        [
                            one.target,
                            *(f"{one.parts[metric]:.3f}" for metric in made.decision.weights),
                            one.dominated_by or "–",
                        ]
                        for one in made.decision.standings
                    ],
                    numbers=range(1, 1 + len(made.decision.weights)),
                ),
                lead="Prompts are drawn again and again, jointly for all targets. Latency and cost are put on scales "
                "with fixed ends, so that a further target changes no other's score.",
            )
        )
    if made.decision.pairs:
        parts.append(
            pictures.section(
                f"Against {made.decision.pairs[0].baseline}",
                pictures.table(
                    ["target", "difference in accuracy", "p", "p (Holm)", "detectable", "verdict"],
                    [
                        [
                            one.target,
                            shown(one.difference, points),
                            f"{one.p:.3f}",
                            f"{one.holm:.3f}",
                            percent(one.detectable),
                            one.words,
                        ]
                        for one in made.decision.pairs
                    ],
                    numbers=(2, 3, 4),
                ),
                lead="Paired on the same prompts. 'Not distinguishable' does not mean equal.",
            )
        )
    parts.append(pictures.section("All figures", *_split(HEAD, lines(made), *PARTS)))
    if weighed := perplexities(made):
        parts.append(
            pictures.section(
                "Perplexity",
                pictures.table(["task", *(one.target for one in found)], weighed),
                lead="How many tokens a model hesitates between, on average: less is better. Only models with the same "
                "tokens can be compared.",
            )
        )
    if grouped := group_lines(made):
        parts.append(
            pictures.section(
                "Groups",
                pictures.table(GAPS_HEAD, grouped, numbers=(4, 5)),
                lead="The same questions about one group and about another, compared pair by pair. 'No difference "
                "shown' does not mean that there is none.",
            )
        )
    named = sorted({name for one in found for name in one.scorers})
    if named:
        parts.append(
            pictures.section(
                "Every scorer",
                pictures.table(
                    ["scorer", *(one.target for one in found)],
                    [
                        [name, *(shown(one.scorers[name], percent) if name in one.scorers else "–" for one in found)]
                        for name in named
                    ],
                ),
            )
        )
    if lines_of := traffic_lines(made):
        parts.append(
            pictures.section(
                "Live and shadow traffic",
                pictures.table(TRAFFIC_HEAD, lines_of, numbers=(2,)),
                lead=f"Not of this suite: {OTHER_EVIDENCE}",
            )
        )
    parts.append(pictures.section("The run", pictures.table(["", ""], _facts(made))))
    return pictures.page(made.suite.name, parts, subtitle=_about(made), footer="weighbridge bench report")


def _quality(made: Report) -> str:
    return pictures.section(
        "Quality",
        pictures.intervals(
            [_interval(one.target, one.accuracy) for one in made.figures], label="accuracy", form=percent
        ),
        *(
            [
                pictures.intervals(
                    [_interval(one.target, one.safety) for one in made.figures], label="safety", form=percent
                )
            ]
            if any(one.safety.value is not None for one in made.figures)
            else []
        ),
        lead="Mean score by prompt; repeats of one prompt count once.",
    )


def _latency(made: Report) -> str:
    limit = getattr(made.suite.slo, made.suite.latency.metric)
    curves = []
    for table in made.tables:
        waits = np.sort(table.latency[~np.isnan(table.latency)])
        waits = waits[np.isfinite(waits)]
        if waits.size:
            kept = np.unique(np.linspace(0, waits.size - 1, min(200, waits.size)).astype(int))
            total = int(np.sum(~np.isnan(table.latency)))
            curves.append(
                pictures.Line(table.target, [(max(float(waits[i]), 0.01), (int(i) + 1) / total) for i in kept])
            )
    name = made.suite.latency.metric.upper()
    return pictures.section(
        "Latency",
        pictures.intervals(
            [_interval(one.target, one.latency) for one in made.figures],
            label=f"p{100 * made.suite.latency.quantile:g} {name}, ms, from when the request was due",
            form=ms,
            marks=[(limit * 1000, "limit")] if limit is not None else [],
            zero=True,
        ),
        pictures.lines(
            curves,
            x=f"{name}, ms (logarithmic)",
            y="share of requests answered by then",
            x_form=ms,
            y_form=percent,
            logarithmic=True,
        ),
        lead="A curve that does not reach 100 % shows its failures. First requests (cold) are kept out.",
    )


def _frontier(made: Report) -> str:
    standing = {one.target: one for one in made.decision.standings}
    shown_points = [
        pictures.Point(
            one.target,
            one.cost_per_success.value,
            one.accuracy.value,
            _range(one.cost_per_success),
            _range(one.accuracy),
            one.target in standing and standing[one.target].frontier,
        )
        for one in made.figures
        if one.cost_per_success.value is not None and one.accuracy.value is not None
    ]
    return pictures.section(
        "Quality and cost",
        pictures.points(shown_points, x="USD per success", y="accuracy", x_form=usd, y_form=percent),
        lead="All spend, failures included, over successful completions. Ringed: nothing is both cheaper and better.",
    )


def _interval(label: str, one: Estimate) -> pictures.Interval:
    return pictures.Interval(label, one.value, one.low, one.high, one.note or f"n = {one.n}")


def _range(one: Estimate) -> tuple[float, float] | None:
    return (one.low, one.high) if one.low is not None and one.high is not None else None


def _facts(made: Report) -> list[list[str]]:
    manifest = made.manifest
    wanted = ("id", "started", "finished", "commit", "tag", "version", "suite", "data", "scorers", "prices", "python")
    facts = [[name, str(manifest[name])] for name in wanted if manifest.get(name)]
    for one in made.figures:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(one.kinds.items())) or "none"
        spent = "unknown" if one.spent_usd is None else f"{usd(one.spent_usd)} USD"
        facts.append(
            [
                one.target,
                f"spent {spent}; {one.input_tokens:,} tokens in, {one.output_tokens:,} out; "
                f"{one.retried} requests took more than one attempt; failures: {kinds}; {one.cold} cold",
            ]
        )
    return facts
