"""`POST /v1/messages/count_tokens`: asked natively where it can be, else estimated here, and marked as such."""

from __future__ import annotations

from math import ceil
from typing import Any, ClassVar

import orjson

from policies.tokens import estimate
from proxy.forms.messages import MessagesRequest
from proxy.wire.request import dumped

_IMAGE = 1_600
"""Tokens of a picture as large as is taken; smaller ones have fewer."""
_PAGE = 2_000
_PAGE_BYTES = 60_000
"""What a page of a PDF comes to, about."""
_MESSAGE = 4
"""What stands between messages."""


class CountTokensRequest(MessagesRequest):
    __slots__ = ()

    operation = "count_tokens"
    translates: ClassVar[bool] = False

    def stand_in(self) -> bytes | None:
        """Raises `Refusal` (400) for what is nested too deep."""
        body = self.body
        count = sum(_MESSAGE + _tokens(message["content"]) for message in body["messages"])
        count += _tokens(body.get("system") or "")
        for tool in body.get("tools") or ():
            count += _MESSAGE + _text(dumped(tool).decode())
        return orjson.dumps({"input_tokens": count})


def _tokens(content: Any) -> int:
    if type(content) is str:
        return _text(content)
    return sum(map(_block, content)) if type(content) is list else 0


def _block(block: Any) -> int:
    kind = block.get("type") if type(block) is dict else None
    if kind == "image":
        return _IMAGE
    source = block.get("source") if kind == "document" else None
    if type(source) is dict and type(source.get("data")) is str and source.get("type") == "base64":
        return _PAGE * (1 + len(source["data"]) * 3 // 4 // _PAGE_BYTES)
    if kind == "tool_result":
        return _MESSAGE + _tokens(block.get("content"))
    if kind == "thinking":
        return 0  # that of earlier turns is not counted
    return _text(dumped(block).decode()) if kind != "text" else _tokens(block.get("text"))


def _text(text: str) -> int:
    return ceil(estimate(text))
