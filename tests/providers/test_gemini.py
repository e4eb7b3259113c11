"""Gemini's answers: read whole and in any pieces with one result, a stream equal to the whole."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.providers.base import Endpoint, Minted
from proxy.providers.gemini import Gemini
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import CONTENT, DONE, FINISH, META, Usage
from tests.providers.google import (
    MINTED,
    Json,
    both,
    call,
    events,
    response,
    run,
    stream_decoder,
    usage,
    whole,
)


def test_text_thoughts_and_usage() -> None:
    put = both(
        response({"text": "Hm.", "thought": True}, **usage(promptTokenCount=145)),
        response({"text": "Gr"}, **usage(promptTokenCount=145, thoughtsTokenCount=7)),
        response({"text": "üße"}, **usage(promptTokenCount=145, cachedContentTokenCount=40)),
        response(
            {"text": "", "thoughtSignature": "sig"}, reason="STOP",
            **usage(promptTokenCount=85, candidatesTokenCount=3, toolUsePromptTokenCount=5),
        ),
    )  # fmt: skip
    assert (put["id"], put["model"], put["created"]) == ("resp", "gemini-3.5-flash-002", 1_700_000_000)
    message = put["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": "Grüße",
        "refusal": None,
        "reasoning_content": "Hm.",
        "extra_content": {"google": {"thought_signature": "sig"}},
    }
    assert put["choices"][0]["finish_reason"] == "stop"
    assert (put["usage"]["prompt_tokens"], put["usage"]["completion_tokens"], put["usage"]["total_tokens"]) == (
        90,
        10,
        100,
    )
    assert put["usage"]["prompt_tokens_details"]["cached_tokens"] == 40
    assert put["usage"]["completion_tokens_details"]["reasoning_tokens"] == 7
    assert run([events(response({"text": "x"}, reason=1, **usage(promptTokenCount=3)))])[1].usage == Usage(
        3, 0, 0, 0, 0
    )


def test_cached_tokens_are_part_of_the_prompt() -> None:
    put = whole(response({"text": "x"}, reason="STOP", **usage(promptTokenCount=3, cachedContentTokenCount=9)))
    assert put["usage"]["prompt_tokens"] == put["usage"]["prompt_tokens_details"]["cached_tokens"] == 3


def test_calls_over_several_chunks() -> None:
    put = both(
        response({"text": "Let me see."}),
        response(call("weather", "sig", city="Rom"), call("time")),
        response({"functionCall": {"name": "weather", "args": {"city": "Bonn"}, "id": "own"}}),
        response({"functionCall": {"name": "again", "id": "own"}}, reason="STOP"),
    )
    choice = put["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    calls = choice["message"]["tool_calls"]
    assert [one["function"]["name"] for one in calls] == ["weather", "time", "weather", "again"]
    assert [one["function"]["arguments"] for one in calls] == ['{"city":"Rom"}', "{}", '{"city":"Bonn"}', "{}"]
    assert [one["id"] for one in calls] == ["call_00ff_0", "call_00ff_1", "own", "call_00ff_3"]
    assert calls[0]["extra_content"] == {"google": {"thought_signature": "sig"}}
    assert "extra_content" not in calls[1]


def test_arguments_in_pieces() -> None:
    def piece(**more: Any) -> Json:
        return response({"functionCall": more})

    put = both(
        response({"functionCall": {"name": "book", "willContinue": True}, "thoughtSignature": "sig"}),
        piece(partialArgs=[{"jsonPath": "$.city", "stringValue": "New ", "willContinue": True}], willContinue=True),
        piece(partialArgs=[{"jsonPath": "$.city", "stringValue": "York"}], willContinue=True),
        piece(partialArgs=[{"jsonPath": "$.days[1].n", "numberValue": 2.0}], willContinue=True),
        piece(partialArgs=[{"jsonPath": "$['a.b']", "boolValue": True}], willContinue=True),
        piece(),
        response(call("next"), reason="STOP"),
    )  # fmt: skip
    first, second = put["choices"][0]["message"]["tool_calls"]
    assert orjson.loads(first["function"]["arguments"]) == {"city": "New York", "days": [None, {"n": 2}], "a.b": True}
    assert first["extra_content"] == {"google": {"thought_signature": "sig"}}
    assert second["function"]["name"] == "next"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"), ("MODEL_ARMOR", "content_filter"), ("OTHER", "stop"), ("NEW_ONE", "stop"),
        ("MALFORMED_FUNCTION_CALL", "stop"), (1, "stop"), (2, "length"), (3, "content_filter"),
    ],
)  # fmt: skip
def test_finish_reasons(reason: str | int, finish: str) -> None:
    assert both(response({"text": "x"}, reason=reason))["choices"][0]["finish_reason"] == finish


def test_length_stays_length_and_unexpected_calls_are_calls() -> None:
    assert both(response(call("f"), reason="MAX_TOKENS"))["choices"][0]["finish_reason"] == "length"
    assert both(response(call("f"), reason="UNEXPECTED_TOOL_CALL"))["choices"][0]["finish_reason"] == "tool_calls"


def test_no_content_but_a_reason() -> None:
    put = both(
        {
            "candidates": [{"content": {}, "finishReason": "MAX_TOKENS"}],
            **usage(promptTokenCount=4, thoughtsTokenCount=9),
        }
    )
    assert put["choices"][0]["finish_reason"] == "length"
    assert put["choices"][0]["message"]["content"] == ""
    assert put["usage"]["completion_tokens"] == 9
    assert put["id"] == MINTED.id
    assert put["model"] == "gemini-3.5-flash"


def test_a_blocked_prompt() -> None:
    feedback = {"blockReason": "SAFETY"}
    put = both({"promptFeedback": feedback, **usage(promptTokenCount=4)})
    (choice,) = put["choices"]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["extra_content"] == {"google": {"prompt_feedback": feedback}}


def test_every_chunk_with_a_finish_reason() -> None:
    put = both(
        *(response({"text": text}, reason="STOP") for text in "abc"), response({"text": "d"}, reason="MAX_TOKENS")
    )
    assert put["choices"][0]["message"]["content"] == "abcd"
    assert put["choices"][0]["finish_reason"] == "length"


def test_several_candidates() -> None:
    def two(*texts: str, **more: Any) -> Json:
        return {
            "candidates": [
                {"index": at, "content": {"parts": [{"text": text}]}, **more} for at, text in enumerate(texts)
            ]
        }

    put = both(two("a", "b"), two("c", "d", finishReason="STOP"))
    assert [choice["message"]["content"] for choice in put["choices"]] == ["ac", "bd"]


def test_pictures_and_what_ran_at_google() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    sketch = {"inlineData": {"mimeType": "image/png", "data": "BBBB"}, "thought": True}
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    put = both(
        response({"text": "Here:"}, code, sketch),
        response(picture, {**picture, "thoughtSignature": "s"}, reason="STOP"),
    )
    message = put["choices"][0]["message"]
    assert [image["image_url"]["url"] for image in message["images"]] == ["data:image/png;base64,AAAA"] * 2
    assert [image["index"] for image in message["images"]] == [0, 1]
    assert message["images"][1]["extra_content"] == {"google": {"thought_signature": "s"}}
    assert message["google_parts"] == [{**code, "index": 0}, {**sketch, "index": 1}]
    assert put["choices"][0]["finish_reason"] == "stop"
    assert "tool_calls" not in message


def test_grounding_and_citations() -> None:
    text = "Ü is a letter. Bonn is a city."
    raw = text.encode()
    grounding = {
        "groundingChunks": [{"web": {"uri": "http://a", "title": "A"}}, {"web": {"uri": "http://b"}}],
        "groundingSupports": [
            {"segment": {"startIndex": raw.index(b"Bonn"), "endIndex": len(raw)}, "groundingChunkIndices": [0, 7]},
            {"segment": {"startIndex": 3, "endIndex": 5, "text": "letter"}, "groundingChunkIndices": [0]},
        ],
    }
    cited = {"citationSources": [{"endIndex": 2, "uri": "http://c"}]}
    put = both(
        response({"text": text[:9]}, candidate={"citationMetadata": cited}),
        response(
            {"text": text[9:]}, candidate={"groundingMetadata": grounding, "citationMetadata": cited}, reason="STOP"
        ),
    )
    told = [one["url_citation"] for one in put["choices"][0]["message"]["annotations"]]
    assert [(text[one["start_index"] : one["end_index"]], one["url"], one["title"]) for one in told] == [
        ("Bonn is a city.", "http://a", "A"), ("letter", "http://a", "A"), ("", "http://b", ""), ("Ü", "http://c", ""),
    ]  # fmt: skip


def test_log_probabilities() -> None:
    def probable(*tokens: str) -> Json:
        chosen = [{"token": token, "tokenId": 1, "logProbability": -0.5} for token in tokens]
        return {
            "logprobsResult": {"chosenCandidates": chosen, "topCandidates": [{"candidates": [one]} for one in chosen]}
        }

    put = both(
        response({"text": "ä"}, candidate=probable("ä")),
        response(candidate=probable("x")),
        response({"text": "b"}, candidate=probable("b"), reason="STOP"),
    )
    told = put["choices"][0]["logprobs"]["content"]
    assert [(one["token"], one["logprob"], one["bytes"]) for one in told][:2] == [
        ("ä", -0.5, [195, 164]),
        ("x", -0.5, [120]),
    ]
    assert told[2]["top_logprobs"] == [{"token": "b", "logprob": -0.5, "bytes": [98]}]


def test_a_stream_that_came_as_an_array() -> None:
    bodies = [response({"text": "a"}), response({"text": "b"}, reason="STOP")]
    raw = orjson.dumps(bodies, option=orjson.OPT_INDENT_2)
    chunks, _ = run([raw[at : at + 7] for at in range(0, len(raw), 7)])
    assert [chunk.kind for chunk in chunks] == [META, CONTENT, CONTENT, FINISH, DONE]


def test_the_last_event_without_its_empty_line_and_a_marker_of_a_gateway() -> None:
    raw = events(response({"text": "a"}, reason="STOP"))
    assert run([raw.rstrip()])[0][-1].kind == DONE
    decoder = stream_decoder()
    chunks = decoder.feed(raw + b"data: [DONE]\n\n" + events(response({"text": "more"})))
    assert chunks[-1].kind == DONE
    assert decoder.ended
    assert decoder.close() == []


@pytest.mark.parametrize("ends", [b"", b"\n", b"\r\r"])
def test_a_last_event_without_its_empty_line_is_not_lost(ends: bytes) -> None:
    first = b'data: {"candidates":[{"content":{"parts":[{"text":"Par"}],"role":"model"}}]}\n\n'
    last = b'data: {"candidates":[{"content":{"parts":[{"text":"is."}],"role":"model"},"finishReason":"STOP"}]}'
    decoder = Gemini().decoder(
        ChatRequest.parse(b'{"model":"g","messages":[{"role":"user","content":"x"}],"stream":true}'),
        Endpoint("gemini", "https://g", "g"),
        Minted("chatcmpl-1", 1),
    )
    chunks = [*decoder.feed(first), *decoder.feed(last + ends), *decoder.close()]
    text = "".join(
        choice["delta"].get("content") or "" for chunk in chunks if chunk.body for choice in chunk.body["choices"]
    )
    assert text == "Paris."


def test_candidates_without_a_number_are_numbered_by_their_place() -> None:
    told = [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"} for text in ("a", "b")]
    choices = whole({"candidates": told})["choices"]
    assert [(one["index"], one["message"]["content"]) for one in choices] == [(0, "a"), (1, "b")]
