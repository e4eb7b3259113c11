"""Mistral's chat completions: near to OpenAI's, but unknown parameters and foreign tool call ids are errors.

From Mistral's API reference and Python package (mistralai 3.7): tool call ids are nine letters or digits; the last
message may be the assistant's only as a `prefix`; files are `document_url` parts; sound is plain base64; thinking is
a part of the content. Answers go through the strict decoders.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from proxy.errors import Refusal
from proxy.providers.base import Built, Endpoint, Speaker
from proxy.providers.compatible import Compatible
from proxy.providers.compatible_request import adapted, built
from proxy.providers.openai_operations import NATIVES
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json

_ID = re.compile(r"[A-Za-z0-9]{9}")
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOOLS = {"function", "web_search", "web_search_premium", "code_interpreter", "image_generation", "document_library"}
_THINKS = re.compile("magistral")


class Mistral(Compatible):
    dialect = "mistral"
    natives: ClassVar[Mapping[str, Speaker[Any]]] = {
        name: NATIVES[name] for name in ("embeddings", "moderations", "transcriptions")
    }

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        body, dropped = adapted(ask, to)
        for place, tool in enumerate(body.get("tools") or ()):
            if tool.get("type", "function") not in _TOOLS:
                where = f"tools[{place}]"
                raise Refusal(400, f"`{where}` is of a type that mistral does not have.", param=where)
        thinking = [message.get("reasoning_content") for message in ask.body["messages"]]
        messages = [
            _message(one, place, thought if _THINKS.search(to.model) else None)
            for place, (one, thought) in enumerate(zip(body["messages"], thinking, strict=True))
        ]
        if messages[-1]["role"] == "assistant":
            messages[-1] = {"prefix": True, **messages[-1]}
        if body.get("tools"):
            body["tools"] = [_tool(tool) for tool in body["tools"]]
        return built({**body, "messages": messages}, dropped, ask, to)


def tool_id(id: str) -> str:
    """Nine letters or digits: the id itself if it is that, else always the same ones for the same id.

    A call made by another provider and its result are changed alike, and Mistral's own ids come back unchanged.
    """
    if _ID.fullmatch(id):
        return id
    number = int.from_bytes(hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()[:8])
    made = ""
    for _ in range(9):
        number, place = divmod(number, len(_LETTERS))
        made += _LETTERS[place]
    return made


def _message(message: Json, place: int, thought: object) -> Json:
    changed = dict(message)
    content = message.get("content")
    if type(content) is list:
        changed["content"] = [_part(part, f"messages[{place}].content[{at}]") for at, part in enumerate(content)]
    if message["role"] == "tool":
        if type(message.get("tool_call_id")) is str:
            changed["tool_call_id"] = tool_id(message["tool_call_id"])
    elif message["role"] == "assistant":
        changed.pop("name", None)
        if message.get("tool_calls"):
            changed["tool_calls"] = [_call(call, f"messages[{place}].tool_calls") for call in message["tool_calls"]]
        if type(thought) is str and thought:
            said = changed.get("content") or []
            parts = [{"type": "text", "text": said}] if type(said) is str else said
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}
            changed["content"] = [thinking, *parts]
    else:
        changed.pop("name", None)
    return {key: value for key, value in changed.items() if value is not None or key == "content"}


def _tool(tool: Json) -> Json:
    """A function must say its parameters, even if it has none."""
    function = tool.get("function")
    if type(function) is not dict or function.get("parameters") is not None:
        return tool
    return {**tool, "function": {**function, "parameters": {"type": "object", "properties": {}}}}


def _call(call: Any, where: str) -> Json:
    if type(call) is not dict or type(call.get("function")) is not dict or type(call.get("id")) is not str:
        raise Refusal(400, f"`{where}` must hold calls of functions, each with its id, for mistral.", param=where)
    function = call["function"]
    return {
        "id": tool_id(call["id"]),
        "type": "function",
        "function": {"name": function.get("name"), "arguments": function.get("arguments") or "{}"},
    }


def _part(part: Any, where: str) -> Any:
    kind = part.get("type") if type(part) is dict else None
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal") or ""}
    if kind == "input_audio" and type(part.get("input_audio")) is dict:
        return {"type": "input_audio", "input_audio": part["input_audio"].get("data")}
    if kind == "file" and type(part.get("file")) is dict:
        file = part["file"]
        if type(file.get("file_data")) is str:
            named = {"document_name": file["filename"]} if file.get("filename") else {}
            return {"type": "document_url", "document_url": file["file_data"], **named}
        return {"type": "file", "file_id": file.get("file_id")}
    if kind in ("text", "image_url", "document_url", "reference", "thinking", "input_audio", "file"):
        return {key: value for key, value in part.items() if key != "cache_control"}
    raise Refusal(400, f"`{where}` is of a type that mistral does not take.", param=where, code="unsupported_parameter")
