"""Answers in one JSON object that the proxy only looks at: embeddings, counts, moderations and the like."""

from __future__ import annotations

from collections.abc import Callable

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.errors import error_in, is_error, told_in_answer
from proxy.providers.frame import Gathered, object_in
from proxy.wire.chunk import CONTENT, Chunk, Json, Usage, usage_of


class PlainBody:
    """The bytes pass as they came. `needs`: the member without which it is no answer; `read_usage`: from the body."""

    def __init__(self, needs: str = "", read_usage: Callable[[Json], Usage | None] | None = None) -> None:
        self._needs = needs
        self._read_usage = read_usage or openai_usage
        self._whole = Gathered()
        self.ended = False
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.pending: list[Chunk] = []

    def feed(self, data: bytes) -> list[Chunk]:
        return self._whole.take(data)

    def close(self, cut: bool = False) -> list[Chunk]:
        raw = self._whole.raw()
        body = object_in(raw)
        if body.get("error") or (is_error(body) and self._needs not in body):
            raise told_in_answer(error_in(raw), "an error with a success status")
        if self._needs and body.get(self._needs) is None:
            raise UpstreamError(Kind.MALFORMED, "decoder", f"an answer without `{self._needs}`", status=200)
        model = body.get("model")
        if type(model) is str:
            self.model = model or None
        self.usage = self._read_usage(body)
        self.ended = True
        return [Chunk(CONTENT, raw, self.answer(body))]

    def answer(self, body: Json) -> Json:
        """The object that the answer is."""
        return body


def openai_usage(body: Json) -> Usage | None:
    usage = body.get("usage")
    return usage_of(usage) if type(usage) is dict else None
