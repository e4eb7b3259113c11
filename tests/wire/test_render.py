from __future__ import annotations

import json

import orjson
import pytest

from proxy.wire.chunk import CONTENT, DONE, USAGE, Chunk, Usage, usage_of
from proxy.wire.render import error_event, error_object, stream_bytes


def chunk(raw: bytes, kind: int = CONTENT) -> Chunk:
    body = orjson.loads(raw[6:])
    return Chunk(kind, raw, body, "usage" in body)


def test_usage_nobody_asked_for_is_taken_out_and_nothing_else() -> None:
    first = chunk(b'data: {"id":"1","choices":[{"delta":{"content":",\\"usage\\":null"}}],"usage":null}\n\n')
    plain = chunk(b'data: {"id":"1","choices":[]}\n\n')
    last = chunk(b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":1}}\n\n', USAGE)
    end = Chunk(DONE, b"data: [DONE]\n\n")
    chunks = [first, plain, last, end]
    assert stream_bytes(chunks, True) == b"".join(one.raw for one in chunks)
    assert stream_bytes(chunks, False) == (
        b'data: {"id":"1","choices":[{"delta":{"content":",\\"usage\\":null"}}]}\n\n'
        b'data: {"id":"1","choices":[]}\n\n'
        b"data: [DONE]\n\n"
    )


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"usage":null,"id":"1","choices":[{"delta":{"content":"x"}}]}\n\n',
        b'data: {"id":"1", "choices":[{"delta":{"content":"x"}}], "usage": null}\n\n',
        b'data: {"id":"1","choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"x":{"usage":null},"id":"1","choices":[{"delta":{"content":"x"}}],"usage":null}\n\n',
    ],
)
def test_usage_elsewhere_in_a_chunk_is_taken_out(raw: bytes) -> None:
    shown = json.loads(stream_bytes([chunk(raw)], False)[6:])
    expected = json.loads(raw[6:])
    del expected["usage"]
    assert shown == expected


def test_errors_have_all_four_members() -> None:
    assert error_object("m", type="t") == {"error": {"message": "m", "type": "t", "param": None, "code": None}}
    event = error_event("m", type="t", code="c")
    assert json.loads(event[6:])["error"]["code"] == "c"
    assert event.endswith(b"\n\n")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Usage(0, 0, 0, 0, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 4}, Usage(10, 0, 0, 4, 0)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(1, 6, 3, 4, 5),
        ),
        ({"prompt_tokens": 31, "prompt_tokens_details": {"cached_tokens": 161}}, Usage(0, 31, 0, 0, 0)),
        ({"prompt_tokens": -4, "completion_tokens": "9"}, Usage(0, 0, 0, 0, 0)),
        ({"prompt_tokens": 3, "prompt_tokens_details": None, "completion_tokens": True}, Usage(3, 0, 0, 0, 0)),
    ],
)
def test_usage_in_disjoint_classes(given: dict[str, object], expected: Usage) -> None:
    usage = usage_of(given)
    assert usage == expected
    assert min(usage[:5]) >= 0
    assert usage.input == usage.uncached_input + usage.cache_read + usage.cache_write
    assert usage.output == usage.output_text + usage.reasoning
