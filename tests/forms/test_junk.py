"""Requests of other forms with anything in any place: they are read, or refused with a reason, and nothing else."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.assemble import DIALECTS
from proxy.errors import Refusal
from proxy.forms.completions import CompletionsRequest
from proxy.forms.count_tokens import CountTokensRequest
from proxy.forms.media import TranscriptionsRequest
from proxy.forms.messages import MessagesRequest
from proxy.forms.plain import EmbeddingsRequest, ImagesRequest, ModerationsRequest, RerankRequest
from proxy.forms.responses import ResponsesRequest
from proxy.providers.base import Endpoint, Minted, Natives
from proxy.wire.request import Request
from tests.providers.test_anthropic_junk import spoilt

MINTED = Minted("chatcmpl-1", 1)
TO = Endpoint("p", "http://127.0.0.1:1", "m-1", params={"max_tokens": 5}, force={"reasoning_effort": "low"})
MESSAGES = {
    "model": "m",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "Hi"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}},
            {"type": "document", "title": "T",
             "source": {"type": "content", "content": [{"type": "text", "text": "a"}]}},
            {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "a"}]},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "wb1.eyJkIjpbXX0="},
            {"type": "redacted_thinking", "data": "abc"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": [{"type": "text", "text": "no"}]},
        ]},
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["x"],
}  # fmt: skip
RESPONSES = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [
            {"type": "input_text", "text": "Hi"},
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0=", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        ]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "wb1."},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Ho"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "1"}]},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
}  # fmt: skip
ASKED: dict[type[Request], dict[str, Any]] = {
    MessagesRequest: MESSAGES,
    CountTokensRequest: MESSAGES,
    ResponsesRequest: RESPONSES,
    CompletionsRequest: {"model": "m", "prompt": "a", "n": 1, "stop": ["x"], "stream_options": {"include_usage": True}},
    EmbeddingsRequest: {"model": "m", "input": ["a"], "dimensions": 3, "encoding_format": "base64"},
    ModerationsRequest: {"model": "m", "input": [{"type": "text", "text": "a"}]},
    RerankRequest: {"model": "m", "query": "a", "documents": ["a"], "top_n": 1},
    ImagesRequest: {"model": "m", "prompt": "a", "n": 1},
}


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.operation)
def test_what_is_right_is_read(kind: type[Request]) -> None:
    ask = kind.parse(orjson.dumps(ASKED[kind]))
    assert ask.model == "m"
    if kind.translates:
        assert ask.as_chat().translated


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.operation)
def test_anything_anywhere_is_read_or_refused(kind: type[Request]) -> None:
    taken = 0
    for body in spoilt(ASKED[kind]):
        with contextlib.suppress(Refusal):
            ask = kind.parse(orjson.dumps(body))
            _ = ask.reasons, ask.repeatable, ask.stand_in()
            for provider in DIALECTS.values():
                speaker = provider.natives.get(ask.operation) if isinstance(provider, Natives) else None
                if speaker is not None:
                    _build(speaker, ask)
            if ask.translates:
                chat = ask.as_chat()
                for provider in DIALECTS.values():
                    _build(provider, chat)
            taken += 1
    assert taken


def _build(speaker: Any, ask: Request) -> None:
    with contextlib.suppress(Refusal):
        assert speaker.build(ask, TO).body
        speaker.decoder(ask, TO, MINTED)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text('-\r\nb:;"=namefilmodel ', max_size=300).map(str.encode))
def test_any_form_of_parts_is_read_or_refused(middle: bytes) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    raw = part % (b"model", b"m") + middle + part % (b"file", b"sound") + b"--b--\r\n"
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    try:
        ask = TranscriptionsRequest.parse(raw, headers)
    except Refusal:
        return
    assert b"another" in ask.for_upstream("another")
