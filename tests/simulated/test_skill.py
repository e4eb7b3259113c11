"""A simulated model that can do sums errs as often as it is told, and on the same questions in every dialect's way."""

from __future__ import annotations

import re

import orjson
import pytest

from proxy.simulated import Simulated
from proxy.simulated.answer import Wanted, plan
from proxy.simulated.latency import Tokens


def _text(question: str, skill: float | None, seed: int = 0) -> str:
    key = orjson.dumps([[{"role": "user", "content": question}], None])
    wanted = Wanted(key=key, model="m", stream=False, prompt_tokens=5)
    answer = plan(wanted, seed=seed, number=1, source="s", tokens=Tokens.of(5), skill=skill)
    return "".join(answer.choices[0].pieces)


def test_the_share_of_right_answers_is_the_skill() -> None:
    right = sum(_text(f"What is {a} + {a * 7}?", 0.8).endswith(f" {a * 8}.") for a in range(1000))
    assert 750 <= right <= 850  # 4 sigma


def test_seeds_err_on_different_questions() -> None:
    questions = [f"What is {a} * 3?" for a in range(200)]
    assert [_text(q, 0.5, 1) for q in questions] == [_text(q, 0.5, 1) for q in questions]
    ends = [[re.findall(r"-?\d+", _text(q, 0.5, seed))[-1] for q in questions] for seed in (1, 2)]
    assert ends[0] != ends[1]


def test_without_skill_or_a_sum_nothing_changes() -> None:
    assert "answer is" not in _text("What is 1 + 2?", None)
    assert _text("Say hello", 1.0) == _text("Say hello", None)
    assert _text("First 9 - 4, then 20 - 5?", 1.0).endswith("The answer is 15.")


@pytest.mark.parametrize("skill", [-0.1, 1.1, True, "0.5"])
def test_a_skill_that_is_no_share_is_refused(skill: object) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Simulated(skill=skill)  # type: ignore[arg-type]
