"""A request in the form of OpenAI's Responses as a chat completion, for targets that do not have them.

Wire facts from OpenAI's API reference (responses, input items, tools) and the types of its SDK. Whatever needs the
provider's memory or its own tools is refused, naming the parameter; what only hints is listed as dropped.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.errors import Refusal
from proxy.forms.carried import Signatures, unpacked
from proxy.forms.delta import objects_in
from proxy.wire.chat import TranslatedChat
from proxy.wire.chunk import Json

_NATIVE = "is only possible with a target that has OpenAI's Responses"
_MEMORY = ("previous_response_id", "conversation", "background", "store", "prompt")
_SAME = (
    "temperature", "top_p", "parallel_tool_calls", "service_tier", "user", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention",
)  # fmt: skip
_READ = {
    "model", "input", "instructions", "stream", "stream_options", "tools", "tool_choice", "max_output_tokens", "text",
    "reasoning", "metadata", "include", *_MEMORY, *_SAME,
}  # fmt: skip
_CARRYING = "reasoning.encrypted_content"


def chat_of(body: Json) -> TranslatedChat:
    """Raises `Refusal` (400)."""
    for name in _MEMORY:
        if body.get(name):
            raise _cannot(name)
    dropped = [name for name in body if name not in _READ and body[name] not in (None, [], {}, "disabled")]
    dropped += [f"include.{one}" for one in body.get("include") or () if one != _CARRYING]
    text, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    made: Json = {
        "model": body["model"],
        "messages": _Messages(body).told,
        "max_completion_tokens": body.get("max_output_tokens"),
        "reasoning_effort": reasoning.get("effort"),
        "verbosity": text.get("verbosity"),
        "response_format": _format(text.get("format")),
        **{name: body.get(name) for name in _SAME},
        **_tools(body),
    }
    if not made.get("tools"):
        made["parallel_tool_calls"] = None
    if body.get("stream") is True:
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    return TranslatedChat({name: value for name, value in made.items() if value is not None}, tuple(dropped))


def _cannot(param: str, what: str = _NATIVE) -> Refusal:
    return Refusal(400, f"`{param}` {what}.", param=param, code="unsupported_parameter")


class _Messages:
    """Reads the items in order. What an assistant thought, said and called in a row is one message of its own."""

    def __init__(self, body: Json) -> None:
        self.told: list[Json] = []
        self._texts: list[Any] = []
        self._calls: list[Json] = []
        self._signed = Signatures()
        self._shown: list[Json] = []
        """Pictures and files of tools' results, which the user then says: few take them in a result itself."""
        instructions = body.get("instructions")
        if type(instructions) is list:
            raise _cannot("instructions", f"as items {_NATIVE}")
        if instructions:
            self.told.append({"role": "system", "content": instructions})
        given = body.get("input")
        if type(given) is str:
            self.told.append({"role": "user", "content": given})
        else:
            for at, item in enumerate(given or ()):
                self._item(item, f"input[{at}]")
            self._assistant_ends()
            self._results_end()
        if not self.told:
            raise Refusal(400, "`input` must be a string or a non-empty array of items.", param="input")

    def _item(self, item: Json, where: str) -> None:
        kind = item.get("type") or "message"
        if kind == "message":
            self._message(item, where)
        elif kind == "reasoning":
            self._results_end()
            self._thought(item)
        elif kind == "function_call":
            self._results_end()
            function = {"name": _string(item, "name"), "arguments": _string(item, "arguments") or "{}"}
            self._calls.append({"id": _string(item, "call_id"), "type": "function", "function": function})
        elif kind == "function_call_output":
            self._assistant_ends()
            self._result(item, where)
        else:
            raise _cannot(where, f"of type {kind!r} {_NATIVE}")

    def _message(self, item: Json, where: str) -> None:
        role, content = item.get("role"), item.get("content")
        self._results_end()
        if role == "assistant":
            parts = self._parts(content, f"{where}.content")
            self._texts += [part.get("text") or "" for part in parts]
            return
        self._assistant_ends()
        if role not in ("user", "system", "developer"):
            message = f"`{where}.role` must be user, assistant, system or developer."
            raise Refusal(400, message, param=f"{where}.role", code="invalid_value")
        told = content if type(content) is str else self._parts(content, f"{where}.content")
        self.told.append({"role": role, "content": told})

    def _thought(self, item: Json) -> None:
        thoughts = [*objects_in(item.get("content")), *objects_in(item.get("summary"))]
        text = "".join([_string(one, "text") for one in thoughts])
        # What OpenAI encrypted is for OpenAI alone; its summary was for people.
        carried = unpacked(item.get("encrypted_content"))
        if carried is not None:
            self._signed.add(text, item["encrypted_content"])
        elif item.get("content"):
            self._signed.add(text, None)

    def _result(self, item: Json, where: str) -> None:
        output = item.get("output")
        told = output if type(output) is str else ""
        if type(output) is list:
            parts = self._parts(output, f"{where}.output")
            media = [part for part in parts if part["type"] != "text"]
            texts = [part["text"] for part in parts if part["type"] == "text"]
            if media:
                texts.append("(Its pictures or files follow.)")
                self._shown += [{"type": "text", "text": f"Of the result of {_string(item, 'call_id')}:"}, *media]
            told = "\n".join(texts)
        elif type(output) is not str and output is not None:
            told = orjson.dumps(output).decode()
        self.told.append({"role": "tool", "tool_call_id": _string(item, "call_id"), "content": told})

    def _results_end(self) -> None:
        if self._shown:
            self.told.append({"role": "user", "content": self._shown})
            self._shown = []

    def _assistant_ends(self) -> None:
        texts, calls, signed = self._texts, self._calls, self._signed
        if texts or calls:
            message: Json = {"role": "assistant", "content": "".join(texts) or None, **signed.members()}
            if calls:
                message["tool_calls"] = [{**call, **signed.calls.get(call["id"], {})} for call in calls]
            elif message["content"] is None:
                message["content"] = ""
            self.told.append(message)
        self._texts, self._calls, self._signed = [], [], Signatures()

    def _parts(self, content: Any, where: str) -> list[Json]:
        if type(content) is str:
            return [{"type": "text", "text": content}]
        if content is not None and type(content) is not list:
            raise Refusal(400, f"`{where}` must be a string or an array of parts.", param=where, code="invalid_type")
        return [self._part(part, f"{where}[{at}]") for at, part in enumerate(content or ())]

    def _part(self, part: Any, where: str) -> Json:
        kind = part.get("type") if type(part) is dict else None
        if kind in ("input_text", "output_text", "text", "summary_text"):
            return {"type": "text", "text": _string(part, "text")}
        if kind == "refusal":
            return {"type": "text", "text": _string(part, "refusal")}
        if kind == "input_image" and type(part.get("image_url")) is str:
            image: Json = {"url": part["image_url"]}
            if type(part.get("detail")) is str:
                image["detail"] = part["detail"]
            return {"type": "image_url", "image_url": image}
        if kind == "input_file" and (part.get("file_data") or part.get("file_url")):
            name = _string(part, "filename") or "document.pdf"
            return {"type": "file", "file": {"filename": name, "file_data": part.get("file_data") or part["file_url"]}}
        if kind == "input_audio" and type(part.get("input_audio")) is dict:
            return {"type": "input_audio", "input_audio": part["input_audio"]}
        by_id = " by its id" if kind in ("input_image", "input_file") else ""
        raise _cannot(where, f"of type {kind!r}{by_id} {_NATIVE}")


