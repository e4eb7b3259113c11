"""Answers of compatible servers, made strict. The cases are written by hand to shapes that such servers send."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Decoder, Endpoint, Minted
from proxy.providers.catalog import CATALOG
from proxy.providers.compatible import Compatible
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, DONE, Chunk, Usage
from proxy.wire.usage import Parts

MINTED = Minted("chatcmpl-minted", 1_700_000_000)
END = b"data: [DONE]\n\n"


def to(name: str, **more: Any) -> Endpoint:
    return Endpoint(name, "http://127.0.0.1/v1", "m", verbatim=False, quirks=CATALOG[name].quirks, **more)


def ask(stream: bool, n: int = 1) -> ChatRequest:
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "stream": stream, "n": n}
    return ChatRequest.parse(orjson.dumps(body))


def event(*choices: dict[str, Any], **more: Any) -> bytes:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m-1"}
    return b"data: %b\n\n" % orjson.dumps({**head, "choices": list(choices), **more})


def delta(reason: str | None = None, **told: Any) -> dict[str, Any]:
    return {"index": 0, "delta": told, "finish_reason": reason}


def answer(message: dict[str, Any] | None, reason: str | None = "stop", **more: Any) -> bytes:
    choice: dict[str, Any] = {"finish_reason": reason}
    if message is not None:
        choice["message"] = message
    return orjson.dumps({"id": "c1", "created": 5, "model": "m-1", "choices": [choice], **more})


def run(decoder: Decoder, pieces: list[bytes]) -> list[Chunk]:
    chunks = [chunk for piece in pieces for chunk in decoder.feed(piece)]
    return chunks if decoder.ended else chunks + decoder.close()


def read_stream(raw: bytes, name: str = "groq", n: int = 1) -> tuple[list[dict[str, Any]], Decoder]:
    """The chunks, each checked; the same for every way of cutting."""
    make = lambda: Compatible().decoder(ask(True, n), to(name), MINTED)  # noqa: E731
    decoder = make()
    chunks = run(decoder, [raw])
    told = [(chunk.kind, chunk.raw) for chunk in chunks]
    rng = Random(7)
    places = sorted(rng.randrange(len(raw)) for _ in range(12))
    cut = [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]
    for pieces in ([raw[at : at + 1] for at in range(len(raw))], cut):
        assert [(chunk.kind, chunk.raw) for chunk in run(make(), pieces)] == told
    assert told[-1] == (DONE, END)
    bodies = [orjson.loads(chunk.raw[6:]) for chunk in chunks if chunk.kind not in (COMMENT, DONE)]
    for body in bodies:
        ChatCompletionChunk.model_validate_json(orjson.dumps(body), strict=True)
    assert len({(body["id"], body["created"], body["model"]) for body in bodies}) == 1
    assert bodies[0]["choices"][0]["delta"]["role"] == "assistant"
    return bodies, decoder


def read_body(raw: bytes, name: str = "groq") -> tuple[dict[str, Any], Decoder]:
    decoder = Compatible().decoder(ask(False), to(name), MINTED)
    (chunk,) = run(decoder, [raw[at : at + 5] for at in range(0, len(raw), 5)])
    ChatCompletion.model_validate_json(chunk.raw, strict=True)
    return orjson.loads(chunk.raw), decoder


def put_together(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the deltas of choice 0 make, as a client puts it together."""
    whole: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": [], "finish": []}
    for body in bodies:
        for choice in body["choices"]:
            for name in ("content", "reasoning_content"):
                whole[name] += choice["delta"].get(name) or ""
            for piece in choice["delta"].get("tool_calls", ()):
                if piece["index"] == len(whole["tool_calls"]):
                    whole["tool_calls"].append({"id": piece["id"], "type": "function", "function": piece["function"]})
                else:
                    known = whole["tool_calls"][piece["index"]]["function"]
                    known["arguments"] += piece["function"]["arguments"]
            whole["finish"] += [choice["finish_reason"]] if choice["finish_reason"] else []
    return whole


