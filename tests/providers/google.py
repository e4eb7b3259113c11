"""Gemini's wire for tests: responses, streams in any pieces, and chunks put together as an SDK does."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.providers.base import Decoder, Endpoint, Minted
from proxy.providers.gemini import Gemini
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import DONE, Chunk

Json = dict[str, Any]
GEMINI = Gemini()
TO = Endpoint("gemini", "https://g.example", "gemini-3.5-flash")
MINTED = Minted("chatcmpl-00ff", 1_700_000_000)


def ask(stream: bool, **more: Any) -> ChatRequest:
    body = {"model": "g", "messages": [{"role": "user", "content": "Hi"}], "stream": stream, **more}
    return ChatRequest.parse(orjson.dumps(body))


def response(*parts: Json, reason: str | int | None = None, **more: Any) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": list(parts)}, **more.pop("candidate", {})}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "gemini-3.5-flash-002", "responseId": "resp", **more}


def usage(**counts: int) -> Json:
    return {"usageMetadata": {"totalTokenCount": sum(counts.values()), **counts}}


def events(*bodies: Json) -> bytes:
    return b"".join(b"data: " + orjson.dumps(body) + b"\r\n\r\n" for body in bodies)


def call(name: str, signature: str | None = None, **args: Any) -> Json:
    part: Json = {"functionCall": {"name": name, "args": args}}
    return part if signature is None else {**part, "thoughtSignature": signature}


def stream_decoder() -> Decoder:
    return GEMINI.decoder(ask(True), TO, MINTED)


def run(data: list[bytes], decoder: Decoder | None = None) -> tuple[list[Chunk], Decoder]:
    decoder = decoder or stream_decoder()
    chunks = [chunk for piece in data for chunk in decoder.feed(piece)]
    return chunks + decoder.close(), decoder


def streamed(*bodies: Json) -> Json:
    """The message put together from a stream, as a `chat.completion` choice with its facts; pieces do not matter."""
    raw = events(*bodies)
    chunks, decoder = run([raw])
    told = [chunk.raw for chunk in chunks]
    rng = Random(len(raw))
    cuts = sorted(rng.randrange(len(raw)) for _ in range(9))
    cut = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    for pieces in ([raw[at : at + 1] for at in range(len(raw))], cut, [raw.replace(b"\r\n", b"\n")]):
        again, other = run(pieces)
        assert [chunk.raw for chunk in again] == told
        assert (other.usage, other.model, other.finish_reason) == (decoder.usage, decoder.model, decoder.finish_reason)
    assert chunks[-1].kind == DONE
    return together([chunk.body for chunk in chunks if chunk.body is not None])


def together(bodies: list[Json]) -> Json:
    """Chunks into a whole answer, by the rules of the official SDKs."""
    whole: Json = {"object": "chat.completion", "choices": {}}
    for body in bodies:
        ChatCompletionChunk.model_validate(body, strict=True)
        for name in ("id", "created", "model"):
            assert whole.setdefault(name, body[name]) == body[name]
        if "usage" in body:
            whole["usage"] = body["usage"]
        for choice in body["choices"]:
            message = whole["choices"].setdefault(
                choice["index"], {"message": {"content": "", "refusal": None}, "logprobs": [], "finish_reason": None}
            )
            assert message["finish_reason"] is None
            message["finish_reason"] = choice["finish_reason"]
            message["logprobs"] += (choice["logprobs"] or {}).get("content", [])
            merge(message["message"], choice["delta"])
    choices = []
    for index, choice in sorted(whole["choices"].items()):
        logprobs = {"content": choice["logprobs"], "refusal": None} if choice["logprobs"] else None
        message = choice["message"]
        if "tool_calls" in message and not message["content"]:
            message["content"] = None
        choices.append({**choice, "index": index, "logprobs": logprobs})
    whole["choices"] = choices
    return whole


def merge(into: Json, delta: Json) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for one in value:
                calls = into.setdefault(name, [])
                told = {key: part for key, part in one.items() if key != "index"}
                if one["index"] == len(calls):
                    calls.append(told)
                else:
                    calls[one["index"]]["function"]["arguments"] += told["function"]["arguments"]
        elif isinstance(value, list):
            into[name] = into.get(name, []) + value
        elif isinstance(value, str) and name != "role":
            into[name] = (into.get(name) or "") + value
        else:
            into[name] = value


def whole(body: Json | list[Json]) -> Json:
    decoder = GEMINI.decoder(ask(False), TO, MINTED)
    (chunk,), _ = run([orjson.dumps(body)], decoder)
    assert chunk.body is not None
    ChatCompletion.model_validate(chunk.body, strict=True)
    return chunk.body


def both(*bodies: Json) -> Json:
    """A stream put together; it must equal the same answer given whole."""
    put = streamed(*bodies)
    assert put == whole(list(bodies))
    return put