def _string(holder: Any, name: str) -> str:
    value = holder.get(name) if type(holder) is dict else None
    return value if type(value) is str else ""


def _tools(body: Json) -> Json:
    told: Json = {}
    tools = []
    for at, tool in enumerate(body.get("tools") or ()):
        if tool.get("type") != "function" or type(tool.get("name")) is not str:
            raise _cannot(f"tools[{at}]", f"of type {tool.get('type')!r} {_NATIVE}")
        kept = ("name", "description", "parameters", "strict")
        function = {name: tool[name] for name in kept if tool.get(name) is not None}
        tools.append({"type": "function", "function": function})
    if tools:
        told["tools"] = tools
        told["tool_choice"] = _choice(body.get("tool_choice"))
    return told


def _choice(choice: Any) -> Any:
    if choice is None or type(choice) is str:
        return choice
    kind = choice.get("type")
    if kind == "function" and type(choice.get("name")) is str:
        return {"type": "function", "function": {"name": choice["name"]}}
    if kind == "allowed_tools":
        named = [one.get("name") for one in objects_in(choice.get("tools"))]
        tools = [{"type": "function", "function": {"name": name}} for name in named]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode") or "auto", "tools": tools}}
    raise _cannot("tool_choice", f"of type {kind!r} {_NATIVE}")


def _format(format: Any) -> Json | None:
    kind = format.get("type") if type(format) is dict else None
    if kind in (None, "text"):
        return None
    if kind != "json_schema":
        return {"type": kind}
    kept = ("name", "description", "schema", "strict")
    described = {name: format[name] for name in kept if format.get(name) is not None}
    return {"type": "json_schema", "json_schema": {"name": "answer", **described}}