CALLS = [
    {"id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
    {"id": "a", "type": "function", "function": {"name": "g"}},
    {"function": {"name": "h", "arguments": {"y": 2}}},
]
WANTED_CALLS = [
    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
    {"id": "a_1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    {"id": "call_minted_2", "type": "function", "function": {"name": "h", "arguments": '{"y":2}'}},
]


def test_stream_and_whole_answer_say_the_same() -> None:
    stream = (
        b": OPENROUTER PROCESSING\n\n"
        + event(delta(role="assistant", content=None, reasoning="think"))
        + event(delta(content="Hel"))
        + event(delta(content="lo é漢"))
        + event(delta(tool_calls=CALLS))
        + event(delta("eos"), usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})
        + END
    )
    message = {"content": "Hello é漢", "reasoning": "think", "tool_calls": CALLS}
    bodies, streaming = read_stream(stream)
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    body, whole = read_body(answer(message, "eos", usage=usage))
    together = put_together(bodies)
    for name in ("content", "reasoning_content", "tool_calls"):
        assert body["choices"][0]["message"][name] == together[name]
    assert together["tool_calls"] == WANTED_CALLS
    assert together["finish"] == [body["choices"][0]["finish_reason"]] == ["tool_calls"]
    assert streaming.usage == whole.usage == Usage(3, 0, 0, 4, 0)
    assert (streaming.finish_reason, streaming.model) == (whole.finish_reason, whole.model) == ("tool_calls", "m-1")
    assert bodies[-1]["usage"] == body["usage"]
    assert bodies[-1]["choices"] == []


def test_pieces_of_calls_with_their_index_their_id_or_neither() -> None:
    stream = (
        event(delta(tool_calls=[{"index": 1, "id": "a", "function": {"name": "f", "arguments": None}}]))
        + event(delta(tool_calls=[{"index": 1, "function": {"arguments": '{"x"'}}]))
        + event(delta(tool_calls=[{"index": 1, "id": "a", "function": {"name": "f", "arguments": ":1}"}}]))
        + event(delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}}]))
        + event(delta(tool_calls=[{"index": 1, "function": {"arguments": "}"}}]))
        + event(delta(tool_calls=[{"id": "c", "function": {"name": "h", "arguments": ""}}]))
        + event(delta(tool_calls=[{"function": {"arguments": "{}"}}]))
        + event(delta(tool_calls=[{"index": 9, "function": {"arguments": ""}}]))
        + event(delta("stop"))
        + END
    )
    calls = put_together(read_stream(stream)[0])["tool_calls"]
    told = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls]
    assert told == [("a", "f", '{"x":1}'), ("b", "g", "{}"), ("c", "h", "{}")]


def test_a_call_without_a_name_is_no_answer() -> None:
    stream = event(delta("tool_calls", tool_calls=[{"index": 0, "function": {"arguments": "{}"}}])) + END
    with pytest.raises(UpstreamError) as caught:
        read_stream(stream)
    assert caught.value.kind is Kind.MALFORMED
    with pytest.raises(UpstreamError):
        read_body(answer({"content": None, "tool_calls": [{"id": "a", "function": {"arguments": "{}"}}]}))


def test_length_never_becomes_tool_calls() -> None:
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x'}}]
    decoder = read_stream(event(delta("length", tool_calls=calls)) + END)[1]
    assert decoder.finish_reason == "length"
    assert read_body(answer({"tool_calls": calls}, "model_length"))[1].finish_reason == "length"


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("eos", "stop"),
        ("", "stop"),
        ("sensitive", "content_filter"),
        ("max_tokens", "length"),
        ("stop", "stop"),
        ("end_turn", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
    ],
)
def test_finish_reasons(reason: str, wanted: str) -> None:
    assert read_body(answer({"content": "x"}, reason))[1].finish_reason == wanted
    assert read_stream(event(delta(content="x")) + event(delta(reason)) + END)[1].finish_reason == wanted


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource", "network_error", "abort"])
def test_finish_reasons_that_tell_of_a_failure(reason: str) -> None:
    for act in (
        lambda: read_body(answer({"content": "x"}, reason)),
        lambda: read_stream(event(delta(content="x")) + event(delta(reason)) + END),
    ):
        with pytest.raises(UpstreamError):
            act()


def test_extras_stay_and_closed_literals_do_not() -> None:
    more = {"service_tier": "on_demand", "x_groq": {"id": "r", "usage": {"prompt_tokens": 1}}, "provider": "P"}
    body, decoder = read_body(answer({"content": "x", "executed_tools": [1]}, **more))
    assert "service_tier" not in body
    assert (body["provider"], body["x_groq"]) == ("P", {"id": "r"})
    assert body["choices"][0]["message"]["executed_tools"] == [1]
    assert decoder.usage == Usage(1, 0, 0, 0, 0)
    bodies, decoder = read_stream(event(delta(content="x"), **more) + event(delta("stop"), service_tier="flex") + END)
    assert bodies[0]["provider"] == "P"
    assert all("service_tier" not in one for one in bodies[:1])
    assert any(one.get("service_tier") == "flex" for one in bodies)
    assert bodies[-1]["usage"]["prompt_tokens"] == 1


