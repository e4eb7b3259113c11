"""Requests in Cohere's v2 form. Unknown parameters are errors there, so only known ones are sent."""

from __future__ import annotations

from typing import Any

from proxy.errors import Refusal
from proxy.providers.base import Built, Endpoint
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json
from proxy.wire.request import dumped, parameters

_SAME = {
    "temperature", "seed", "max_tokens", "frequency_penalty", "presence_penalty", "documents", "citation_options",
    "safety_mode", "strict_tools", "priority", "k", "p",
}  # fmt: skip
_RENAMED = {"max_completion_tokens": "max_tokens", "top_p": "p", "top_k": "k"}
_READ = {"model", "messages", "stream", "stream_options", "n", "stop", "tools", "tool_choice", "response_format"}
_REFUSED = {"audio", "functions", "function_call", "web_search_options"}
_DEFAULTS = {"parallel_tool_calls": True, "store": False, "logprobs": False}
"""What goes without saying."""
_PARTS = {"text", "image_url", "refusal"}


def build(ask: ChatRequest, to: Endpoint) -> Built:
    """Raises `Refusal` (400) for what would change the answer's form: several choices, sound, other tools."""
    body = ask.filled(to.params, to.force)
    for name in sorted(_REFUSED & body.keys()):
        raise _cannot(name, f"`{name}` is not possible with cohere.")
    if (body.get("n") or 1) > 1:
        raise _cannot("n", "`n` above 1 is not possible with cohere.")
    thinks = "reasoning" in to.model or "thinking" in body
    messages = [_message(one, f"messages[{place}]", thinks) for place, one in enumerate(body["messages"])]
    sent: Json = {"model": to.model, "messages": messages, "stream": ask.stream}
    dropped = _parameters(body, sent, thinks)
    stop = body.get("stop")
    if stop:
        sent["stop_sequences"] = [stop] if type(stop) is str else stop
    _tools(body, sent)
    _format(body.get("response_format"), sent)
    return Built(dumped(sent), tuple(sorted(dropped)), sent=parameters(sent))


def _cannot(param: str, message: str) -> Refusal:
    return Refusal(400, message, param=param, code="unsupported_parameter")


def _parameters(body: Json, sent: Json, thinks: bool) -> list[str]:
    """Puts them into `sent`; the names of those that Cohere does not take."""
    dropped = []
    for name, value in body.items():
        spelled = _RENAMED.get(name, name)
        if spelled in _SAME:
            if spelled in ("frequency_penalty", "presence_penalty"):
                if value < 0:
                    dropped.append(name)
                    continue
                value = min(value, 1)
            sent[spelled] = min(max(value, 0.01), 0.99) if spelled == "p" else value
        elif name == "thinking" and type(value) is dict:
            sent["thinking"] = {key: value[key] for key in ("type", "token_budget") if key in value}
        elif name == "reasoning_effort" and thinks:
            sent.setdefault("thinking", {"type": "disabled" if value == "none" else "enabled"})
        elif name not in _READ and value is not _DEFAULTS.get(name):
            dropped.append(name)
    return dropped


def _tools(body: Json, sent: Json) -> None:
    """A choice of one tool, or of some, is made by offering only these."""
    tools = body.get("tools") or []
    for place, tool in enumerate(tools):
        if tool.get("type", "function") != "function" or type(tool.get("function")) is not dict:
            raise _cannot(f"tools[{place}]", f"`tools[{place}]` must be a function for cohere.")
    choice = body.get("tool_choice")
    if type(choice) is dict:
        names, choice = _chosen(choice)
        tools = [tool for tool in tools if tool["function"].get("name") in names]
        if not tools:
            raise _cannot("tool_choice", "`tool_choice` names no tool of this request.")
    if tools:
        sent["tools"] = [_tool(tool["function"]) for tool in tools]
        if any(tool["function"].get("strict") for tool in tools):
            sent.setdefault("strict_tools", True)
    if choice in ("required", "none") and tools:
        sent["tool_choice"] = choice.upper()


