"""Requests whose answers are one JSON object, whatever they say of streams."""

from __future__ import annotations

import orjson
import pytest

from proxy.forms.media import SpeechRequest
from proxy.forms.plain import EmbeddingsRequest, ImagesRequest, ModerationsRequest, PlainRequest, RerankRequest


@pytest.mark.parametrize(
    ("form", "body", "streams"),
    [
        (EmbeddingsRequest, {"input": "x"}, False),
        (ModerationsRequest, {"input": "x"}, False),
        (RerankRequest, {"query": "x", "documents": ["y"]}, False),
        (ImagesRequest, {"prompt": "x"}, True),
    ],
)
def test_what_cannot_be_streamed_is_not(form: type[PlainRequest], body: dict[str, object], streams: bool) -> None:
    """Else the plain answer would count as malformed, and a client could open the breaker of a target for all."""
    asked = form.parse(orjson.dumps({"model": "m", "stream": True, **body}))
    assert asked.stream is streams
    assert not form.parse(orjson.dumps({"model": "m", **body})).stream


def test_sound_comes_as_it_is_made() -> None:
    assert SpeechRequest.parse(b'{"model": "m", "input": "x", "voice": "v"}').stream
