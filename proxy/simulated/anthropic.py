"""The Anthropic dialect of the simulated upstream: messages, streamed and whole, and token counts.

Wire facts from Anthropic's API reference (messages, streaming, errors) and from recorded traffic: the order of events
and members, the ping after the first block has begun, usage told at the start and again, cumulative, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import orjson

from proxy.simulated.answer import Answer, Choice, Complaint, Wanted, digest
from proxy.simulated.anthropic_ask import check_head, read_messages, signature
from proxy.simulated.dialect import Request, Rules
from proxy.simulated.reply import Framing, Part, Reply, Tag
from proxy.simulated.words import text_pieces

Json = dict[str, Any]

_MESSAGES = "/v1/messages"
_THOUGHTS = 6
"""Tokens of thinking, where it is asked for."""
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", None: None}
_TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
_TOO_LONG = "prompt is too long: 210000 tokens > 200000 maximum"
_FILTERED = "Output blocked by content filtering policy"


class Anthropic:
    name = "anthropic"
    prefix = ""

    def answers(self, method: str, path: str) -> bool:
        return method == "POST" and path == _MESSAGES

    def other(self, request: Request, rules: Rules) -> Reply:
        check_head(request.headers, rules)
        if request.method == "POST" and request.path == f"{_MESSAGES}/count_tokens":
            asked = {**request.json, "max_tokens": 1} if isinstance(request.json, dict) else request.json
            return _json({"input_tokens": read_messages(asked, rules).prompt_tokens})
        known = [_model(name) for name in rules.models or ("simulated",)]
        if request.method == "GET" and request.path == "/v1/models":
            ends = {"has_more": False, "first_id": known[0]["id"], "last_id": known[-1]["id"]}
            return _json({"data": known, **ends})
        raise Complaint(404, f"Not found: {request.method} {request.path}")

    def read(self, request: Request, rules: Rules) -> Wanted:
        check_head(request.headers, rules)
        return read_messages(request.json, rules)

    def whole(self, wanted: Wanted, answer: Answer) -> Reply:
        choice = answer.choices[0] if answer.choices else None
        content = [_whole(block, pieces) for block, pieces in _blocks(wanted, choice)]
        body = _message(answer, content, choice.finish if choice else None)
        if answer.with_usage:
            body["usage"] = _usage(wanted, answer)
        return Reply(200, _headers(answer, "application/json"), [Part(orjson.dumps(body))], wait=answer.wait)

    def stream(self, wanted: Wanted, answer: Answer) -> Reply:
        parts = [Part(_event(body), tag) for body, tag in _events(wanted, answer)]
        headers = _headers(answer, "text/event-stream; charset=utf-8")
        return Reply(200, headers, parts, stream=True, wait=answer.wait, framing=Framing.CHUNKED)

    def error(self, complaint: Complaint) -> bytes:
        return orjson.dumps(_error(complaint))

    def error_event(self, complaint: Complaint) -> bytes:
        return _event(_error(complaint))

    def content_event(self, wanted: Wanted, answer: Answer, text: str) -> bytes:
        delta = {"type": "text_delta", "text": text}
        return _event({"type": "content_block_delta", "index": int(wanted.thinks), "delta": delta})


def _json(body: Json) -> Reply:
    return Reply(200, [("content-type", "application/json")], [Part(orjson.dumps(body))])


def _model(name: str) -> Json:
    return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}


def _error(complaint: Complaint) -> Json:
    kind = _TYPES.get(complaint.status, "api_error" if complaint.status >= 500 else "invalid_request_error")
    error: Json = {"type": kind, "message": complaint.message}
    if complaint.code == "context_length_exceeded":
        error["message"] = _TOO_LONG
    elif complaint.code == "content_filter":
        error["message"] = _FILTERED
    elif complaint.status == 429 and complaint.code == "insufficient_quota":
        error["details"] = {"error_code": "enforced_spend_limit_reached"}
    return {"type": "error", "error": error, "request_id": "req_simulated"}


def _event(body: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (body["type"].encode(), orjson.dumps(body))


def _headers(answer: Answer, content_type: str) -> list[tuple[str, str]]:
    limits = [
        (f"anthropic-ratelimit-{what}-{name}", value)
        for what, limit in (("requests", "4000"), ("input-tokens", "2000000"), ("output-tokens", "400000"))
        for name, value in (("limit", limit), ("remaining", limit), ("reset", "2026-01-01T00:00:00Z"))
    ]
    return [("content-type", content_type), *limits, ("request-id", f"req_{answer.id}")]


def _message(answer: Answer, content: list[Json], finish: str | None) -> Json:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": _STOPS[finish],
        "stop_sequence": None,
        "stop_details": None,
    }


def _usage(wanted: Wanted, answer: Answer) -> Json:
    thoughts = _THOUGHTS if wanted.thinks else 0
    return {
        "input_tokens": answer.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": answer.completion_tokens + thoughts,
        "output_tokens_details": {"thinking_tokens": thoughts},
        "service_tier": "standard",
    }


def _blocks(wanted: Wanted, choice: Choice | None) -> Iterator[tuple[Json, tuple[str, ...]]]:
    """Each block as it begins in a stream, and the pieces of what fills it."""
    if choice is None:
        return
    if wanted.thinks:
        thoughts = tuple(text_pieces(Random(digest("thinking", wanted.key.hex())), _THOUGHTS))
        yield {"type": "thinking", "thinking": "", "signature": ""}, thoughts
    if not choice.calls:
        yield {"type": "text", "text": ""}, choice.pieces
    for call in choice.calls:
        id = call.id.replace("call_", "toolu_")
        # No input is no pieces: the placeholder of the beginning stands.
        pieces = () if "".join(call.pieces) == "{}" else call.pieces
        yield {"type": "tool_use", "id": id, "name": call.name, "input": {}}, pieces


def _whole(block: Json, pieces: tuple[str, ...]) -> Json:
    text = "".join(pieces)
    if block["type"] == "tool_use":
        return {**block, "input": _input(text)}
    if block["type"] == "thinking":
        return {**block, "thinking": text, "signature": signature(text)}
    return {**block, "text": text}


def _input(text: str) -> object:
    """What there is of the arguments; a call that was cut off has none that could be read."""
    try:
        return orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return {}


def _events(wanted: Wanted, answer: Answer) -> Iterator[tuple[Json, Tag]]:
    choice = answer.choices[0] if answer.choices else None
    start: Json = {"type": "message_start", "message": _message(answer, [], None)}
    if answer.with_usage:
        start["message"]["usage"] = {**_usage(wanted, answer), "output_tokens": 1}
        del start["message"]["usage"]["output_tokens_details"]
    yield start, Tag.ROLE
    for index, (block, pieces) in enumerate(_blocks(wanted, choice)):
        yield {"type": "content_block_start", "index": index, "content_block": block}, Tag.ROLE
        if index == 0:
            yield {"type": "ping"}, Tag.ROLE
        for delta in _deltas(block["type"], pieces):
            yield {"type": "content_block_delta", "index": index, "delta": delta}, Tag.CONTENT
        yield {"type": "content_block_stop", "index": index}, Tag.ROLE
    if choice is not None and choice.finish is not None:
        delta = {"stop_reason": _STOPS[choice.finish], "stop_sequence": None, "stop_details": None}
        end: Json = {"type": "message_delta", "delta": delta}
        if answer.with_usage:
            end["usage"] = _usage(wanted, answer)
        yield end, Tag.FINISH
    yield {"type": "message_stop"}, Tag.DONE


def _deltas(kind: str, pieces: tuple[str, ...]) -> Iterator[Json]:
    for piece in pieces:
        if kind == "tool_use":
            yield {"type": "input_json_delta", "partial_json": piece}
        elif kind == "thinking":
            yield {"type": "thinking_delta", "thinking": piece}
        else:
            yield {"type": "text_delta", "text": piece}
    if kind == "thinking":
        yield {"type": "signature_delta", "signature": signature("".join(pieces))}
