"""`POST /v1/messages/count_tokens`: asked natively where it can be, else estimated here, and marked as such."""

from __future__ import annotations

from typing import Any, ClassVar

import orjson

from proxy.forms.messages import MessagesRequest

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
        body = self.body
        count = sum(_MESSAGE + _tokens(message["content"]) for message in body["messages"])
        count += _tokens(body.get("system") or "")
        for tool in body.get("tools") or ():
            count += _MESSAGE + _text(orjson.dumps(tool).decode())
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
    return _text(orjson.dumps(block).decode()) if kind != "text" else _tokens(block.get("text"))


def _text(text: str) -> int:
    """A token is about four bytes of English, and of other scripts about as many."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)
