"""The Bedrock dialect of the simulated upstream: Converse and ConverseStream.

Wire facts from the Bedrock API reference (Converse, ConverseStream, errors) and from recorded traffic: the order of
events, the padding `p`, usage after the stop, what kind an error is in the header `x-amzn-errortype` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import Any
from urllib.parse import unquote

import orjson

from proxy.providers.eventstream import encode
from proxy.simulated.answer import Answer, Choice, Complaint, Wanted, digest
from proxy.simulated.bedrock_ask import PATH, check_head, read_converse, signature
from proxy.simulated.dialect import Request, Rules
from proxy.simulated.embeddings import embedded, read_embed, vectors, wanted_of
from proxy.simulated.reply import Framing, Part, Reply, Tag
from proxy.simulated.words import text_pieces

Json = dict[str, Any]

_THOUGHTS = 6
"""Tokens of thinking, where it is asked for."""
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", None: None}
_TYPES = {
    401: "UnrecognizedClientException", 402: "ServiceQuotaExceededException", 403: "AccessDeniedException",
    404: "ResourceNotFoundException", 408: "ModelTimeoutException", 429: "ThrottlingException",
    503: "ServiceUnavailableException",
}  # fmt: skip
_TOO_LONG = "Input is too long for requested model."
_PADDING = "abcdefghijklmnopqrstuvwxyz"


_INVOKE = re.compile(r"/model/([^/]+)/invoke")


def _embeddings(body: Any, model: str) -> Wanted:
    """Raises Complaint."""
    if "cohere." in model:
        return read_embed(body, model)
    text = body.get("inputText") if isinstance(body, dict) else None
    unknown = set(body) - {"inputText", "dimensions", "normalize"} if isinstance(body, dict) else set()
    if type(text) is not str or not text or unknown:
        raise Complaint(400, "Malformed input request: #: required key [inputText] not found, please reformat.")
    return wanted_of([text], model, body.get("dimensions"))


def _titan(wanted: Wanted) -> Json:
    (vector,) = vectors(wanted)
    told = {"embedding": vector, "embeddingsByType": {"float": vector}}
    return {**told, "inputTextTokenCount": wanted.prompt_tokens}


class Bedrock:
    name = "bedrock"
    prefix = ""

    def answers(self, method: str, path: str) -> bool:
        return method == "POST" and (PATH.fullmatch(path) or _INVOKE.fullmatch(path)) is not None

    def other(self, request: Request, rules: Rules) -> Reply:
        raise Complaint(404, f"Unknown operation: {request.method} {request.path}", code="UnknownOperationException")

    def read(self, request: Request, rules: Rules) -> Wanted:
        check_head(request, rules)
        invoked = _INVOKE.fullmatch(request.path)
        return _embeddings(request.json, unquote(invoked[1])) if invoked is not None else read_converse(request, rules)

    def whole(self, wanted: Wanted, answer: Answer) -> Reply:
        if wanted.form:
            told = embedded(wanted) if "cohere." in wanted.model else _titan(wanted)
            counted = ("x-amzn-bedrock-input-token-count", str(wanted.prompt_tokens))
            headers = [*_headers(answer, "application/json"), counted]
            return Reply(200, headers, [Part(orjson.dumps(told))], wait=answer.wait)
        choice = answer.choices[0] if answer.choices else None
        content = [_whole(start, pieces) for start, pieces in _blocks(wanted, choice)]
        body: Json = {"metrics": {"latencyMs": round(answer.wait * 1000)}}
        body["output"] = {"message": {"role": "assistant", "content": content}}
        if choice is not None and choice.finish is not None:
            body["stopReason"] = _STOPS[choice.finish]
        if answer.with_usage:
            body["usage"] = _usage(wanted, answer)
        return Reply(200, _headers(answer, "application/json"), [Part(orjson.dumps(body))], wait=answer.wait)

    def stream(self, wanted: Wanted, answer: Answer) -> Reply:
        parts = [Part(_event(name, body), tag) for name, body, tag in _events(wanted, answer)]
        headers = _headers(answer, "application/vnd.amazon.eventstream")
        return Reply(200, headers, parts, stream=True, wait=answer.wait, framing=Framing.CHUNKED)

    def error(self, complaint: Complaint) -> bytes:
        return orjson.dumps({"message": _message(complaint)})

    def error_headers(self, complaint: Complaint) -> list[tuple[str, str]]:
        return [("x-amzn-errortype", f"{_type(complaint)}:http://internal.amazon.com/coral/com.amazon.bedrock/")]

    def error_event(self, complaint: Complaint) -> bytes:
        name = _type(complaint)
        headers = {":exception-type": name[0].lower() + name[1:], ":content-type": "application/json"}
        return encode({**headers, ":message-type": "exception"}, self.error(complaint))

    def content_event(self, wanted: Wanted, answer: Answer, text: str) -> bytes:
        return _event("contentBlockDelta", {"contentBlockIndex": int(wanted.thinks), "delta": {"text": text}})

    def idle_event(self) -> bytes:
        """An event that says nothing, in the place of another protocol's comment."""
        return _event("simulatedIdle", {})


