"""The arms are treated alike, the request is changed only as asked, and money is reserved before it is spent."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.verdict import VERDICTS, Kind
from proxy.config.shadow import Candidate, Shadow
from proxy.forms.completions import CompletionsRequest
from proxy.forms.messages import MessagesRequest
from proxy.record import Attempt
from proxy.shadow.budget import Budget, Purse, Spent
from proxy.shadow.differences import differences
from proxy.shadow.request import Incompatible, mirrored
from proxy.shadow.scores import Asked, Side, scores
from proxy.shadow.terms import Terms, terms_of
from proxy.wire.answer import Answer
from proxy.wire.chat import ChatRequest

METRICS = ["errors", "validity", "refusal", "truncation", "ttft", {"kind": "e2e", "slo": "1s"}, "cost",
           {"kind": "cost", "slo_usd": 0.02}, {"kind": "regex", "expect": "yes"}]  # fmt: skip
((TERMS, _),) = terms_of(
    "x",
    Shadow.model_validate({"route": "chat", "candidate": "openai/b", "guardrails": METRICS}),
)
JSON = {"messages": [], "response_format": {"type": "json_object"}}


def side(kind: Kind, text: str, finish: str, ttft: int, e2e: int, usd: float | None, stream: bool) -> Side:
    attempt = Attempt(1, "t", "p", "m", 1_000)
    attempt.kind, attempt.outcome, attempt.cost_usd = kind, VERDICTS[kind].outcome, usd
    marks = attempt.marks
    marks.sent = 1_000
    marks.first_content, marks.last_content, marks.end = 1_000 + ttft, 1_000 + ttft + e2e, 2_000 + ttft + e2e
    return Side(attempt, Answer(text, finish_reason=finish if kind is Kind.OK else None), stream)


SIDES = st.builds(
    side,
    kind=st.sampled_from([Kind.OK, Kind.OK, Kind.SERVER_ERROR, Kind.TIMEOUT]),
    text=st.sampled_from(['{"a": 1}', "yes", "", "I'm sorry, I can't do that."]),
    finish=st.sampled_from(["stop", "length"]),
    ttft=st.integers(1, 3 * 10**9),
    e2e=st.integers(1, 3 * 10**9),
    usd=st.one_of(st.none(), st.floats(0, 0.1)),
    stream=st.booleans(),
)


@given(SIDES, SIDES, st.floats(0, 1))
def test_the_arms_are_treated_alike(one: Side, other: Side, won: float) -> None:
    here = {score.metric: score for score in scores(TERMS, "id", JSON, one, other, Asked(won), {})}
    there = {score.metric: score for score in scores(TERMS, "id", JSON, other, one, Asked(1 - won), {})}
    assert here.keys() == there.keys()
    for metric, score in here.items():
        swapped = there[metric]
        if metric.startswith("same_"):
            assert score.candidate == pytest.approx(swapped.candidate)
            continue
        assert (score.primary, score.candidate) == (swapped.candidate, swapped.primary)
        if score.bin is not None:
            assert swapped.bin is not None
            assert abs(score.bin + swapped.bin - 200) <= 1  # the same draw rounds both


def test_a_failure_scores_0_and_is_endless() -> None:
    good = side(Kind.OK, '{"a": 1}', "stop", 10**8, 10**8, 0.01, True)
    bad = side(Kind.SERVER_ERROR, "", "stop", 1, 1, None, True)
    found = {score.metric: score for score in scores(TERMS, "id", JSON, good, bad, Asked(), {})}
    assert found["errors"][1:] == (1.0, 0.0, 0)
    assert found["validity"][1:] == (1.0, 0.0, 0)
    assert found["ttft"][1:] == (0.1, None, 0)
    assert found["e2e"][1:] == (1.0, 0.0, 0)
    assert "cost" not in found, "what failed cost nothing, which is no saving"
    empty = side(Kind.OK, " ", "stop", 1, 1, 0.0, True)
    found = {score.metric: score for score in scores(TERMS, "id", JSON, good, empty, Asked(), {})}
    assert found["errors"][1:] == (1.0, 0.0, 0)


def test_garbage_where_nothing_is_demanded_says_nothing() -> None:
    good, garbage = (side(Kind.OK, text, "stop", 10, 10, 0.0, False) for text in ("fine", "%&$"))
    found = {score.metric for score in scores(TERMS, "id", {"messages": []}, good, garbage, Asked(), {})}
    assert "validity" not in found


def test_terms_survive_the_store() -> None:
    told = {"route": "chat", "candidates": {"b": "openai/b", "c": "openai/c"}, "alpha": 0.05, "guardrails": METRICS}
    both = [terms for terms, _ in terms_of("x", Shadow.model_validate(told))]
    assert [terms.name for terms in both] == ["x:b", "x:c"]
    assert {terms.alpha for terms in both} == {0.025}
    assert {terms.salt for terms in both} == {"x"}, "the same conversations for both"
    assert both[0].version != both[1].version
    for terms in both:
        assert Terms.loaded(terms.dumped()) == terms
    judged = {"route": "chat", "candidate": "openai/b", "primary": {"kind": "judge", "model": "openai/j"}}
    ((one, _),) = terms_of("x", Shadow.model_validate(judged))
    assert Terms.loaded(one.dumped()) == one
    judged["primary"]["rubric"] = "Be kind."  # type: ignore[index]
    ((other, _),) = terms_of("x", Shadow.model_validate(judged))
    assert one.version != other.version


# -- the request


def chat(**more: Any) -> ChatRequest:
    body = {"model": "chat", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}], **more}
    return ChatRequest.parse(orjson.dumps(body))


def test_a_plain_candidate_is_asked_the_very_same() -> None:
    ask = chat()
    assert mirrored(ask, Candidate(target="openai/b"), "unit") is ask


def test_what_is_stored_and_remembered() -> None:
    assert mirrored(chat(store=True), Candidate(target="openai/b"), "unit").body["store"] is False
    for more in ({"previous_response_id": "r"}, {"tools": [{"type": "web_search"}]}, {"web_search_options": {}}):
        with pytest.raises(Incompatible):
            mirrored(chat(**more), Candidate(target="openai/b"), "unit")
    own = [{"type": "function", "function": {"name": "f"}}]
    assert mirrored(chat(tools=own), Candidate(target="openai/b"), "unit").body["tools"] == own


@pytest.mark.parametrize("tools", [1, True, "x", {"a": 1}, [1], [None]])
def test_what_a_lax_upstream_took_is_not_mirrored_if_it_is_junk(tools: object) -> None:
    ask = CompletionsRequest.parse(orjson.dumps({"model": "chat", "prompt": "U", "tools": tools}))
    with pytest.raises(Incompatible, match="tools"):
        mirrored(ask, Candidate(target="openai/b"), "unit")


def test_the_prompt_is_changed_as_asked() -> None:
    candidate = Candidate(target="openai/b", system="T", prefix="<", suffix=">", cache_bust=True)
    messages = mirrored(chat(), candidate, "unit").body["messages"]
    assert messages == [
        {"role": "system", "content": "[unit]"},
        {"role": "system", "content": "T"},
        {"role": "user", "content": "<U>"},
    ]
    parts = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "U"}]}])
    (message,) = mirrored(parts, Candidate(target="openai/b", suffix=">"), "unit").body["messages"]
    assert [part["text"] for part in message["content"]] == ["U", ">"]


def test_another_form_is_changed_as_a_chat() -> None:
    body = {"model": "chat", "max_tokens": 10, "messages": [{"role": "user", "content": "U"}]}
    ask = MessagesRequest.parse(orjson.dumps(body), ())
    assert mirrored(ask, Candidate(target="openai/b"), "unit") is ask
    changed = mirrored(ask, Candidate(target="openai/b", suffix=">"), "unit")
    assert (changed.operation, changed.body["messages"]) == ("chat", [{"role": "user", "content": "U>"}])


def sent(target: str, dropped: tuple[str, ...] = (), **told: Any) -> Attempt:
    attempt = Attempt(1, target, target.partition("/")[0], "m", 0)
    attempt.sent, attempt.dropped = told, dropped
    return attempt


def test_the_differences_are_told() -> None:
    """What both were really sent, whoever added it: the route, the target, the dialect, the experiment."""
    candidate = Candidate(target="openai/b", params={"own": 1}, system="T")
    primary = sent("openai/a", temperature=1, max_completion_tokens=9, stop="x", stream=True)
    other = sent("openai/b", ("logprobs",), temperature=0, max_tokens=9, stop=["x"], own=1, seed=3)
    told = differences(candidate, chat(store=True), primary, other)
    assert told == [
        "own: null -> 1",
        "seed: null -> 3",
        "temperature: 1 -> 0",
        "system",
        "store: true -> false",
        "dropped: logprobs",
    ]
    assert differences(Candidate(target="openai/b"), chat(), other, other) == []
    assert differences(Candidate(target="openai/b"), chat(), None, other) == ["dropped: logprobs"]


def test_the_differences_of_dialects_are_told_in_one_language() -> None:
    plain, ask = Candidate(target="openai/b"), chat()
    primary = sent("openai/a", temperature=0.5, top_p=0.9, max_completion_tokens=9, stop=["x"], reasoning_effort="low")
    gemini = {"temperature": 0.5, "topP": 0.9, "maxOutputTokens": 9, "stopSequences": ["x"]}
    assert differences(plain, ask, primary, sent("g/m", generationConfig=gemini)) == ['reasoning_effort: "low" -> null']
    bedrock = {"temperature": 0.5, "topP": 0.9, "maxTokens": 10, "stopSequences": ["x"]}
    told = differences(plain, ask, primary, sent("b/m", inferenceConfig=bedrock))
    assert told == ["max_tokens: 9 -> 10", 'reasoning_effort: "low" -> null']
    responses = sent("openai/a", temperature=0.5, max_output_tokens=9, reasoning={"effort": "low"})
    assert differences(plain, ask, primary, responses) == ['stop: ["x"] -> null', "top_p: 0.9 -> null"]
    assert differences(plain, ask, sent("a/m", ("seed",)), sent("b/m")) == ["dropped by the primary: seed"]


# -- money


@given(st.lists(st.tuples(st.floats(0.0001, 0.2), st.floats(0, 1)), max_size=60), st.integers(1, 8))
def test_the_limits_are_never_passed(calls: list[tuple[float, float]], at_once: int) -> None:
    budget, open_calls = Budget(0.5, 1.0, day="1"), list[tuple[float, float]]()
    for number, (worst, share) in enumerate(calls):
        day = str(1 + number // 20)
        if budget.reserve(worst, day) is None:
            open_calls.append((worst, share * worst))
        if len(open_calls) >= at_once:
            budget.settle(*open_calls.pop(0))
        assert budget.spent + sum(worst for worst, _ in open_calls) <= 1.0 + 1e-9
        assert budget.spent_today <= 0.5 + at_once * 0.2 + 1e-9
    for one in open_calls:
        budget.settle(*one)
    assert budget.spent <= 1.0 + 1e-9


def test_a_new_day_has_new_money_and_the_end_is_the_end() -> None:
    budget = Budget(1.0, 2.5, day="1")
    assert budget.reserve(0.9, "1") is None
    assert budget.reserve(0.9, "1") == "day", "the other call may yet cost nothing"
    budget.settle(0.9, 0.9)
    assert budget.reserve(0.9, "1") == "day"
    assert budget.reserve(0.9, "2") is None
    budget.settle(0.9, 0.9)
    assert budget.reserve(0.9, "3") == "total"


def test_what_is_not_sent_is_not_reserved() -> None:
    """Whichever limit refuses a pair, all that was reserved comes back; a comparison without money is left out."""
    purse = Purse(Budget(1.0, 9.0, day="1"), Budget(0.5, 9.0, day="1"), Budget(0.2, 9.0, day="1"))
    assert purse.reserve(Spent(0.1, 0.6, 0.15), "1") == "day", "the judge's part is too small"
    assert purse.reserve(Spent(0.9, 0.3, 0.15), "1") == "day", "the whole is too small"
    taken = purse.reserve(Spent(0.3, 0.5, 0.2), "1")
    assert taken == Spent(0.3, 0.5, 0.2), "nothing was kept of the two before"
    assert isinstance(taken, Spent)
    purse.settle(taken, Spent(0.1, 0.1, 0.2))
    assert (purse.whole.spent, purse.judge.spent, purse.similarity.spent) == pytest.approx((0.4, 0.1, 0.2))
    assert purse.reserve(Spent(0.1, 0.1, 0.01), "1") == Spent(0.1, 0.1, 0.0)