def test_the_first_chunk_may_have_no_id_and_lists_of_objects_are_numbered() -> None:
    first = {"choices": [], "id": "", "model": "", "object": "", "created": 0, "prompt_filter_results": [{"a": 1}]}
    details = [{"type": "reasoning.text", "text": "a"}]
    bodies, _ = read_stream(
        b"data: %b\n\n" % orjson.dumps(first)
        + event(delta(content="x", reasoning_details=details))
        + event(delta(reasoning_details=details))
        + event(delta("stop"))
        + END
    )
    assert bodies[0]["prompt_filter_results"] == [{"a": 1}]
    numbers = [d["index"] for b in bodies for c in b["choices"] for d in c["delta"].get("reasoning_details", ())]
    assert numbers == [0, 1]


def test_what_follows_a_finish_reason_is_not_lost_and_its_repetition_is() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.5}
    stream = (
        event(delta("stop", content="a")) + event(delta(content="b")) + event(delta("stop", content=""), usage=usage)
    )
    bodies, decoder = read_stream(stream + END)
    together = put_together(bodies)
    assert (together["content"], together["finish"]) == ("ab", ["stop"])
    assert bodies[-1]["usage"]["cost"] == 0.5
    assert decoder.usage == Usage(1, 0, 0, 2, 0, Parts(cost_usd=0.5))


def test_perplexity_repeats_its_message_and_numbers_its_sources() -> None:
    sources = {"citations": ["https://a", "https://b"], "search_results": [{"url": "https://b", "title": "B"}]}
    noted = [{"start_index": 3, "end_index": 6, "title": "B", "url": "https://b"}]
    whole = {"role": "assistant", "content": "so [2] [7]"}
    one = {**delta(content="so ["), "message": {"role": "assistant", "content": "so ["}}
    two = {**delta("stop", content="2] [7]"), "message": whole}
    bodies, _ = read_stream(event(one, **sources) + event(two, object="chat.completion.done", **sources), "perplexity")
    assert put_together(bodies)["content"] == "so [2] [7]"
    told = [a["url_citation"] for b in bodies for c in b["choices"] for a in c["delta"].get("annotations", ())]
    assert told == noted
    body, _ = read_body(answer(whole, **sources), "perplexity")
    assert [one["url_citation"] for one in body["choices"][0]["message"]["annotations"]] == noted
    assert body["citations"] == sources["citations"]


THREE = {"completion_tokens_details": {"reasoning_tokens": 3}}