def _chosen(choice: Json) -> tuple[set[Any], str]:
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or {}
        names = {(one.get("function") or {}).get("name") for one in allowed.get("tools") or ()}
        return names, allowed.get("mode") or "auto"
    function = choice.get("function")
    if type(function) is not dict:
        raise _cannot("tool_choice", "`tool_choice` must name a function for cohere.")
    return {function.get("name")}, "required"


def _tool(function: Json) -> Json:
    kept = {key: function[key] for key in ("name", "description", "parameters") if function.get(key) is not None}
    kept.setdefault("parameters", {"type": "object", "properties": {}})
    return {"type": "function", "function": kept}


def _format(wanted: Any, sent: Json) -> None:
    kind = wanted.get("type") if type(wanted) is dict else None
    if kind == "json_object":
        sent["response_format"] = {key: wanted[key] for key in ("type", "json_schema") if key in wanted}
    elif kind == "json_schema":
        named = wanted.get("json_schema")
        schema = named.get("schema") if type(named) is dict else None
        sent["response_format"] = {"type": "json_object", **({"json_schema": schema} if schema else {})}
    elif kind not in (None, "text"):
        raise _cannot("response_format", f"`response_format` {kind!r} is not possible with cohere.")


def _message(message: Json, where: str, thinks: bool) -> Json:
    role, content = message["role"], message.get("content")
    if role in ("system", "developer"):
        return {"role": "system", "content": _joined(content, where)}
    if role == "user":
        if type(content) is list:
            return {"role": role, "content": [_part(part, f"{where}.content[{n}]") for n, part in enumerate(content)]}
        return {"role": role, "content": content or ""}
    if role == "tool":
        return {"role": role, "tool_call_id": message.get("tool_call_id"), "content": _joined(content, where)}
    if role != "assistant":
        raise _cannot(where, f"The role of `{where}` is not possible with cohere.")
    return _assistant(message, where, thinks)


def _assistant(message: Json, where: str, thinks: bool) -> Json:
    sent: Json = {"role": "assistant"}
    text = _joined(message.get("content"), where)
    thought = message.get("reasoning_content")
    thought = thought if type(thought) is str else ""
    calls = message.get("tool_calls") or []
    if calls:
        sent["tool_calls"] = [_call(call, f"{where}.tool_calls[{place}]") for place, call in enumerate(calls)]
        if thought and not thinks:
            sent["tool_plan"] = thought
    if thought and thinks:
        said = [{"type": "text", "text": text}] if text else []
        sent["content"] = [{"type": "thinking", "thinking": thought}, *said]
    elif text or not calls:
        sent["content"] = text
    return sent


def _call(call: Any, where: str) -> Json:
    function = call.get("function") if type(call) is dict else None
    if type(function) is not dict or type(call.get("id")) is not str:
        raise _cannot(where, f"`{where}` must be a call of a function with its id for cohere.")
    told = {"name": function.get("name"), "arguments": function.get("arguments") or "{}"}
    return {"id": call["id"], "type": "function", "function": told}


def _joined(content: Any, where: str) -> str:
    """Text only: what these roles may say there."""
    if type(content) is not list:
        return content or ""
    parts = [_part(part, f"{where}.content[{place}]") for place, part in enumerate(content)]
    for place, part in enumerate(parts):
        if part["type"] != "text":
            raise _cannot(f"{where}.content[{place}]", f"`{where}` may hold only text for cohere.")
    return "".join(part["text"] for part in parts)


def _part(part: Any, where: str) -> Json:
    kind = part.get("type") if type(part) is dict else None
    if kind not in _PARTS:
        raise _cannot(where, f"`{where}` is of a type that cohere does not take.")
    if kind == "image_url":
        image = part.get("image_url")
        image = image if type(image) is dict else {"url": image}
        return {"type": kind, "image_url": {key: image[key] for key in ("url", "detail") if image.get(key)}}
    return {"type": "text", "text": part.get(kind) or ""}
