"""The proxy's dialects, driven by hand: recorded bytes in, the client's bytes and the facts out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import NamedTuple

from proxy.assemble import DIALECTS
from proxy.config import Provider as ProviderSection
from proxy.errors import Refusal, UpstreamError
from proxy.failure import exhausted
from proxy.providers.base import Decoder, Endpoint, Minted
from proxy.providers.catalog import CATALOG
from proxy.record import Attempt
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, Chunk, Usage
from proxy.wire.render import error_object, stream_bytes
from tests.replay.recording import Recording

MINTED = Minted("chatcmpl-minted", 1_700_000_000)


class Told(NamedTuple):
    """One answer as the decoder told it."""

    with_usage: bytes
    without_usage: bytes
    model: str | None
    finish_reason: str | None
    usage: Usage | None


def endpoint(recording: Recording) -> Endpoint:
    """As the provider's catalog row has it; a provider without a row is any OpenAI-compatible address."""
    row = CATALOG.get(recording.provider)
    facts = row._asdict() if row is not None else {"verbatim": ProviderSection.model_fields["verbatim"].default}
    known = {name: value for name, value in facts.items() if name in Endpoint._fields}
    known["base_url"] = known.get("base_url") or "http://127.0.0.1:1"
    return Endpoint(**{**known, "provider": recording.provider, "model": recording.model or "model"})


def ask(recording: Recording) -> ChatRequest:
    """The least request that could have had this answer."""
    body = {
        "model": recording.model or "model",
        "messages": [{"role": "user", "content": "Hello"}],
        "n": recording.choices_asked,
    }
    if recording.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return ChatRequest.parse(json.dumps(body).encode())


def decode(recording: Recording, pieces: Iterator[bytes] | list[bytes]) -> Told:
    """Raises `UpstreamError` where the answer is refused."""
    decoder: Decoder = DIALECTS[recording.dialect].decoder(ask(recording), endpoint(recording), MINTED)
    chunks: list[Chunk] = []
    for piece in pieces:
        chunks += decoder.feed(piece)
        if decoder.ended:
            break
    if not decoder.ended:
        chunks += decoder.close(recording.cut)
    if recording.stream:
        shown = [chunk for chunk in chunks if chunk.kind != COMMENT or chunk.raw]
        told = stream_bytes(shown, True), stream_bytes(shown, False)
    else:
        told = chunks[0].raw, chunks[0].raw
    return Told(*told, decoder.model, decoder.finish_reason, decoder.usage)


def cuts(recording: Recording) -> Iterator[tuple[str, list[bytes]]]:
    """The same bytes in different pieces; the random ones are the same on every run."""
    body = recording.body
    yield "byte by byte", [body[place : place + 1] for place in range(len(body))]
    rng = Random(recording.id)
    for number in range(3):
        places = sorted(rng.randrange(len(body) + 1) for _ in range(min(40, len(body))))
        bounds = [0, *places, len(body)]
        yield f"random cuts {number + 1}", [body[one:other] for one, other in pairwise(bounds)]


def complaint(recording: Recording) -> tuple[UpstreamError, Refusal, bytes]:
    """An answer with an error status: its class, and what a client is told when this was the only target."""
    provider = DIALECTS[recording.dialect]
    error = provider.error(recording.status, recording.headers, recording.body)
    attempt = Attempt(1, f"{recording.provider}/{recording.model}", recording.provider, recording.model, 1)
    attempt.kind, attempt.status, attempt.retry_after = error.kind, recording.status, error.retry_after
    refusal = exhausted(error, [attempt])
    if refusal.body is not None:
        return error, refusal, refusal.body
    told = error_object(refusal.message, type=refusal.type, param=refusal.param, code=refusal.code, **refusal.more)
    return error, refusal, json.dumps(told).encode()