@pytest.mark.parametrize(
    ("name", "told", "classes"),
    [
        ("xai", {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 10, **THREE}, Usage(5, 0, 0, 2, 3)),
        ("xai", {"prompt_tokens": 5, "completion_tokens": 2, **THREE}, Usage(5, 0, 0, 2, 3)),
        ("xai", {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10, **THREE}, Usage(5, 0, 0, 2, 3)),
        ("groq", {"prompt_tokens": 5, "completion_tokens": 5, **THREE}, Usage(5, 0, 0, 2, 3)),
        ("deepseek", {"prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}, Usage(1, 4, 0, 2, 0)),
        ("together", {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 4}, Usage(1, 4, 0, 2, 0)),
        ("xai", {"prompt_tokens": 31, "prompt_tokens_details": {"cached_tokens": 161}}, Usage(0, 31, 0, 0, 0)),
        ("groq", {"prompt_tokens": 5.0, "completion_tokens": None}, Usage(5, 0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_usage(name: str, told: dict[str, Any], classes: Usage) -> None:
    body, decoder = read_body(answer({"content": "x"}, usage=told), name)
    assert decoder.usage == classes
    shown = body["usage"]
    assert (
        shown["total_tokens"] == classes.input + classes.output == shown["prompt_tokens"] + shown["completion_tokens"]
    )
    assert shown["prompt_tokens_details"]["cached_tokens"] == classes.cache_read


def test_usage_in_a_choice_and_none_at_all() -> None:
    last = {**delta("stop"), "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    bodies, decoder = read_stream(event(delta(content="x")) + event(last) + END, "moonshot")
    assert decoder.usage == Usage(1, 0, 0, 2, 0)
    assert not any("usage" in choice for body in bodies for choice in body["choices"])
    bodies, decoder = read_stream(event(delta(content="x")) + event(delta("stop")) + END)
    assert decoder.usage is None
    assert not any("usage" in body for body in bodies)


@pytest.mark.parametrize(
    "raw",
    [
        event(delta(content="x")),
        event(delta(content="x")) + END,
        END,
        b"",
        event(delta(content="x")) + event(delta("stop"))[:-20],
        event(delta("stop", content="x"), {"index": 1, "delta": {"content": "y"}}),
    ],
)
def test_a_stream_that_did_not_end_is_no_answer(raw: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        read_stream(raw)
    assert caught.value.kind in (Kind.TRUNCATED, Kind.MALFORMED)


def test_an_end_without_its_marker_is_an_end() -> None:
    assert read_stream(event(delta("stop", content="x")))[1].finish_reason == "stop"
    decoder = Compatible().decoder(ask(True), to("groq"), MINTED)
    decoder.feed(event(delta("stop", content="x")) + b"data: {half")
    assert [chunk.kind for chunk in decoder.close(cut=True)][-1] == DONE


@pytest.mark.parametrize(
    "raw",
    [
        b'event: error\ndata: {"error":{"message":"x","code":"rate_limit_exceeded"}}\n\n',
        event(x_groq={"error": "over capacity"}),
        b'data: {"error":{"code":502,"message":"x"},"choices":[{"index":0,"finish_reason":"error"}]}\n\n',
        b"data: {half\n\n",
        b"data: 1\n\n",
        event(1),  # type: ignore[arg-type]
    ],
)
def test_errors_inside_a_stream(raw: bytes) -> None:
    decoder = Compatible().decoder(ask(True), to("groq"), MINTED)
    with pytest.raises(UpstreamError):
        decoder.feed(event(delta(content="x")) + raw)
    assert len(decoder.pending) == 1


@pytest.mark.parametrize("raw", [b"", b"<", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[1]}', b'{"error":"x"}'])
def test_what_is_no_answer(raw: bytes) -> None:
    with pytest.raises(UpstreamError):
        read_body(raw)


def test_a_filtered_answer_has_an_empty_message() -> None:
    body, _ = read_body(answer(None, "content_filter"))
    assert body["choices"][0]["message"] == {"role": "assistant", "content": None, "refusal": None}
    with pytest.raises(UpstreamError):
        read_body(answer(None))


def test_annotations_that_do_not_fit_the_type_move_aside() -> None:
    good = {"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 1, "title": "t", "url": "u"}}
    body, _ = read_body(answer({"content": "x", "annotations": [good, {"type": "file", "file": {}}]}), "openrouter")
    message = body["choices"][0]["message"]
    assert (message["annotations"], message["provider_annotations"]) == ([good], [{"type": "file", "file": {}}])


@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (400, {"code": "Arrearage", "message": "overdue"}, Kind.QUOTA),
        (429, {"error": {"type": "exceeded_current_quota_error", "message": "x"}}, Kind.QUOTA),
        (429, {"error": {"code": "1113", "message": "x"}}, Kind.QUOTA),
        (400, {"error": {"code": "1301", "message": "x"}}, Kind.CONTENT_FILTER),
        (400, {"error": {"code": "Throttling.RateQuota", "message": "x"}}, Kind.RATE_LIMIT),
        (400, {"error": {"code": "tool_use_failed", "message": "x", "failed_generation": "<"}}, Kind.MALFORMED),
        (400, {"code": "invalid-argument", "error": "no such thing"}, Kind.BAD_REQUEST),
        (400, {"error": {"message": "Range of input length should be [1, 100]"}}, Kind.CONTEXT_LENGTH),
        (402, {"error": {"code": 402, "message": "x"}}, Kind.QUOTA),
    ],
)
def test_errors(status: int, raw: dict[str, Any], kind: Kind) -> None:
    assert Compatible().error(status, [], orjson.dumps(raw)).kind is kind


def test_a_wait_told_in_the_body() -> None:
    def wait(metadata: object) -> float | None:
        body = orjson.dumps({"error": {"code": 429, "message": "x", "metadata": metadata}})
        return Compatible().error(429, [], body).retry_after

    assert wait({"retry_after_seconds": 3}) == 3.0
    assert wait({"headers": {"Retry-After": "4"}}) == 4.0
    assert wait({"headers": {"Retry-After": "soon"}}) is None
    assert wait(None) is None
