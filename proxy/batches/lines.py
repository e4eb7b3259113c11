"""The lines of a batch: read and checked, put into each target's words, and answered in OpenAI's again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from policies.verdict import VERDICTS
from proxy.errors import Refusal, UpstreamError
from proxy.providers.base import Endpoint, Minted, Provider
from proxy.providers.batch import Line, Result
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Usage
from proxy.wire.render import error_object

Json = dict[str, Any]

ENDPOINT = "/v1/chat/completions"
MOST_LINES = 50_000
"""As OpenAI allows."""


class Asked(NamedTuple):
    """One line of the input file."""

    custom_id: str
    ask: ChatRequest


class Answered(NamedTuple):
    """One line of the output."""

    custom_id: str
    line: Json
    ok: bool
    usage: Usage | None = None
    finish_reason: str | None = None
    response_model: str | None = None


def read(content: bytes) -> list[Asked]:
    """Raises `Refusal` (400) that names the first line at fault: a batch is taken whole or not at all."""
    asked: list[Asked] = []
    seen: set[str] = set()
    for number, raw in enumerate(content.splitlines(), 1):
        if not raw.strip():
            continue
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _wrong(number, f"is not JSON: {error}") from None
        if not isinstance(line, dict):
            raise _wrong(number, "is no JSON object")
        custom_id = line.get("custom_id")
        if not isinstance(custom_id, str) or not custom_id:
            raise _wrong(number, "has no `custom_id`")
        if custom_id in seen:
            raise _wrong(number, f"has the `custom_id` {custom_id[:80]!r} a second time")
        seen.add(custom_id)
        if line.get("method") != "POST" or line.get("url") != ENDPOINT:
            raise _wrong(number, f"should be `POST` to `{ENDPOINT}`")
        body = line.get("body")
        if not isinstance(body, dict):
            raise _wrong(number, "has no `body`")
        if body.get("stream"):
            raise _wrong(number, "asks for a stream; a batch has none")
        try:
            asked.append(Asked(custom_id, ChatRequest.parse(orjson.dumps(body))))
        except Refusal as refusal:
            raise _wrong(number, refusal.message) from None
        if len(asked) > MOST_LINES:
            raise Refusal(400, f"A batch has at most {MOST_LINES:,} lines.", param="input_file_id")
    if not asked:
        raise Refusal(400, "The file has no lines.", param="input_file_id", code="empty_file")
    return asked


def _wrong(number: int, what: str) -> Refusal:
    return Refusal(400, f"Line {number} {what}.", param="input_file_id", code="invalid_json_line")


def built(provider: Provider, to: Endpoint, asked: Sequence[tuple[int, Asked]]) -> tuple[list[Line], list[Answered]]:
    """The lines in the provider's words, numbered; and those that it cannot be asked, answered with why."""
    lines: list[Line] = []
    refused: list[Answered] = []
    for number, one in asked:
        try:
            body = orjson.loads(provider.build(one.ask, to).body)
        except Refusal as refusal:
            error = error_object(refusal.message, type=refusal.type, param=refusal.param, code=refusal.code)
            refused.append(_answered(one.custom_id, refusal.status, error))
            continue
        lines.append(Line(f"i{number}", body))
    return lines, refused


def answered(provider: Provider, to: Endpoint, asked: Asked, result: Result, minted: Minted) -> Answered:
    """A provider's result as OpenAI would have given it."""
    raw = orjson.dumps(result.body)
    if result.status != 200:
        return failed(asked.custom_id, provider.error(result.status, (), raw))
    decoder = provider.decoder(asked.ask, to, minted)
    try:
        chunks = [*decoder.feed(raw), *decoder.close()]
    except UpstreamError as error:
        return failed(asked.custom_id, error)
    body = orjson.loads(chunks[0].raw)
    return _answered(asked.custom_id, 200, body)._replace(
        usage=decoder.usage, finish_reason=decoder.finish_reason, response_model=decoder.model
    )


def served(custom_id: str, status: int, body: bytes) -> Answered:
    """An answer as the endpoint itself would give it."""
    return _answered(custom_id, status, orjson.loads(body))


def failed(custom_id: str, error: UpstreamError) -> Answered:
    verdict = VERDICTS[error.kind]
    status = verdict.status or error.status or 502
    body = error_object(error.detail or str(error.kind), type="api_error", code=str(error.kind))
    return _answered(custom_id, status, body)


def unanswered(custom_id: str, why: str, code: str) -> Answered:
    """No answer came at all: OpenAI tells so in `error`."""
    line = {"custom_id": custom_id, "response": None, "error": {"code": code, "message": why}}
    return Answered(custom_id, line, False)


def _answered(custom_id: str, status: int, body: Json) -> Answered:
    response = {"status_code": status, "request_id": body.get("id") or "", "body": body}
    return Answered(custom_id, {"custom_id": custom_id, "response": response, "error": None}, status == 200)
