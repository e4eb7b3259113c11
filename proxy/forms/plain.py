"""Requests whose answers are one JSON object: embeddings, moderations, pictures, rerank. They are not translated into
chat; a target either has the operation or is passed over."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from proxy.wire.chunk import Json
from proxy.wire.request import (
    BOOLEAN,
    INTEGER,
    STRING,
    Headers,
    Request,
    Types,
    check_model,
    check_types,
    parse_object,
    wrong,
)

_TYPES: dict[str, Types] = {
    "dimensions": INTEGER,
    "encoding_format": STRING,
    "user": STRING,
    "n": INTEGER,
    "stream": BOOLEAN,
    "top_n": INTEGER,
}


class PlainRequest(Request):
    """`needs`: the members without which nothing can be done."""

    __slots__ = ()

    needs: ClassVar[tuple[str, ...]] = ()
    streams: ClassVar[bool] = False
    """The operation can be streamed; where it cannot, `stream` in a request means nothing."""

    def __init__(self, raw: bytes, body: Json) -> None:
        super().__init__(raw, body)
        self.stream = self.stream and self.streams

    @classmethod
    def parse(cls, raw: bytes, headers: Headers = ()) -> Self:
        body = parse_object(raw, " and ".join(f"`{name}`" for name in ("model", *cls.needs)))
        check_model(body)
        check_types(body, _TYPES)
        for name in cls.needs:
            if body.get(name) in (None, "", []):
                raise wrong(name, f"`{name}` is required and must not be empty.", "invalid_value")
        cls.check(body)
        return cls(raw, body)

    @classmethod
    def check(cls, body: dict[str, Any]) -> None:
        """Raises `Refusal` (400)."""


class EmbeddingsRequest(PlainRequest):
    """`POST /v1/embeddings`."""

    __slots__ = ()

    operation = "embeddings"
    needs = ("input",)

    @classmethod
    def check(cls, body: dict[str, Any]) -> None:
        given = body["input"]
        if type(given) not in (str, list):
            raise wrong("input", "`input` must be a string or an array of strings or of tokens.")
        if body.get("encoding_format") not in (None, "float", "base64"):
            raise wrong("encoding_format", "`encoding_format` must be float or base64.", "invalid_value")


class ModerationsRequest(PlainRequest):
    """`POST /v1/moderations`."""

    __slots__ = ()

    operation = "moderations"
    needs = ("input",)


class RerankRequest(PlainRequest):
    """`POST /v1/rerank`."""

    __slots__ = ()

    operation = "rerank"
    needs = ("query", "documents")


class ImagesRequest(PlainRequest):
    """`POST /v1/images/generations`."""

    __slots__ = ()

    operation = "images"
    streams = True
    needs = ("prompt",)

    @property
    def repeatable(self) -> bool:
        return False  # a picture that was begun is paid for
