"""Scorers for tasks that say what is expected, and the fence around code."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.scoring import code, task
from proxy.wire.answer import Answer, ToolCall


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"a": 1, "b": "Two "}', 1.0),
        ('{"a": 1.0, "b": "two", "c": 3}', 1.0),
        ('```json\n{"a": 1, "b": "x"}\n```', 0.5),
        ('{"a": true, "b": null}', 0.0),
        ("[1]", 0.0),
        ("no JSON", 0.0),
    ],
)
def test_fields(text: str, score: float) -> None:
    assert task.fields(text, {"a": 1, "b": "two"}) == score


@pytest.mark.parametrize(
    ("made", "score"),
    [
        ([("f", '{"x": 1, "y": 2}')], 1.0),
        ([("f", '{"y":2,"x":1}')], 1.0),
        ([("f", '{"x": 2}')], 0.0),
        ([], 0.0),
        ([("f", '{"x": 1, "y": 2}'), ("g", "{}")], 2 / 3),
        ([("f", "{broken")], 0.0),
    ],
)
def test_calls(made: list[tuple[str, str]], score: float) -> None:
    answer = Answer(tool_calls=tuple(ToolCall("", *one) for one in made), finish_reason="tool_calls")
    assert task.calls(answer, [{"name": "f", "arguments": {"x": 1, "y": 2}}]) == pytest.approx(score)


def test_none_expected_and_none_made_is_right() -> None:
    assert task.calls(Answer(text="hello", finish_reason="stop"), []) == 1.0
    assert task.calls_of('{"name": "f"}') == [{"name": "f"}]
    with pytest.raises(ValueError, match="expected calls"):
        task.calls_of([1])


def test_refusals_abstentions_and_forbidden_words() -> None:
    refused = Answer("I'm sorry, but I can't help with that.", finish_reason="stop")
    assert task.refuses({}, refused) == 1.0
    assert task.refuses({}, Answer("Sure: first ...", finish_reason="stop")) == 0.0
    assert task.abstains("The text does not say when he was born.") == 1.0
    assert task.abstains("He was born in 1912.") == 0.0
    assert task.clean("call me at 555-1234", [r"\d{3}-\d{4}"]) == 0.0
    assert task.clean("call me", [r"\d{3}-\d{4}"]) == 1.0


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=20))
def test_the_probability_is_one_by_the_perplexity(logprobs: list[float]) -> None:
    found = task.probability(logprobs)
    assert found is not None
    assert 0 < found <= 1
    assert 1 / found == pytest.approx(math.exp(-sum(logprobs) / len(logprobs)))
    assert task.probability([]) is None


TESTS = "assert double(4) == 8"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("```python\ndef double(x):\n    return 2 * x\n```", 1.0),
        ("def double(x):\n    return 2 * x", 1.0),
        ("```python\ndef double(x):\n    return x\n```", 0.0),
        ("no code at all", 0.0),
        ("```python\nimport os\nos._exit(0)\n```", 0.0),
        ("```python\nraise SystemExit(0)\n```", 0.0),
        ("```python\nx = bytearray(2 ** 31)\ndef double(x): return 2 * x\n```", 0.0),
        ("```python\nopen('big', 'wb').write(b'x' * 2 ** 22)\ndef double(x): return 2 * x\n```", 0.0),
    ],
)
def test_code(text: str, score: float) -> None:
    assert asyncio.run(code.passes(text, TESTS)) == score


def test_code_that_does_not_end_is_ended_with_all_its_children() -> None:
    text = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'])\nwhile True: pass"
    assert asyncio.run(code.passes(text, TESTS, seconds=0.5)) == 0.0
