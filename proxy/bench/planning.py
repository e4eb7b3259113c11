"""What a run will ask, what it may cost at most, and what it will be able to tell, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from proxy.bench import stats
from proxy.bench.asking import request
from proxy.bench.data import Case
from proxy.bench.suite import Load, Suite
from proxy.config.problems import ConfigError, Problem

Json = dict[str, Any]

CHARACTERS_A_TOKEN = 3.0
"""Fewer than any common text has, so that a worst case is one."""
OUTPUT_TOKENS = 4096
"""Taken for an answer whose request sets no limit."""


class Plan(NamedTuple):
    requests: int
    cases: int
    prompts: dict[str, int]
    """By task."""
    most_usd: float | None
    """None where some target has no price."""
    unpriced: list[str]
    worst_case: Callable[[str, Json], float | None]
    detectable: list[tuple[float, float]]
    """(share of prompts on which two targets differ, least difference found with 80 % power)."""


def plan(suite: Suite, cases: Sequence[Case], dearest: Callable[[str], tuple[float, float] | None]) -> Plan:
    """`dearest(target)`: USD for a token of input and of output at worst, None where a price is not known."""
    rates = {target.label: dearest(target.label) for target in suite.targets}

    def worst_case(label: str, body: Json) -> float | None:
        rate = rates[label]
        if rate is None:
            return None
        tokens = len(orjson.dumps(body.get("messages") or body.get("prompt"))) / CHARACTERS_A_TOKEN
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or OUTPUT_TOKENS
        return float(tokens * rate[0] + limit * (body.get("n") or 1) * rate[1])

    unpriced = [label for label, rate in rates.items() if rate is None]
    most = sum(worst_case(label, request(suite, case)) or 0.0 for label in rates for case in cases) * suite.repeats
    prompts: dict[str, int] = {}
    for case in cases:
        prompts[case.task] = prompts.get(case.task, 0) + 1
    quality = sum(count for task, count in prompts.items() if suite.tasks[task].aim == "accuracy")
    return Plan(
        len(cases) * suite.repeats * len(suite.targets),
        len(cases),
        prompts,
        None if unpriced else most,
        unpriced,
        worst_case,
        [(share, stats.detectable(quality, share)) for share in (0.1, 0.2)] if quality else [],
    )


def affordable(suite: Suite, made: Plan, whole: float = 0.0) -> None:
    """Raises `ConfigError` where a budget is set and cannot be held to.

    `whole`: how often the worst case of all requests must fit into it, for what cannot be stopped on its way.
    """
    if suite.budget is None:
        return
    if made.unpriced:
        what = f"of {suite.budget:g} USD cannot be held: no price is known for {', '.join(made.unpriced)}"
        raise ConfigError([Problem(suite.name, "budget", what, "set `prices` in the config, or leave `budget` out")])
    if made.most_usd is not None and whole * made.most_usd > suite.budget:
        what = f"of {suite.budget:g} USD may not be enough: {whole * made.most_usd:.4f} USD in the worst case"
        hint = "a batch cannot be stopped halfway: set a lower `max_tokens`, fewer cases, or a larger budget"
        raise ConfigError([Problem(suite.name, "budget", what, hint)])


def load_told(suite: Suite, load: Load, labels: Sequence[str], cases: Sequence[Case], made: Plan) -> list[str]:
    """What `bench load` will do, and the most that it may cost."""
    lines = [f"{', '.join(labels)}: one after the other, {_shape(load)}"]
    if load.warmup and load.recorded is None and load.search is None:
        lines.append(f"{load.warmup:g} s of the first of it before, which do not count")
    if made.unpriced:
        lines.append(f"cost unknown: no price for {', '.join(made.unpriced)}")
    else:
        dearest = max(made.worst_case(label, request(suite, case)) or 0.0 for label in labels for case in cases)
        lines.append(f"a request costs at most {dearest:.6f} USD")
        if load.rate is not None:
            most = dearest * load.rate * (load.seconds + load.warmup) * len(labels)
            lines.append(f"the whole about {most:.4f} USD at most")
    lines.append("no budget: it ends by time alone" if suite.budget is None else f"ends before {suite.budget:g} USD")
    return lines


def _shape(load: Load) -> str:
    if load.users is not None:
        return f"{load.users} users for {load.seconds:g} s"
    if load.ramp is not None:
        return f"from {load.ramp[0]} to {load.ramp[1]} users in {load.steps} steps of {load.seconds:g} s"
    if load.rate is not None:
        return f"{load.rate:g} requests a second ({load.arrivals}) for {load.seconds:g} s"
    if load.search is not None:
        return f"looking for the highest rate up to {load.search.highest:g}/s, {load.seconds:g} s each"
    assert load.recorded is not None  # noqa: S101
    return f"the arrivals of {load.recorded.route} of the last {load.recorded.since:g} s, {load.recorded.speed:g}x"


def told(made: Plan) -> list[str]:
    lines = [
        f"{made.requests:,} requests: {made.cases:,} cases ("
        + ", ".join(f"{task} {count:,}" for task, count in made.prompts.items())
        + ")"
    ]
    if made.most_usd is None:
        lines.append(f"cost unknown: no price for {', '.join(made.unpriced)}")
    else:
        lines.append(f"at most {made.most_usd:.4f} USD if every answer is as long as it may be")
    lines += [
        f"if two targets differ on {share:.0%} of the prompts, a difference of {effect:.1%} in accuracy will be found"
        f" with 80 % power"
        for share, effect in made.detectable
    ]
    return lines
