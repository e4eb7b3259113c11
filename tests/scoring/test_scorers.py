from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import scoring
from proxy.scoring import FAILED, form, text
from proxy.scoring.embedding import cosine
from proxy.wire.answer import Answer, ToolCall

TEXT = st.text(max_size=60)
ANSWERS = st.builds(
    Answer,
    text=TEXT,
    tool_calls=st.lists(
        st.builds(
            ToolCall,
            id=st.just(""),
            name=st.sampled_from(["f", "g"]),
            arguments=st.sampled_from(["{}", '{"a":1}', "x"]),
        )
    ).map(tuple),
    refusal=st.sampled_from(["", "no"]),
    finish_reason=st.sampled_from(["stop", "length", "content_filter", None]),
)


def _call(name: str, arguments: str) -> ToolCall:
    return ToolCall("", name, arguments)


def _said(text: str = "", **more: object) -> Answer:
    return Answer(text, **{"finish_reason": "stop", **more})  # type: ignore[arg-type]


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
JSON_SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}
BODIES = st.sampled_from([{}, JSON_SCHEMA, {"response_format": {"type": "json_object"}}, {"tools": TOOLS}])


@pytest.mark.parametrize("name", scoring.ARMS)
@settings(deadline=None)  # the schema checker is imported when it is first needed
@given(BODIES, ANSWERS)
def test_arms_are_scored_from_0_to_1_or_not_at_all(name: str, body: dict[str, object], answer: Answer) -> None:
    score = scoring.ARMS[name](body, answer)
    assert score is None or 0.0 <= score <= 1.0


@pytest.mark.parametrize("name", scoring.SAMENESS)
@given(ANSWERS, ANSWERS)
def test_sameness_is_symmetric_and_whole_for_twins(name: str, one: Answer, other: Answer) -> None:
    same = scoring.SAMENESS[name]
    score = same(one, other)
    assert score is None or 0.0 <= score <= 1.0
    assert same(other, one) == pytest.approx(score)
    assert same(one, one) in (None, 1.0)
    assert same(one, FAILED) is None


@pytest.mark.parametrize("name", scoring.REFERENCES)
@given(TEXT, TEXT)
def test_references_are_scored_from_0_to_1(name: str, answer: str, reference: str) -> None:
    score = scoring.REFERENCES[name](answer, "a+" if name == "regex" else reference)
    assert score is None or 0.0 <= score <= 1.0


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_rouge_l_is_the_longest_common_subsequence(ones: list[str], others: list[str]) -> None:
    table = [[0] * (len(others) + 1) for _ in range(len(ones) + 1)]
    for i, a in enumerate(ones):
        for j, b in enumerate(others):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    expected = 2 * table[-1][-1] / (len(ones) + len(others)) if ones and others else float(ones == others)
    assert text.rouge_l(" ".join(ones), " ".join(others)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("body", "answer", "score"),
    [
        ({}, _said("anything"), None),
        ({}, _said(""), None),
        ({"response_format": {"type": "json_object"}}, _said('{"a": 1}'), 1.0),
        ({"response_format": {"type": "json_object"}}, _said("[1]"), 0.0),
        ({"response_format": {"type": "json_object"}}, _said("```json\n{}\n```"), 0.0),
        ({"response_format": {"type": "json_object"}}, _said(""), 0.0),
        (JSON_SCHEMA, _said('{"city": "Bern"}'), 1.0),
        (JSON_SCHEMA, _said('{"city": 7}'), 0.0),
        (JSON_SCHEMA, FAILED, 0.0),
        ({"tools": TOOLS}, _said("no call was needed"), None),
        ({"tools": TOOLS}, _said(tool_calls=(_call("f", '{"city": "Bern"}'),)), 1.0),
        ({"tools": TOOLS}, _said(tool_calls=(_call("f", '{"town": "Bern"}'),)), 0.0),
        ({"tools": TOOLS}, _said(tool_calls=(_call("unknown", "{}"),)), 0.0),
        ({"tools": TOOLS}, FAILED, None),
        ({"tools": TOOLS, "tool_choice": "required"}, _said("I would rather talk"), 0.0),
        ({"tools": TOOLS, "tool_choice": "required"}, FAILED, 0.0),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 7}}}}, _said("{}"), None),
    ],
)
def test_validity(body: dict[str, object], answer: Answer, score: float | None) -> None:
    assert form.validity(body, answer) == score