def _type(complaint: Complaint) -> str:
    if complaint.code and complaint.code.endswith("Exception"):
        return complaint.code
    if complaint.code == "insufficient_quota":
        return "ServiceQuotaExceededException"
    return _TYPES.get(complaint.status, "InternalServerException" if complaint.status >= 500 else "ValidationException")


def _message(complaint: Complaint) -> str:
    return _TOO_LONG if complaint.code == "context_length_exceeded" else complaint.message


def _event(name: str, body: Json) -> bytes:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return encode(headers, orjson.dumps({**body, "p": _PADDING[: len(name)]}))


def _headers(answer: Answer, content_type: str) -> list[tuple[str, str]]:
    return [("content-type", content_type), ("x-amzn-requestid", answer.id)]


def _usage(wanted: Wanted, answer: Answer) -> Json:
    output = answer.completion_tokens + (_THOUGHTS if wanted.thinks else 0)
    return {
        "inputTokens": answer.prompt_tokens,
        "outputTokens": output,
        "totalTokens": answer.prompt_tokens + output,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 0,
    }


def _blocks(wanted: Wanted, choice: Choice | None) -> Iterator[tuple[Json, tuple[str, ...]]]:
    """What each block begins with, and the pieces of what fills it; only those of tools begin with something."""
    if choice is None:
        return
    if wanted.thinks:
        yield {"reasoning": True}, tuple(text_pieces(Random(digest("thinking", wanted.key.hex())), _THOUGHTS))
    if not choice.calls:
        yield {}, choice.pieces
    for call in choice.calls:
        # No input is no pieces.
        pieces = () if "".join(call.pieces) == "{}" else call.pieces
        yield {"toolUse": {"toolUseId": call.id.replace("call_", "tooluse_"), "name": call.name}}, pieces


def _whole(start: Json, pieces: tuple[str, ...]) -> Json:
    text = "".join(pieces)
    if "toolUse" in start:
        return {"toolUse": {**start["toolUse"], "input": _input(text)}}
    if "reasoning" in start:
        return {"reasoningContent": {"reasoningText": {"text": text, "signature": signature(text)}}}
    return {"text": text}


def _input(text: str) -> object:
    """What there is of the arguments; a call that was cut off has none that could be read."""
    try:
        return orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return {}


def _events(wanted: Wanted, answer: Answer) -> Iterator[tuple[str, Json, Tag]]:
    choice = answer.choices[0] if answer.choices else None
    yield "messageStart", {"role": "assistant"}, Tag.ROLE
    for index, (start, pieces) in enumerate(_blocks(wanted, choice)):
        at: Json = {"contentBlockIndex": index}
        if "toolUse" in start:
            yield "contentBlockStart", {**at, "start": start}, Tag.ROLE
        for delta in _deltas(start, pieces):
            yield "contentBlockDelta", {**at, "delta": delta}, Tag.CONTENT
        yield "contentBlockStop", at, Tag.ROLE
    if choice is not None and choice.finish is not None:
        yield "messageStop", {"stopReason": _STOPS[choice.finish]}, Tag.FINISH
    told: Json = {"metrics": {"latencyMs": round(answer.wait * 1000)}}
    if answer.with_usage:
        told["usage"] = _usage(wanted, answer)
    yield "metadata", told, Tag.DONE


def _deltas(start: Json, pieces: tuple[str, ...]) -> Iterator[Json]:
    for piece in pieces:
        if "toolUse" in start:
            yield {"toolUse": {"input": piece}}
        elif "reasoning" in start:
            yield {"reasoningContent": {"text": piece}}
        else:
            yield {"text": piece}
    if "reasoning" in start:
        yield {"reasoningContent": {"signature": signature("".join(pieces))}}
