"""The judges of `check --live`: what they let pass and what not."""

from __future__ import annotations

import pytest

from proxy.conformance import JUDGES, ONE_AT_A_TIME
from proxy.wire.answer import Answer, ToolCall


def called(*arguments: str, name: str = "get_time") -> Answer:
    return Answer(tool_calls=tuple(ToolCall(str(at), name, one) for at, one in enumerate(arguments)))


CITY = '{"city": "Oslo"}'


@pytest.mark.parametrize(
    ("cell", "answer", "wrong"),
    [
        ("tools", called(CITY), None),
        ("tools", Answer("It is noon."), "no call, but text"),
        ("tools", called("{"), "no JSON"),
        ("tools", called('{"town": "Oslo"}'), "does not fit"),
        ("tools", called(CITY, name="other"), "does not fit"),
        ("parallel", called(CITY, CITY), None),
        ("parallel", called(CITY), ONE_AT_A_TIME),
        ("parallel", called(CITY, "{"), "no JSON"),
        ("schema", Answer('{"sum": 2}'), None),
        ("schema", Answer('{"sum": "2"}'), "does not fit"),
        ("schema", Answer('```json\n{"sum": 2}\n```'), "no JSON"),
        ("logprobs", Answer("yes", logprobs=(-0.1,)), None),
        ("logprobs", Answer("yes"), "without logprobs"),
        ("stop", Answer("1 2 3 4 ", finish_reason="stop"), None),
        ("stop", Answer("1 2 3 4 5 6", finish_reason="stop"), "went on"),
        ("stop", Answer("1 2", finish_reason="length"), "length"),
    ],
)
def test_judges(cell: str, answer: Answer, wrong: str | None) -> None:
    told = JUDGES[cell](answer)
    assert (told is None) if wrong is None else (told is not None and wrong in told)
