"""Servers that speak OpenAI's form: the very bytes while they keep its rules, mended from where they do not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Decoder, Endpoint, Minted
from proxy.providers.compatible import Compatible
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Chunk, Usage
from proxy.wire.render import END, stream_bytes
from tests.replay import output
from tests.replay.answer import Answer, Tokens

TO = Endpoint("local", "http://127.0.0.1/v1", "m")
HEAD: dict[str, Any] = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def decoder(stream: bool, **more: Any) -> Decoder:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": stream, **more}
    return Compatible().decoder(ChatRequest.parse(orjson.dumps(body)), TO, Minted("chatcmpl-minted", 9))


def chunk(delta: Any, reason: Any = None, choice: Any = None, **more: Any) -> dict[str, Any]:
    told = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, **(choice or {})}
    return {**HEAD, "choices": [told], **more}


def call(index: Any = 0, id: Any = None, name: Any = None, arguments: Any = "", **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    begun = {"id": id, "type": "function"} if id else {}
    return {"tool_calls": [{"index": index, **begun, "function": function, **more}]}


BEGIN = chunk({"role": "assistant", "content": ""})
COUNT = {**HEAD, "choices": [], "usage": USAGE}


def raw(*chunks: dict[str, Any], end: bytes = END) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(one) for one in chunks) + end


def told(body: bytes, size: int = 0, **more: Any) -> tuple[bytes, Decoder]:
    reading = decoder(True, **more)
    chunks: list[Chunk] = []
    for at in range(0, len(body), size or len(body)):
        chunks += reading.feed(body[at : at + (size or len(body))])
    if not reading.ended:
        chunks += reading.close()
    return stream_bytes(chunks, True), reading


def mended(body: bytes) -> Answer:
    """What a client puts together, the same at every cut."""
    whole, _ = told(body)
    assert whole != body
    assert [told(body, size)[0] for size in (1, 7)] == [whole, whole]
    return output.stream(whole, False)


@pytest.mark.parametrize(
    "body",
    [
        raw(BEGIN, chunk({"content": "Hi"}), chunk({}, "stop"), COUNT),
        raw(BEGIN, chunk({"content": "Hi"}, "stop")),
        raw(BEGIN, chunk(call(0, "a", "weigh")), chunk(call(0, arguments='{"kg":7}')), chunk({}, "tool_calls")),
        raw(BEGIN, chunk(call(0, "a", "weigh", "{}")), chunk({}, "content_filter"), COUNT),
        raw(BEGIN, chunk(call(0, "a", "weigh", '{"k')), chunk({}, "length"), COUNT),
        raw(BEGIN, chunk({"reasoning_content": "hm", "reasoning": "hm"}), chunk({"content": "Hi"}), chunk({}, "stop")),
        raw(BEGIN, chunk({"content": "Hi"}, service_tier="default", x=1), chunk({}, "stop", {"stop_reason": "."})),
        b": ping\n\n" + raw(BEGIN, chunk({"content": "Hi"}), chunk({}, "stop")),
    ],
)
def test_what_keeps_the_rules_is_passed_on_as_it_came(body: bytes) -> None:
    assert told(body)[0] == body
    assert told(body, 1)[0] == body


@pytest.mark.parametrize(
    ("chunks", "text", "finish"),
    [
        ([BEGIN, chunk({"content": "Hi"}), chunk({}, "eos")], "Hi", "stop"),
        ([BEGIN, chunk({"content": "Hi"}, ""), chunk({}, "stop")], "Hi", "stop"),
        ([BEGIN, chunk({"content": "Hi"}, created=8), chunk({}, "stop", created=9)], "Hi", "stop"),
        ([BEGIN, chunk({"content": "Hi"}), chunk({}, "stop"), chunk({}, "stop")], "Hi", "stop"),
        ([chunk({"content": "Hi"}), chunk({}, "stop")], "Hi", "stop"),
        ([{"choices": [{"delta": {"content": "Hi"}}]}, {"choices": [{"finish_reason": "length"}]}], "Hi", "length"),
        ([BEGIN, chunk({"content": "Hi"}, service_tier="on_demand"), chunk({}, "stop")], "Hi", "stop"),
        ([BEGIN, chunk({"content": [{"type": "text", "text": "Hi"}]}), chunk({}, "stop")], "Hi", "stop"),
        ([{**HEAD, "id": "", "model": "", "choices": []}, BEGIN, chunk({"content": "Hi"}, "stop")], "Hi", "stop"),
        ([BEGIN, chunk({"content": "Hi"}, object="chat.completion.done"), chunk({}, "stop")], "Hi", "stop"),
        ([BEGIN, chunk({"content": "Hi"}, None, {"logprobs": {"content": [{"token": "Hi"}]}}), chunk({}, "stop")],
         "Hi", "stop"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_mended(chunks: list[dict[str, Any]], text: str, finish: str) -> None:
    choice = mended(raw(*chunks)).choices[0]
    assert (choice.text, choice.finish) == (text, finish)


@pytest.mark.parametrize(
    "pieces",
    [
        [call(0, "a", "weigh", '{"kg":7}'), call(0, "b", "tare", "{}")],
        [call(None, "a", "weigh", '{"kg":7}'), call(None, "b", "tare", "{}")],
        [call(1, "a", "weigh", '{"kg":7}'), call(4, "b", "tare", "")],
        [call(0, "a", "weigh", {"kg": 7}), call(1, "a", "tare", {})],
        [call(0, "a", "weigh", '{"kg"'), call(0, "a", "weigh", ":7}"), call(1, "b", "tare", None)],
        [call(0, "a", "weigh", '{"kg":7}'), call(1, "b", "tare", "{}")],
        [call(0, "", "weigh", '{"kg":7}'), call(0, "", "tare", "{}")],
    ],
)
def test_calls_are_told_apart(pieces: list[dict[str, Any]]) -> None:
    answer = mended(raw(BEGIN, *map(chunk, pieces), chunk({}, "stop")))
    assert [(one.name, one.parsed) for one in answer.choices[0].calls] == [("weigh", {"kg": 7}), ("tare", {})]
    assert answer.choices[0].finish == "tool_calls"


def test_a_stream_changes_hands_in_the_middle() -> None:
    """Calls begun before it go on; reasons and usage sent before it are not sent again."""
    begun = [BEGIN, chunk({"content": "Hi"}), chunk(call(0, "a", "weigh", '{"kg"'))]
    body = raw(*begun, chunk(call(0, arguments=":7}"), created=8), chunk(call(1, "b", "tare")), chunk({}, "tool_calls"))
    whole, _ = told(body)
    assert whole.startswith(raw(*begun, end=b""))
    calls = output.stream(whole, False).choices[0].calls
    assert [(one.name, one.parsed, one.id) for one in calls] == [("weigh", {"kg": 7}, "a"), ("tare", {}, "b")]

    counted = [BEGIN, chunk({"content": "Hi"}), chunk({}, "stop"), COUNT]
    whole, reading = told(raw(*counted, {**COUNT, "created": 8}))
    assert whole == raw(*counted)
    assert (reading.usage, reading.finish_reason, reading.ended) == (Usage(3, 0, 0, 2, 0), "stop", True)


def test_usage_beside_a_choice_moves_to_the_end() -> None:
    answer = mended(raw(BEGIN, chunk({"content": "Hi"}, usage=USAGE), chunk({}, "stop", usage=USAGE)))
    assert answer.usage == Tokens(3, 2)
    counts = raw(BEGIN, chunk({"content": "Hi"}, usage=USAGE), chunk({}, "stop", usage=USAGE))
    asked = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    assert told(counts, **asked)[0] == counts


def test_reasoning_has_one_name() -> None:
    answer = mended(raw(BEGIN, chunk({"reasoning": "hm"}), chunk({"content": "Hi"}), chunk({}, "stop")))
    assert (answer.choices[0].reasoning, answer.choices[0].text) == ("hm", "Hi")


@pytest.mark.parametrize("cut", [False, True])
def test_a_mended_stream_that_does_not_end_is_an_error(cut: bool) -> None:
    reading = decoder(True)
    assert reading.feed(raw(chunk({"content": "Hi"}), end=b""))
    with pytest.raises(UpstreamError) as told:
        reading.close(cut)
    assert told.value.kind is Kind.TRUNCATED


def test_an_error_inside_keeps_what_came_before() -> None:
    reading = decoder(True)
    with pytest.raises(UpstreamError) as raised:
        reading.feed(raw(BEGIN, chunk({"content": "Hi"}), {"error": {"message": "m", "code": 429}}))
    assert raised.value.kind is Kind.RATE_LIMIT
    assert stream_bytes(reading.pending, True) == raw(BEGIN, chunk({"content": "Hi"}), end=b"")


MESSAGE = {"role": "assistant", "content": "Hi", "refusal": None}


def body(message: Any = None, reason: Any = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {**MESSAGE, **(message or {})}, "logprobs": None, "finish_reason": reason}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE, **more}


def read(told: dict[str, Any]) -> bytes:
    reading = decoder(False)
    reading.feed(orjson.dumps(told))
    return reading.close()[0].raw


CALL = {"id": "a", "type": "function", "function": {"name": "weigh", "arguments": "{}"}}


@pytest.mark.parametrize(
    "sound",
    [
        body(),
        body({"content": None, "tool_calls": [CALL]}, "tool_calls"),
        body({"tool_calls": []}, x=1, system_fingerprint=None),
        body({"annotations": [], "audio": {"id": "a", "data": "", "expires_at": 1, "transcript": ""}}),
    ],
)
def test_a_sound_body_is_passed_on_as_it_came(sound: dict[str, Any]) -> None:
    assert read(sound) == orjson.dumps(sound)


@pytest.mark.parametrize(
    "unsound",
    [
        body(reason="eos"),
        body(reason=""),
        body(service_tier="on_demand"),
        body(object="text"),
        body(id=None),
        body({"tool_calls": [{**CALL, "type": None}]}, "tool_calls"),
        body({"tool_calls": [{**CALL, "function": {"name": "weigh", "arguments": {}}}]}, "stop"),
        body({"tool_calls": [CALL, CALL]}, "tool_calls"),
        body({"tool_calls": [CALL]}, "stop"),
        body({"annotations": [{"type": "file"}]}),
        body({"audio": {"id": "a"}}),
        body({"reasoning": "hm"}),
        body(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 161}}),
        body(usage={**USAGE, "total_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}),
    ],
)  # fmt: skip
def test_a_body_that_breaks_a_rule_is_mended(unsound: dict[str, Any]) -> None:
    sent = read(unsound)
    assert sent != orjson.dumps(unsound)
    assert output.body(sent, False).choices[0].text == "Hi"


def test_counts_that_leave_reasoning_out_are_added_up() -> None:
    usage = {**USAGE, "total_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
    assert output.body(read(body(usage=usage)), False).usage == Tokens(3, 6, 0, 0, 4)


@pytest.mark.parametrize("spaced", [False, True])
def test_a_time_that_ticks_stays_that_of_the_first_chunk_and_nothing_else_changes(spaced: bool) -> None:
    chunks = [BEGIN, chunk({"content": "a"}), chunk({"content": "b"}, created=8), chunk({}, "stop", created=9)]

    def written(one: dict[str, Any]) -> bytes:
        told = orjson.dumps({**one, "own": [1.50, "é"]})
        return b"data: %b\n\n" % (told.replace(b'"created":', b'"created": ') if spaced else told)

    made = decoder(True)
    got = b"".join(one.raw for one in made.feed(b"".join(map(written, chunks)) + END))
    assert got == b"".join(written({**one, "created": 7}) for one in chunks) + END


def test_a_head_that_changes_is_all_that_is_mended() -> None:
    """As llama.cpp writes it: the time of each chunk, an id of each choice; all else stays as it came."""
    other = {"index": 1, "delta": {"role": "assistant", "content": "Ho"}, "finish_reason": None, "odd": [1.5]}
    came = [
        BEGIN,
        chunk({"content": "Hi"}, created=8, timings={"a": 1}),
        {**HEAD, "id": "c2", "choices": [other], "created": 8},
        chunk({}, "stop", created=9),
        {**HEAD, "id": "c2", "choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]},
        {**COUNT, "created": 9},
    ]
    whole, reading = told(raw(*came), n=2)
    assert whole == raw(*({**one, "id": "c1", "created": 7} for one in came))
    assert reading.usage == Usage(3, 0, 0, 2, 0)


def test_a_tool_call_that_is_no_object_is_no_answer() -> None:
    made = decoder(False)
    made.feed(
        orjson.dumps({**HEAD, "choices": [{"index": 0, "message": {"tool_calls": [7]}, "finish_reason": "stop"}]})
    )
    with pytest.raises(UpstreamError) as raised:
        made.close()
    assert raised.value.kind is Kind.MALFORMED
