"""A model that changes silently is found; one that only varies as it always did is not."""

from __future__ import annotations

from random import Random
from typing import Any

from proxy.bench.drift import drift, told

Json = dict[str, Any]
PROMPTS = 150


def run(rng: Random, stable: float, model: str = "m-1", other: float = 0.0, longer: float = 1.0) -> list[Json]:
    """Two repeats of each prompt: the usual answer with chance `stable`; `other`: share of prompts answered anew."""
    rows = []
    for case in range(PROMPTS):
        moved = Random(f"{case} {other}").random() < other
        for _ in range(2):
            text = "usual" if rng.random() < stable else f"odd {rng.randrange(10**6)}"
            rows.append(
                {
                    "target": "t", "task": "fixed", "case": str(case), "outcome": "ok",
                    "answer": f"{text} {moved}", "answer_chars": round(100 * longer), "response_model": model,
                    "fingerprint": None,
                }
            )  # fmt: skip
    return rows


def series(seed: int, stable: float, **later: Any) -> Any:
    rng = Random(seed)
    runs = [("r0", "t0", run(rng, stable))] + [(f"r{n}", f"t{n}", run(rng, stable, **later)) for n in range(1, 7)]
    found = drift("t", runs)
    assert found is not None
    return found


def test_a_changed_model_is_found() -> None:
    for seed in range(10):
        found = series(seed, 0.9, other=0.3, model="m-2", longer=1.2)
        assert found.changed
        assert found.looks[0].said == ["model: m-1 -> m-2"]
        assert 0.17 < found.looks[0].length.value < 0.19
        assert "CHANGED" in told(found)[0]


def test_an_unchanged_one_is_not_called_changed() -> None:
    for stable in (1.0, 0.9, 0.6):
        called = sum(series(seed, stable).changed for seed in range(60))
        assert called <= 3, stable  # far below 1 in 20, since the margin is there for the baseline's uncertainty


def test_nothing_to_compare_is_said() -> None:
    found = drift("t", [("r0", "t0", run(Random(1), 1.0))])
    assert found is not None
    assert "no later run" in told(found)[0]
    assert drift("other", [("r0", "t0", run(Random(1), 1.0))]) is None
