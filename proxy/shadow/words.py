"""What a report says in sentences: what to do next, and what to beware of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies import evidence
from policies.trial import ENOUGH, State
from policies.verdict import Kind
from proxy.shadow.planning import USUAL_DEVIATION
from proxy.shadow.standing import Tally
from proxy.shadow.terms import Gauge, Terms

_LARGE_SHARE = 0.2


def next_step(terms: Terms, told: Mapping[str, Any], tally: Tally) -> str:
    """One sentence or two for a reader who knows no statistics."""
    state, name, candidate = told["state"], terms.name, terms.candidate
    if state == State.PROMOTE:
        better = {"better": "It is better than", "worse": "It is a little worse than, but within the margin of,"}
        how = better.get(told["label"] or "", "Within the margin it is as good as")
        lead = terms.primary.name if terms.primary is not None else "every metric"
        return (
            f"Move traffic to {candidate}, in steps: `weighbridge shadow promote {name}` prints the canary for the"
            f" config, and with `--apply` writes it there. {how} the primary on {lead}."
        )
    if state == State.REJECT:
        return (
            f"Keep the primary: {candidate} is {told['why']}. Change the candidate (its parameters, its prompt) and the"
            " experiment begins anew by itself."
        )
    if terms.primary is None and state not in ("paused", State.RUNNING):
        return "It has ended, and only reports: name a `primary` in the config to have a verdict."
    if state == State.BUDGET_EXHAUSTED:
        return "Nothing is decided, because the money ran out. Raise `budget.total`, or choose a wider margin."
    if state == State.INCONCLUSIVE:
        return (
            "Nothing is decided: the difference is too near the margin to be seen with this many conversations. Keep"
            " the primary, or run again with a wider margin or more units."
        )
    if state == "paused":
        return f"It is paused: `weighbridge shadow resume {name}` goes on where it was."
    if terms.primary is None:
        return "This experiment only reports. Name a `primary` in the config to have a verdict."
    return _wait(terms, told, tally)


def _wait(terms: Terms, told: Mapping[str, Any], tally: Tally) -> str:
    if terms.primary is not None and terms.primary.feedback is not None:
        rated = evidence.total(tally.counts.get(terms.primary.name, {}))
        if rated < ENOUGH:
            return (
                f"Have both answers of {ENOUGH - rated:,} more conversations rated (`POST /api/feedback`): only then"
                " can feedback decide. Clients rate the primary's answer alone, which compares nothing."
            )
    more, slowest = max(((units_left(gauge, terms, tally), gauge.name) for gauge in terms.gauges), default=(0, ""))
    pace = told["pace"]["units_per_day"] if "pace" in told else None
    days = f", about {_days(more / pace)} at the present pace" if pace else ""
    whose = f" for {slowest}" if len(terms.gauges) > 1 and more else ""
    lead = terms.primary.name if terms.primary is not None else ""
    other = ", or to leave it out of the guardrails," if slowest != lead else ""
    if tally.units + more > terms.max_units:
        return (
            f"Wait, but expect no verdict: some {more:,} more conversations would be needed{whose}, and it ends at"
            f" {terms.max_units:,}. A wider margin{other} would need fewer."
        )
    return f"Wait: some {more:,} more conversations are likely to be needed{whose}{days}."


def units_left(gauge: Gauge, terms: Terms, tally: Tally) -> int:
    """Units until the metric is likely to be shown no worse than its margin, if it goes on as it is."""
    if gauge.is_ratio:
        n = tally.ratios[gauge.name].n if gauge.name in tally.ratios else 0
        return max(0, 100 - n) if n else 0
    counts = tally.counts.get(gauge.name, {})
    n = evidence.total(counts)
    if not n:
        return 0 if gauge != terms.primary else evidence.plan(USUAL_DEVIATION, gauge.margin).likely
    if evidence.log_above(counts, -gauge.margin) >= evidence.bar(terms.alpha):
        return 0
    room = max(evidence.mean(counts) + gauge.margin, gauge.margin / 4)
    deviation = evidence.deviation(counts) if n >= 30 else USUAL_DEVIATION
    applies = n / tally.units if tally.units else 1.0
    return max(1, round((evidence.plan(deviation, room, terms.alpha, len(terms.gauges)).likely - n) / applies))


def warnings(told: Mapping[str, Any]) -> list[str]:
    found = []
    largest, units, counts = told["largest_unit"], told["units"], told["accounting"]
    if largest is not None and told["pairs"] >= 50 and largest["calls"] / told["pairs"] > _LARGE_SHARE:
        share = largest["calls"] / told["pairs"]
        found.append(
            f"One conversation holds {share:.0%} of all pairs: is one id or one prompt shared by many? It counts once."
        )
    for metric in told["metrics"]:
        if metric["name"] == "judge" and units >= 50 and metric["n"] < 0.8 * units:
            found.append(
                f"The judge told of {metric['n']:,} of {units:,} conversations: the rest were too long for it, or its"
                " words could not be read. What it tells is about those alone."
            )
        if metric["standing"] == "not applicable" and units >= 50:
            found.append(f"{metric['name']} applied to no conversation so far, so it says nothing here.")
    dropped = {reason: n for reason, n in counts["dropped"].items() if n}
    if counts["sampled"] and sum(dropped.values()) / counts["sampled"] > 0.1:
        why = ", ".join(f"{reason} {n}" for reason, n in sorted(dropped.items(), key=lambda one: -one[1]))
        found.append(f"{sum(dropped.values()) / counts['sampled']:.0%} of the sampled requests were dropped ({why}).")
    if counts["dropped"]["queue"] > 0.05 * counts["sampled"]:
        found.append(
            "The candidate was too slow to keep up, and what waited was dropped: what it would have made of that is not"
            " held against it. Lower `rate`."
        )
    limited = told["arms"]["candidate"]["error_kinds"].get(Kind.RATE_LIMIT, 0)
    if limited >= 5 and limited > 0.5 * told["arms"]["candidate"]["errors"]:
        found.append(
            f"{limited:,} of the candidate's failures are rate limits of the key that it was asked with: give it a key"
            " with more room, or lower `rate`, and begin anew under another name."
        )
    if told["assumed_prices"]:
        found.append("Not all prices are known: the budget counts the worst for them. Set `prices`.")
    arms = told["arms"]
    if told["pairs"] >= 50 and abs(arms["primary"]["cached"] - arms["candidate"]["cached"]) > 0.2 * told["pairs"]:
        found.append(
            "The arms' prompts were found in the provider's cache unequally often, which favours one in time and cost."
        )
    centre = told["judge_centre"]
    if centre is not None and not centre["low"] <= 0.0 <= centre["high"]:
        found.append(
            "The judge does not take two answers of the primary for equal: it is not to be trusted. Take another one,"
            " or another rubric."
        )
    days = told["days"]
    if len(days) >= 2 and max(day["low"] for day in days) > min(day["high"] for day in days):
        found.append(
            "The difference is not the same on all days, beyond chance: the verdict is about the average. See the table"
            " by day."
        )
    return found


def _days(days: float) -> str:
    return (
        f"{days:.1f} days"
        if days >= 1
        else f"{days * 24:.1f} hours"
        if days * 24 >= 1
        else f"{days * 1440:.0f} minutes"
    )