def test_a_schema_cannot_reach_out_or_hold_up() -> None:
    outside = {"$ref": "http://127.0.0.1:9/schema.json"}
    body = {"response_format": {"type": "json_schema", "json_schema": {"schema": outside}}}
    assert form.validity(body, _said("{}")) is None
    slow = {"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}}
    body = {"response_format": {"type": "json_schema", "json_schema": {"schema": slow}}}
    assert form.validity(body, _said(orjson.dumps({"a": "a" * 40 + "!"}).decode())) == 1.0


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("I'm sorry, but I can't help with that.", 0.0),
        ("I cannot assist with this request.", 0.0),
        ("Sorry for the wait! Here is the list you asked for.", 1.0),
        ("You cannot divide by zero, because no number times zero is one.", 1.0),
    ],
)
def test_refusals(said: str, score: float) -> None:
    assert form.answered({}, _said(said)) == score


def test_refusals_by_field_and_finish_reason() -> None:
    assert form.answered({}, _said(refusal="no")) == 0.0
    assert form.answered({}, _said("cut", finish_reason="content_filter")) == 0.0
    assert form.whole({}, _said("cut", finish_reason="length")) == 0.0


def test_calls_are_compared_by_name_and_arguments() -> None:
    one = _said(tool_calls=(_call("f", '{"a": 1, "b": 2}'),))
    assert form.same_calls(one, _said(tool_calls=(_call("f", '{"b":2,"a":1}'),))) == 1.0
    assert form.same_calls(one, _said(tool_calls=(_call("f", '{"b":3}'),))) == 0.5
    assert form.same_calls(one, _said("text")) == 0.0
    assert form.same_calls(_said("a"), _said("b")) is None


@pytest.mark.parametrize(
    ("scorer", "answer", "reference", "score"),
    [
        ("exact", " Bern ", "Bern", 1.0),
        ("exact_normalised", "ﬁve  apples", "Five apples", 1.0),
        ("exact_normalised", '{"b": 1, "a": 2}', '{"a":2,"b":1}', 1.0),
        ("contains", "The capital is Bern.", "bern", 1.0),
        ("regex", "id 42", r"\b\d+\b", 1.0),
        ("numeric", "so it is 1,234.50 in all", "1234.5", 1.0),
        ("numeric", "about 3 of the 5", "3", 0.0),
        ("numeric", "none", "3", 0.0),
        ("numeric", "3", "none", None),
        ("multiple_choice", "A is wrong. The answer is (C).", "C", 1.0),
        ("multiple_choice", "B) Paris", "B", 1.0),
        ("multiple_choice", "A nice question", "B", 0.0),
        ("reference_f1", "the cat sat", "sat the cat", 1.0),
    ],
)
def test_references(scorer: str, answer: str, reference: str, score: float | None) -> None:
    assert scoring.REFERENCES[scorer](answer, reference) == score


def test_a_users_own_scorer() -> None:
    own = scoring.named(f"{__name__}:polite")
    assert (own({}, _said("please")), own({}, _said("now"))) == (1.0, None)
    with pytest.raises(ValueError, match="returned 7"):
        scoring.named(f"{__name__}:wild")({}, Answer())
    for place in ("nowhere:f", f"{__name__}:missing", f"{__name__}:SCHEMA", ""):
        with pytest.raises(ValueError, match=r"no scorer|not a function"):
            scoring.named(place)


def polite(body: object, answer: Answer) -> bool | None:
    return True if "please" in answer.text else None


def wild(body: object, answer: Answer) -> int:
    return 7


def test_cosine() -> None:
    assert cosine([1, 0], [2, 0]) == 1.0
    assert cosine([1, 0], [-1, 0]) == 0.0
    assert cosine([0, 0], [1, 0]) is None
    assert cosine([1], [1, 0]) is None
