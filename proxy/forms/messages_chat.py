"""A request in Anthropic's form as a chat completion, for targets that do not speak it.

Wire facts from Anthropic's API reference (messages, tool use, extended thinking) and the types of its SDK. What only
hints and has no counterpart is listed as dropped; what would change the answer is refused, naming the parameter.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from proxy.errors import Refusal
from proxy.forms.carried import Signatures
from proxy.forms.delta import objects_in
from proxy.wire.chat import TranslatedChat
from proxy.wire.chunk import Json

THINKING_FORMAT = "anthropic-claude-v1"
"""`format` in `reasoning_details` of what Claude signed."""

_READ = {
    "model", "messages", "max_tokens", "max_completion_tokens", "system", "stream", "temperature", "top_p", "top_k",
    "stop_sequences", "tools", "tool_choice", "thinking", "metadata", "output_config", "output_format", "service_tier",
}  # fmt: skip
_REFUSED = ("container", "mcp_servers")
_OWN_TOOL = re.compile(r"_\d{8}$|^mcp_toolset$")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS = ((2_048, "low"), (8_192, "medium"))
"""Tokens of thinking up to which an effort is meant; beyond them it is `high`."""
_LONGEST_USER = 64
"""Characters of a user's name that OpenAI takes; Claude's own tools send more."""
_TIERS = {"auto": "auto", "standard_only": "default"}


def chat_of(body: Json) -> TranslatedChat:
    """Raises `Refusal` (400)."""
    for name in _REFUSED:
        if body.get(name):
            raise _cannot(name)
    dropped = [name for name in body if name not in _READ and body[name] is not None]
    made: Json = {
        "model": body["model"],
        "messages": _messages(body),
        "max_completion_tokens": body.get("max_tokens"),
        "stop": body.get("stop_sequences") or None,
        **{name: body.get(name) for name in ("temperature", "top_p", "top_k")},
        **_tools(body),
        **_thinking(body),
        "response_format": _format(body),
        "service_tier": _TIERS.get(body.get("service_tier") or ""),
    }
    user = (body.get("metadata") or {}).get("user_id")
    if type(user) is str and user:
        if len(user) <= _LONGEST_USER:
            made["user"] = user
        else:
            dropped.append("metadata.user_id")
    if body.get("stream") is True:
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    return TranslatedChat({name: value for name, value in made.items() if value is not None}, tuple(dropped))


def _cannot(param: str, what: str = "is only possible with a target that speaks Anthropic's own API") -> Refusal:
    return Refusal(400, f"`{param}` {what}.", param=param, code="unsupported_parameter")


# Messages.


def _messages(body: Json) -> list[Json]:
    told: list[Json] = []
    system = body.get("system")
    if system:
        told.append({"role": "system", "content": _texts(system, "system")})
    for at, message in enumerate(body["messages"]):
        where, content = f"messages[{at}].content", message["content"]
        if message["role"] == "assistant":
            told.append(_assistant(content, where))
        elif message["role"] == "system":
            told.append({"role": "system", "content": _texts(content, where)})
        else:
            told += _user(content, where)
    return told


def _texts(content: Any, where: str) -> Any:
    if type(content) is str:
        return content
    for at, block in enumerate(content):
        if block["type"] != "text":
            raise _cannot(f"{where}[{at}]", "must be text")
    return [_marked({"type": "text", "text": _string(block, "text")}, block) for block in content]


def _user(content: Any, where: str) -> list[Json]:
    """Results of tools come first, each a message of its own; what else was said follows."""
    if type(content) is str:
        return [{"role": "user", "content": content}]
    results: list[Json] = []
    shown: list[Json] = []
    parts: list[Json] = []
    for at, block in enumerate(content):
        if block["type"] == "tool_result":
            results.append(_result(block, f"{where}[{at}]", shown))
        else:
            parts += _parts(block, f"{where}[{at}]")
    said = [*shown, *parts]
    return [*results, {"role": "user", "content": said}] if said else results


def _result(block: Json, where: str, shown: list[Json]) -> Json:
    """Pictures and files of a result go to `shown`, which the user then says: few take them in a result itself."""
    content = block.get("content")
    told = content if type(content) is str else ""
    if type(content) is list:
        texts, media = [], []
        for at, inner in enumerate(content):
            if type(inner) is not dict or type(inner.get("type")) is not str:
                raise _cannot(f"{where}.content[{at}]", "must be an object with a `type`")
            for part in _parts(inner, f"{where}.content[{at}]"):
                texts += [part["text"]] if part["type"] == "text" else []
                media += [part] if part["type"] != "text" else []
        if media:
            texts.append(_SHOWN)
            shown += [{"type": "text", "text": f"Of the result of {_string(block, 'tool_use_id')}:"}, *media]
        told = "\n".join(texts)
    message: Json = {"role": "tool", "tool_call_id": _string(block, "tool_use_id"), "content": told}
    if block.get("is_error") is True:
        message["is_error"] = True
    return _marked(message, block)


_SHOWN = "(Its pictures or files follow.)"


def _parts(block: Json, where: str) -> list[Json]:
    """One block of a user's turn as parts of a chat message."""
    kind = block["type"]
    if kind == "text":
        text = _string(block, "text")
        return [_marked({"type": "text", "text": text}, block)] if text else []
    if kind == "image":
        return [_marked({"type": "image_url", "image_url": {"url": _url(block, where)}}, block)]
    if kind == "document":
        return _document(block, where)
    if kind == "search_result":
        lines = [f"{_string(block, 'title')} ({_string(block, 'source')})"]
        lines += [_string(one, "text") for one in objects_in(block.get("content"))]
        return [_marked({"type": "text", "text": "\n".join(lines)}, block)]
    raise _cannot(where, f"of type {kind!r} is only possible with a target that speaks Anthropic's own API")


