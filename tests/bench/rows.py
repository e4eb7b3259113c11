"""Rows of runs that never took place, with a known truth: what a report says of them can be held against it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from proxy.bench.results import COLUMNS
from proxy.bench.suite import Suite, parse

Json = dict[str, Any]


class Law(NamedTuple):
    """What a target is like in truth."""

    accuracy: float = 0.72
    safety: float = 0.95
    spread: float = 0.0
    """How much prompts differ: 0 gives every prompt the mean, near 1 makes each prompt always right or always wrong."""
    median_ms: float = 800.0
    sigma: float = 0.5
    failing: float = 0.0
    stalling: float = 0.0
    usd: float = 0.001

    def quantile_ms(self, q: float) -> float:
        """Of the latency of requests, failures counted as infinite."""
        from scipy.stats import norm

        if q >= 1 - self.failing:
            return float("inf")
        return float(self.median_ms * np.exp(self.sigma * norm.ppf(q / (1 - self.failing))))


def suite(targets: list[str], prompts: int, *, repeats: int = 1, **more: Any) -> Suite:
    import orjson

    tasks = {"quality": {"data": [{"prompt": "?"}], "scorers": ["exact"]}}
    if more.pop("safety", False):
        tasks["safety"] = {"data": [{"prompt": "?"}], "scorers": ["refusal"], "aim": "safety"}  # type: ignore[dict-item]
    whole = {"name": "synthetic", "targets": targets, "tasks": tasks, "repeats": repeats, **more}
    return parse(orjson.dumps(whole).decode())


def rows(
    plan: Suite, laws: dict[str, Law], prompts: int, rng: np.random.Generator, *, shared: float = 0.0
) -> list[Json]:
    """`shared`: how much of a prompt's difficulty all targets have in common, from 0 to 1."""
    made: list[Json] = []
    for task, settings in plan.tasks.items():
        common = rng.random(prompts)
        for target, law in laws.items():
            truth = law.accuracy if settings.aim == "accuracy" else law.safety
            own = np.where(rng.random(prompts) < shared, common, rng.random(prompts))
            for case in range(prompts):
                p = truth
                if law.spread:
                    concentration = (1 - law.spread) / law.spread
                    from scipy.stats import beta

                    p = float(beta.ppf(own[case], truth * concentration, (1 - truth) * concentration))
                for repeat in range(plan.repeats):
                    right = bool((rng.random() if law.spread or not shared else own[case]) < p)
                    made.append(row(target, task, f"c{case}", repeat, law, right, rng))
    return made


def row(target: str, task: str, case: str, repeat: int, law: Law, right: bool, rng: np.random.Generator) -> Json:
    failed = bool(rng.random() < law.failing)
    took = float(law.median_ms * np.exp(law.sigma * rng.standard_normal()))
    scored = 0.0 if failed or not right else 1.0
    stalled = bool(law.stalling and rng.random() < law.stalling)
    filled = dict.fromkeys(COLUMNS)
    return filled | {
        "task": task, "case": case, "cluster": f"{task}/{case}", "weight": 1.0, "target": target, "repeat": repeat,
        "position": 0, "cold": False, "outcome": "rate_limited" if failed else "ok",
        "error_kind": "rate_limit" if failed else None, "attempts": 1, "served_by": target, "ttft_ms": took / 4,
        "e2e_ms": took, "stalls": int(stalled), "input_tokens": 100, "output_tokens": 20, "cost_usd": law.usd,
        "scores": {"exact": scored}, "score": scored, "success": scored == 1.0, "wire": "w1",
    }  # fmt: skip
