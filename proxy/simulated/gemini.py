"""The Gemini dialect of the simulated upstream: generateContent, streamed and whole, as AI Studio and as Vertex.

Wire facts from Google's API reference and from recorded traffic: whole function calls, usage on every object of a
stream, the finish reason on its last one, no end marker, errors with a status word and details.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from random import Random
from typing import Any

import orjson

from proxy.simulated.answer import Answer, Call, Choice, Complaint, Wanted, digest
from proxy.simulated.dialect import Request, Rules
from proxy.simulated.embeddings import vectors, wanted_of
from proxy.simulated.gemini_ask import invalid, read_contents, signature
from proxy.simulated.reply import Framing, Part, Reply, Tag
from proxy.simulated.words import text_pieces

Json = dict[str, Any]

_CALL = re.compile(r"(?:.*/)?models/([^/:]+):(\w+)")
_THOUGHTS = 6
"""Tokens of thinking, where its summary is asked for."""
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "RESOURCE_EXHAUSTED", 403: "PERMISSION_DENIED",
    404: "NOT_FOUND", 408: "DEADLINE_EXCEEDED", 413: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_TOO_LONG = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
_NO_CREDIT = "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."
_INFO = "type.googleapis.com/google.rpc."


_EMBEDDING = ("batchEmbedContents", "embedContent", "predict")
_METHODS = ("generateContent", "streamGenerateContent", *_EMBEDDING)


class Gemini:
    name = "gemini"
    prefix = ""
    _versions: tuple[str, ...] = ("/v1beta/", "/v1/", "/v1alpha/")

    def answers(self, method: str, path: str) -> bool:
        called = self._called(path)
        return method == "POST" and called is not None and called[1] in _METHODS

    def _called(self, path: str) -> tuple[str, str] | None:
        """The model and the method that a path names."""
        match = _CALL.fullmatch(path) if path.startswith(self._versions) else None
        return (match[1], match[2]) if match is not None else None

    def other(self, request: Request, rules: Rules) -> Reply:
        self._check_key(request.headers, rules)
        called = self._called(request.path)
        if request.method == "POST" and called is not None and called[1] == "countTokens":
            asked = read_contents(request.json, called[0], False, rules)
            return _json({"totalTokens": asked.prompt_tokens})
        if request.method == "GET" and request.path.endswith("/models"):
            known = rules.models or ("simulated",)
            return _json({"models": [{"name": f"models/{name}", "inputTokenLimit": 1_048_576} for name in known]})
        raise Complaint(404, f"Not found: {request.method} {request.path}")

    def read(self, request: Request, rules: Rules) -> Wanted:
        self._check_key(request.headers, rules)
        model, method = self._called(request.path) or ("", "")
        if method in _EMBEDDING:
            return _embeddings(request.json, model, method)
        return read_contents(request.json, model, method == "streamGenerateContent", rules)

    def _check_key(self, headers: dict[str, str], rules: Rules) -> None:
        if rules.api_key is not None and headers.get("x-goog-api-key") != rules.api_key:
            # The real one says 400, not 401.
            raise Complaint(400, "API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")

    def whole(self, wanted: Wanted, answer: Answer) -> Reply:
        if wanted.form:
            return _json(_embedded(wanted))
        candidates = []
        for choice in answer.choices:
            parts = [*_thoughts(wanted), *_whole_parts(choice)]
            candidate = _candidate(choice, parts, choice.finish)
            if wanted.top is not None and not choice.calls:
                candidate["logprobsResult"] = _logprobs(wanted.top, choice.pieces)
            candidates.append(candidate)
        body = _response(wanted, answer, candidates, whole=True)
        return Reply(200, [("content-type", "application/json; charset=UTF-8")], [Part(orjson.dumps(body))],
                     wait=answer.wait)  # fmt: skip

    def stream(self, wanted: Wanted, answer: Answer) -> Reply:
        parts = []
        told = list(_stream(wanted, answer))
        for at, (candidates, tag) in enumerate(told):
            body = _response(wanted, answer, candidates, whole=at + 1 == len(told))
            parts.append(Part(_event(body), tag))
        headers = [("content-type", "text/event-stream")]
        return Reply(200, headers, parts, stream=True, wait=answer.wait, framing=Framing.CHUNKED)

    def error(self, complaint: Complaint) -> bytes:
        return orjson.dumps(_error(complaint))

    def error_event(self, complaint: Complaint) -> bytes:
        return _event(_error(complaint))

    def content_event(self, wanted: Wanted, answer: Answer, text: str) -> bytes:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        return _event(_response(wanted, answer, [candidate], whole=False))


class Vertex(Gemini):
    name = "vertex"
    prefix = "/v1/projects/simulated/locations/global"
    _versions = ("/v1/projects/", "/v1beta1/projects/")

    def _check_key(self, headers: dict[str, str], rules: Rules) -> None:
        if rules.api_key is not None and headers.get("authorization") != f"Bearer {rules.api_key}":
            raise Complaint(
                401, "Request had invalid authentication credentials.", code="ACCESS_TOKEN_TYPE_UNSUPPORTED"
            )


def _embeddings(body: Any, model: str, method: str) -> Wanted:
    """Raises Complaint."""
    try:
        if method == "batchEmbedContents":
            requests = body["requests"]
            if any(not one["model"].startswith("models/") for one in requests):
                raise invalid("* BatchEmbedContentsRequest.requests[0].model: unexpected model name format")
            contents, size = [one["content"] for one in requests], requests[0].get("outputDimensionality")
        elif method == "embedContent":
            contents, size = [body["content"]], body.get("outputDimensionality")
        else:
            size = body.get("parameters", {}).get("outputDimensionality")
            contents = [{"parts": [{"text": one["content"]}]} for one in body["instances"]]
        texts = ["".join(part["text"] for part in content["parts"]) for content in contents]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise invalid(f"Invalid JSON payload received: {error!r}") from error
    made = wanted_of(texts, model, size)
    return replace(made, form=method)


def _embedded(wanted: Wanted) -> Json:
    told = vectors(wanted)
    if wanted.form == "batchEmbedContents":
        return {"embeddings": [{"values": one} for one in told], "usageMetadata": _counted(wanted)}
    if wanted.form == "embedContent":
        return {"embedding": {"values": told[0]}, "usageMetadata": _counted(wanted)}
    count = {"truncated": False, "token_count": wanted.prompt_tokens / len(told)}
    return {"predictions": [{"embeddings": {"values": one, "statistics": count}} for one in told]}


def _counted(wanted: Wanted) -> Json:
    return {"promptTokenCount": wanted.prompt_tokens}


def _json(body: Json) -> Reply:
    return Reply(200, [("content-type", "application/json; charset=UTF-8")], [Part(orjson.dumps(body))])


def _event(body: Json) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _error(complaint: Complaint) -> Json:
    status = _STATUS.get(complaint.status, "UNAVAILABLE" if complaint.status > 500 else "INVALID_ARGUMENT")
    error: Json = {"code": complaint.status, "message": complaint.message, "status": status}
    if complaint.code == "context_length_exceeded":
        error["message"] = _TOO_LONG
    elif complaint.status == 402 or complaint.code == "insufficient_quota":
        error["message"] = _NO_CREDIT
    elif complaint.status == 429:
        error["details"] = [{"@type": _INFO + "RetryInfo", "retryDelay": "1s"}]
    elif complaint.code in ("API_KEY_INVALID", "ACCESS_TOKEN_TYPE_UNSUPPORTED"):
        error["details"] = [{"@type": _INFO + "ErrorInfo", "reason": complaint.code, "domain": "googleapis.com"}]
    return {"error": error}


def _response(wanted: Wanted, answer: Answer, candidates: list[Json], *, whole: bool) -> Json:
    body: Json = {"candidates": candidates} if candidates else {}
    if answer.with_usage:
        counts = {"promptTokenCount": answer.prompt_tokens}
        thoughts = _THOUGHTS if wanted.thinks else 0
        if whole:
            counts["candidatesTokenCount"] = answer.completion_tokens
            if thoughts:
                counts["thoughtsTokenCount"] = thoughts
        body["usageMetadata"] = {**counts, "totalTokenCount": sum(counts.values())}
    return {**body, "modelVersion": answer.model, "responseId": answer.id}


def _candidate(choice: Choice, parts: list[Json], finish: str | None) -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"} if parts else {}}
    if finish is not None:
        candidate["finishReason"] = _FINISH[finish]
    if choice.place:
        candidate["index"] = choice.place
    return candidate


def _thoughts(wanted: Wanted) -> list[Json]:
    if not wanted.thinks:
        return []
    told = text_pieces(Random(digest("thinking", wanted.key.hex())), _THOUGHTS)
    return [{"text": "".join(told), "thought": True}]


def _whole_parts(choice: Choice) -> list[Json]:
    text = "".join(choice.pieces)
    return [*([{"text": text}] if text else []), *_called(choice.calls)]


def _called(calls: tuple[Call, ...]) -> list[Json]:
    """Calls are told whole or not at all; of those made together the first is signed."""
    parts: list[Json] = []
    for call in calls:
        try:
            args = orjson.loads("".join(call.pieces))
        except orjson.JSONDecodeError:
            continue  # The limit of tokens cut it.
        part: Json = {"functionCall": {"name": call.name, "args": args}}
        if not parts:
            part["thoughtSignature"] = signature(call.name, args)
        parts.append(part)
    return parts


def _stream(wanted: Wanted, answer: Answer) -> Iterator[tuple[list[Json], Tag]]:
    """The candidates of each object; those of several choices take turns, and each ends with its reason."""
    if not answer.choices:
        yield [], Tag.ROLE
    for turn in zip_longest(*(_pieces(wanted, choice) for choice in answer.choices)):
        for candidate in turn:
            if candidate is not None:
                yield [candidate], Tag.CONTENT
    for choice in answer.choices:
        if choice.finish is not None:
            yield [_candidate(choice, [{"text": ""}], choice.finish)], Tag.FINISH


def _pieces(wanted: Wanted, choice: Choice) -> Iterator[Json]:
    for part in _thoughts(wanted):
        yield _candidate(choice, [part], None)
    for piece in choice.pieces:
        candidate = _candidate(choice, [{"text": piece}], None)
        if wanted.top is not None:
            candidate["logprobsResult"] = _logprobs(wanted.top, (piece,))
        yield candidate
    for part in _called(choice.calls):
        yield _candidate(choice, [part], None)


def _logprobs(top: int, pieces: tuple[str, ...]) -> Json:
    chosen = [{"token": piece, "tokenId": len(piece), "logProbability": -0.01 * len(piece)} for piece in pieces]
    others = [
        [{"token": f"{one['token']}{rank}", "tokenId": rank, "logProbability": -1.0 - rank} for rank in range(1, top)]
        for one in chosen
    ]
    tops = [{"candidates": [one, *more]} for one, more in zip(chosen, others, strict=True)]
    return {"chosenCandidates": chosen, **({"topCandidates": tops} if top else {})}
