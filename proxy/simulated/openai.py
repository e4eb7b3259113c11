"""The OpenAI dialect of the simulated upstream: chat completions and completions, streamed and whole.

Wire facts from OpenAI's API reference (chat completions, streaming, errors) and from recorded traffic: the order of
members, `usage: null` on every chunk where usage was asked for, the last chunk with `choices: []`, rate-limit headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, zip_longest
from math import log
from typing import Any

import orjson

from proxy.simulated import openai_responses as responses
from proxy.simulated.answer import Answer, Call, Choice, Complaint, Wanted, fragments
from proxy.simulated.dialect import Request, Rules
from proxy.simulated.embeddings import in_base64, read_embeddings, vectors
from proxy.simulated.openai_ask import check_key, read_chat, read_completion
from proxy.simulated.openai_responses import read_responses
from proxy.simulated.reply import Framing, Part, Reply, Tag

Json = dict[str, Any]

_CHAT = "/v1/chat/completions"
_READERS = {
    _CHAT: read_chat,
    "/v1/completions": read_completion,
    "/v1/responses": read_responses,
    "/v1/embeddings": read_embeddings,
}
_TOKEN_LIMIT = 2_000_000


class OpenAI:
    name = "openai"
    prefix = "/v1"

    def answers(self, method: str, path: str) -> bool:
        return method == "POST" and path in _READERS

    def other(self, request: Request, rules: Rules) -> Reply:
        check_key(request.headers, rules)
        known = rules.models or ("simulated",)
        if request.path == "/v1/models" and request.method == "GET":
            return _json({"object": "list", "data": [_model(name) for name in known]})
        if request.path.startswith("/v1/models/") and request.method == "GET":
            name = request.path.removeprefix("/v1/models/")
            if rules.models and name not in rules.models:
                raise Complaint(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
            return _json(_model(name))
        raise Complaint(404, f"Invalid URL ({request.method} {request.path})")

    def read(self, request: Request, rules: Rules) -> Wanted:
        check_key(request.headers, rules)
        return _READERS[request.path](request.json, rules)

    def whole(self, wanted: Wanted, answer: Answer) -> Reply:
        body = _OTHER_FORMS[wanted.form](wanted, answer) if wanted.form else self._completion(wanted, answer)
        headers = [("content-type", "application/json"), *_headers(answer)]
        return Reply(200, headers, [Part(orjson.dumps(body))], wait=answer.wait)

    def _completion(self, wanted: Wanted, answer: Answer) -> Json:
        body = {
            "id": _id(wanted, answer),
            "object": "text_completion" if wanted.legacy else "chat.completion",
            "created": answer.created,
            "model": answer.model,
            "choices": [_choice(wanted, answer, choice) for choice in answer.choices],
            "usage": _usage(answer),
            "service_tier": "default",
            "system_fingerprint": f"fp_{answer.source}",
        }
        if not answer.with_usage:
            del body["usage"]
        return body

    def stream(self, wanted: Wanted, answer: Answer) -> Reply:
        headers = [("content-type", "text/event-stream; charset=utf-8"), *_headers(answer)]
        if wanted.form == "responses":
            parts = [Part(_named(event), tag) for event, tag in responses.events(wanted, answer)]
            return Reply(200, headers, parts, stream=True, wait=answer.wait, framing=Framing.CHUNKED)
        parts = [Part(_event(_chunk(wanted, answer, choices)), tag) for choices, tag in _stream(wanted, answer)]
        if wanted.usage and answer.with_usage:
            parts.append(Part(_event({**_chunk(wanted, answer, []), "usage": _usage(answer)}), Tag.USAGE))
        parts.append(Part(b"data: [DONE]\n\n", Tag.DONE))
        return Reply(200, headers, parts, stream=True, wait=answer.wait, framing=Framing.CHUNKED)

    def error(self, complaint: Complaint) -> bytes:
        return orjson.dumps(_error(complaint))

    def error_event(self, complaint: Complaint) -> bytes:
        return _event(_error(complaint))

    def content_event(self, wanted: Wanted, answer: Answer, text: str) -> bytes:
        if wanted.form == "responses":
            return _named(responses.content_event(wanted, answer, text))
        return _event(_chunk(wanted, answer, [_delta(wanted, 0, text)]))


def _named(event: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def _embeddings(wanted: Wanted, answer: Answer) -> Json:
    usage = {"prompt_tokens": wanted.prompt_tokens, "total_tokens": wanted.prompt_tokens}
    told = vectors(wanted)
    data: list[Json] = [
        {"object": "embedding", "index": at, "embedding": in_base64(one) if wanted.base64 else one}
        for at, one in enumerate(told)
    ]
    return {"object": "list", "data": data, "model": answer.model, "usage": usage}


_OTHER_FORMS = {"responses": responses.whole, "embeddings": _embeddings}


def _json(body: Json) -> Reply:
    return Reply(200, [("content-type", "application/json")], [Part(orjson.dumps(body))])


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": 1_790_000_000, "owned_by": "simulated"}


def _error(complaint: Complaint) -> Json:
    return {
        "error": {
            "message": complaint.message,
            "type": complaint.type,
            "param": complaint.param,
            "code": complaint.code,
        }
    }


def _event(body: Json) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _id(wanted: Wanted, answer: Answer) -> str:
    return ("cmpl-" if wanted.legacy else "chatcmpl-") + answer.id


def _headers(answer: Answer) -> list[tuple[str, str]]:
    return [
        ("openai-processing-ms", str(round(answer.wait * 1000))),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", str(_TOKEN_LIMIT)),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", str(max(0, _TOKEN_LIMIT - answer.prompt_tokens))),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "0s"),
        ("x-request-id", f"req_{answer.id}"),
    ]


def _usage(answer: Answer) -> Json:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _choice(wanted: Wanted, answer: Answer, choice: Choice) -> Json:
    text = "".join(choice.pieces)
    if wanted.legacy:
        echoed = fragments(wanted.echo)
        told = None if wanted.top is None else _text_logprobs(echoed, choice.pieces, answer.sure)
        return {
            "text": wanted.echo + text, "index": choice.place, "logprobs": told, "finish_reason": choice.finish
        }  # fmt: skip
    message: Json = {"role": "assistant", "content": None if choice.calls else text}
    if choice.calls:
        message["tool_calls"] = [_call(call) for call in choice.calls]
    return {
        "index": choice.place,
        "message": {**message, "refusal": None, "annotations": []},
        "logprobs": None if choice.calls else _logprobs(wanted, choice.pieces),
        "finish_reason": choice.finish,
    }


def _call(call: Call) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.pieces)}}


def _logprobs(wanted: Wanted, pieces: tuple[str, ...]) -> Json | None:
    if wanted.top is None:
        return None
    entries = []
    for piece in pieces:
        first = _logprob(piece, -0.01 * len(piece))
        others = [_logprob(f"{piece}{rank}", -1.0 - rank) for rank in range(1, wanted.top)]
        entries.append({**first, "top_logprobs": [first, *others] if wanted.top else []})
    return {"content": entries, "refusal": None}


def _text_logprobs(echoed: list[str], pieces: tuple[str, ...], sure: float) -> Json:
    """In the form of completions. Nothing stands before the first token of a text, so it has no probability."""
    tokens = [*echoed, *pieces]
    values = [log(sure)] * len(echoed) + [-0.01 * len(piece) for piece in pieces]
    known: list[float | None] = [None, *values[1:]] if echoed else [*values]
    return {
        "tokens": tokens,
        "token_logprobs": known,
        "top_logprobs": None,
        "text_offset": [0, *accumulate(map(len, tokens))][: len(tokens)],
    }


def _logprob(token: str, value: float) -> Json:
    return {"token": token, "logprob": value, "bytes": list(token.encode())}


def _chunk(wanted: Wanted, answer: Answer, choices: list[Json]) -> Json:
    chunk: Json = {
        "id": _id(wanted, answer),
        "object": "text_completion" if wanted.legacy else "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": f"fp_{answer.source}",
        "choices": choices,
    }
    if wanted.usage and answer.with_usage:
        chunk["usage"] = None
    return chunk


def _in_chunk(index: int, delta: Json, finish: str | None = None, logprobs: Json | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _delta(wanted: Wanted, index: int, text: str) -> Json:
    if wanted.legacy:
        return {"text": text, "index": index, "logprobs": None, "finish_reason": None}
    return _in_chunk(index, {"content": text}, logprobs=_logprobs(wanted, (text,)))


def _stream(wanted: Wanted, answer: Answer) -> Iterator[tuple[list[Json], Tag]]:
    """The `choices` of each chunk up to the finish reasons; those of several choices take turns."""
    if not answer.choices:
        yield [], Tag.ROLE
    for choice in answer.choices if not wanted.legacy else ():
        role = {"role": "assistant", "content": None if choice.calls else "", "refusal": None}
        yield [_in_chunk(choice.place, role)], Tag.ROLE
    for turn in zip_longest(*(_deltas(wanted, choice) for choice in answer.choices)):
        for delta in turn:
            if delta is not None:
                yield [delta], Tag.CONTENT
    for choice in answer.choices:
        if choice.finish is None:
            continue
        if wanted.legacy:
            last = {"text": "", "index": choice.place, "logprobs": None, "finish_reason": choice.finish}
        else:
            last = _in_chunk(choice.place, {}, choice.finish)
        yield [last], Tag.FINISH


def _deltas(wanted: Wanted, choice: Choice) -> Iterator[Json]:
    for piece in choice.pieces:
        yield _delta(wanted, choice.place, piece)
    for number, call in enumerate(choice.calls):
        opening = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield _in_chunk(choice.place, {"tool_calls": [{"index": number, **opening}]})
        for piece in call.pieces:
            yield _in_chunk(choice.place, {"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