def _url(block: Json, where: str) -> str:
    source = block.get("source")
    kind = source.get("type") if type(source) is dict else None
    if kind == "base64":
        return f"data:{_string(source, 'media_type')};base64,{_string(source, 'data')}"
    if kind == "url":
        return _string(source, "url")
    raise _cannot(f"{where}.source", f"of type {kind!r} is only possible with a target that speaks Anthropic's own API")


def _document(block: Json, where: str) -> list[Json]:
    source = block.get("source")
    kind = source.get("type") if type(source) is dict else None
    title = _string(block, "title")
    note = [{"type": "text", "text": _string(block, "context")}] if block.get("context") else []
    if kind == "text":
        lead = f"{title}\n\n" if title else ""
        return [*note, _marked({"type": "text", "text": lead + _string(source, "data")}, block)]
    if kind == "content":
        inner = source.get("content") if type(source) is dict else None
        if type(inner) is str:
            return [*note, _marked({"type": "text", "text": inner}, block)]
        listed = [one for one in objects_in(inner) if type(one.get("type")) is str]
        return [*note, *[part for at, one in enumerate(listed) for part in _parts(one, f"{where}.source[{at}]")]]
    file = {"filename": title or "document.pdf", "file_data": _url(block, where)}
    return [*note, _marked({"type": "file", "file": file}, block)]


def _assistant(content: Any, where: str) -> Json:
    if type(content) is str:
        return {"role": "assistant", "content": content}
    signed, texts, calls = Signatures(), [], []
    for at, block in enumerate(content):
        kind = block["type"]
        if kind == "text":
            texts.append(_string(block, "text"))
        elif kind == "thinking":
            text, signature = _string(block, "thinking"), block.get("signature")
            entry = {"type": "reasoning.text", "text": text, "signature": signature, "format": THINKING_FORMAT}
            signed.add(text, signature, entry if signature else None)
        elif kind == "redacted_thinking":
            data = block.get("data")
            signed.add("", data, {"type": "reasoning.encrypted", "data": data, "format": THINKING_FORMAT})
        elif kind == "tool_use":
            calls.append(_call(block))
        else:
            what = f"of type {kind!r} is only possible with a target that speaks Anthropic's own API"
            raise _cannot(f"{where}[{at}]", what)
    message: Json = {"role": "assistant", "content": "".join(texts) or None, **signed.members()}
    if calls:
        message["tool_calls"] = [{**call, **signed.calls.get(call["id"], {})} for call in calls]
    if message["content"] is None and not calls:
        message["content"] = ""
    return message


def _call(block: Json) -> Json:
    given = block.get("input")
    arguments = given if type(given) is str else orjson.dumps(given if given is not None else {}).decode()
    function = {"name": _string(block, "name"), "arguments": arguments}
    return {"id": _string(block, "id"), "type": "function", "function": function}


def _marked(part: Json, block: Json) -> Json:
    mark = block.get("cache_control")
    return part if mark is None else {**part, "cache_control": mark}


def _string(holder: Any, name: str) -> str:
    value = holder.get(name) if type(holder) is dict else None
    return value if type(value) is str else ""


# Tools, thinking, the answer's form.


def _tools(body: Json) -> Json:
    told: Json = {}
    tools = []
    for at, tool in enumerate(body.get("tools") or ()):
        kind = tool.get("type", "custom")
        if type(kind) is not str or _OWN_TOOL.search(kind) or type(tool.get("name")) is not str:
            what = f"of type {kind!r} is only possible with a target that speaks Anthropic's own API"
            raise _cannot(f"tools[{at}]", what)
        function: Json = {"name": tool["name"], "parameters": tool.get("input_schema") or _NOTHING}
        if tool.get("description"):
            function["description"] = tool["description"]
        if tool.get("strict") is True:
            function["strict"] = True
        tools.append(_marked({"type": "function", "function": function}, tool))
    choice = body.get("tool_choice")
    if tools:
        told["tools"] = tools
    if tools and choice is not None:
        kind = choice.get("type")
        if kind == "tool" and type(choice.get("name")) is str:
            told["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
        elif type(kind) is str and kind in _CHOICES:
            told["tool_choice"] = _CHOICES[kind]
        else:
            message = "`tool_choice.type` must be auto, any, none, or tool with a name."
            raise Refusal(400, message, param="tool_choice", code="invalid_value")
        if choice.get("disable_parallel_tool_use") is True and kind != "none":
            told["parallel_tool_calls"] = False
    return told


_NOTHING = {"type": "object", "properties": {}}


def _thinking(body: Json) -> Json:
    """An effort: the level that was named, or the one that a budget of tokens comes near to."""
    effort = (body.get("output_config") or {}).get("effort")
    thinking = body.get("thinking") or {}
    kind = thinking.get("type")
    if kind == "disabled" or (kind is None and effort is None):
        return {}
    if type(effort) is not str:
        budget = thinking.get("budget_tokens")
        known = budget if type(budget) is int else _EFFORTS[-1][0]
        effort = next((level for most, level in _EFFORTS if known <= most), "high")
    return {"reasoning_effort": effort}


def _format(body: Json) -> Json | None:
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format")
    if wanted is None:
        return None
    schema = wanted.get("schema") if type(wanted) is dict else None
    if type(schema) is not dict:
        message = "`output_config.format` must be of type json_schema, with a `schema`."
        raise Refusal(400, message, param="output_config.format", code="invalid_value")
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
