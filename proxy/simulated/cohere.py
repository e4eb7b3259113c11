"""The Cohere dialect of the simulated upstream: v2 chat, streamed and whole.

Wire facts from Cohere's API reference (chat, streaming, errors) and from recorded traffic: typed events, calls that
are told one member at a time, usage seen and usage billed, errors that are an id and a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import orjson

from proxy.simulated.answer import Answer, Choice, Complaint, Tool, Wanted, digest
from proxy.simulated.dialect import Request, Rules
from proxy.simulated.embeddings import embedded, read_embed
from proxy.simulated.reply import Framing, Part, Reply, Tag
from proxy.simulated.words import text_pieces

Json = dict[str, Any]

_CHAT = "/v2/chat"
_THOUGHTS = 6
_STOPS = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", None: None}
_FIELDS: dict[str, tuple[type, ...]] = {
    "model": (str,), "messages": (list,), "stream": (bool,), "tools": (list,), "strict_tools": (bool,),
    "documents": (list,), "citation_options": (dict,), "response_format": (dict,), "safety_mode": (str,),
    "max_tokens": (int,), "stop_sequences": (list,), "temperature": (int, float), "seed": (int,),
    "frequency_penalty": (int, float), "presence_penalty": (int, float), "k": (int,), "p": (int, float),
    "logprobs": (bool,), "tool_choice": (str,), "thinking": (dict,), "priority": (int,),
}  # fmt: skip
_ROLES = {"system", "user", "assistant", "tool"}
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


_EMBED = "/v2/embed"


class Cohere:
    name = "cohere"
    prefix = ""

    def answers(self, method: str, path: str) -> bool:
        return method == "POST" and path in (_CHAT, _EMBED)

    def other(self, request: Request, rules: Rules) -> Reply:
        _check_key(request.headers, rules)
        if request.method == "GET" and request.path == "/v1/models":
            known = [{"name": name, "endpoints": ["chat"]} for name in rules.models or ("simulated",)]
            return Reply(200, [("content-type", "application/json")], [Part(orjson.dumps({"models": known}))])
        raise Complaint(404, f"page not found: {request.method} {request.path}")

    def read(self, request: Request, rules: Rules) -> Wanted:
        _check_key(request.headers, rules)
        return read_embed(request.json) if request.path == _EMBED else _read(request.json, rules)

    def whole(self, wanted: Wanted, answer: Answer) -> Reply:
        if wanted.form:
            meta = {"billed_units": {"input_tokens": wanted.prompt_tokens}}
            told = {"id": answer.id, **embedded(wanted), "meta": meta}
            return Reply(200, [("content-type", "application/json")], [Part(orjson.dumps(told))], wait=answer.wait)
        choice = answer.choices[0] if answer.choices else None
        message: Json = {"role": "assistant"}
        if choice is not None and choice.calls:
            message["tool_plan"] = "".join(_thoughts(wanted))
            message["tool_calls"] = [_call(call.id, call.name, "".join(call.pieces)) for call in choice.calls]
        elif choice is not None:
            thinking = [{"type": "thinking", "thinking": "".join(_thoughts(wanted))}] if wanted.thinks else []
            message["content"] = [*thinking, {"type": "text", "text": "".join(choice.pieces)}]
        body: Json = {"id": answer.id, "message": message, "finish_reason": _STOPS[choice.finish if choice else None]}
        if answer.with_usage:
            body["usage"] = _usage(wanted, answer)
        return Reply(200, [("content-type", "application/json")], [Part(orjson.dumps(body))], wait=answer.wait)

    def stream(self, wanted: Wanted, answer: Answer) -> Reply:
        parts = [Part(_event(body), tag) for body, tag in _events(wanted, answer)]
        parts.append(Part(b"data: [DONE]\n\n", Tag.DONE))
        headers = [("content-type", "text/event-stream")]
        return Reply(200, headers, parts, stream=True, wait=answer.wait, framing=Framing.CHUNKED)

    def error(self, complaint: Complaint) -> bytes:
        message = complaint.message
        if complaint.code == "context_length_exceeded":
            message = "too many tokens: total number of tokens in the prompt cannot exceed 256000"
        elif complaint.code == "insufficient_quota":
            message = "You are using a Trial key, which is limited to 1000 API calls / month."
        return orjson.dumps({"id": "simulated", "message": message})

    def error_event(self, complaint: Complaint) -> bytes:
        delta = {"finish_reason": "ERROR", "error": complaint.message}
        return _event({"type": "message-end", "id": "simulated", "delta": delta})

    def content_event(self, wanted: Wanted, answer: Answer, text: str) -> bytes:
        return _event(_delta("content-delta", int(wanted.thinks), {"content": {"text": text}}))


def _check_key(headers: dict[str, str], rules: Rules) -> None:
    if rules.api_key is not None and headers.get("authorization") != f"Bearer {rules.api_key}":
        raise Complaint(401, "invalid api token")


def _wrong(message: str) -> Complaint:
    return Complaint(400, message)


def _read(body: object, rules: Rules) -> Wanted:
    if type(body) is not dict:
        raise _wrong("invalid request: cannot parse JSON")
    for name in ("model", "messages"):
        if not body.get(name):
            raise _wrong(f"invalid request: {name} is required")
    for name, value in body.items():
        if name not in _FIELDS:
            raise Complaint(422, f"unknown field: parameter '{name}' is not a valid field")
        if type(value) not in _FIELDS[name]:
            raise _wrong(f"invalid type: parameter '{name}'")
    if rules.models and body["model"] not in rules.models:
        raise Complaint(404, f"model '{body['model']}' not found")
    for message in body["messages"]:
        _check_message(message)
    tools = [Tool(tool["function"]["name"], tool["function"].get("parameters")) for tool in body.get("tools", ())]
    choice = body.get("tool_choice")
    calling = tools and choice != "NONE" and (choice == "REQUIRED" or body["messages"][-1]["role"] == "user")
    form = body.get("response_format", {})
    return Wanted(
        key=orjson.dumps([body["messages"], body.get("seed")], option=orjson.OPT_SORT_KEYS),
        model=body["model"],
        stream=body.get("stream", False),
        prompt_tokens=3 + sum(4 + len(orjson.dumps(message)) // 4 for message in body["messages"]),
        limit=body.get("max_tokens"),
        stop=tuple(body.get("stop_sequences", ())),
        calls=tuple(tools) if calling else (),
        schema=form.get("json_schema", _ANY_OBJECT) if form.get("type") == "json_object" else None,
        usage=True,
        thinks=body.get("thinking", {}).get("type") == "enabled",
    )


def _check_message(message: Any) -> None:
    role = message.get("role") if type(message) is dict else None
    if role not in _ROLES:
        raise _wrong(f"invalid request: unknown role {role!r}")
    if role == "tool" and not message.get("tool_call_id"):
        raise _wrong("invalid request: a tool message needs a tool_call_id")
    if role == "assistant" and not message.get("tool_calls") and "content" not in message:
        raise _wrong("invalid request: an assistant message needs content or tool calls")


def _thoughts(wanted: Wanted) -> list[str]:
    return list(text_pieces(Random(digest("thinking", wanted.key.hex())), _THOUGHTS))


def _call(id: str, name: str, arguments: str) -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _usage(wanted: Wanted, answer: Answer) -> Json:
    thoughts = _THOUGHTS if wanted.thinks else 0
    seen = {"input_tokens": answer.prompt_tokens, "output_tokens": answer.completion_tokens + thoughts}
    if thoughts:
        seen["reasoning_tokens"] = thoughts
    return {"billed_units": {"input_tokens": answer.prompt_tokens, "output_tokens": answer.completion_tokens},
            "tokens": seen}  # fmt: skip


def _event(body: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (body["type"].encode(), orjson.dumps(body))


def _delta(kind: str, index: int, message: Json) -> Json:
    return {"type": kind, "index": index, "delta": {"message": message}}


def _events(wanted: Wanted, answer: Answer) -> Iterator[tuple[Json, Tag]]:
    choice = answer.choices[0] if answer.choices else None
    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield {"type": "message-start", "id": answer.id, "delta": {"message": start}}, Tag.ROLE
    if choice is not None:
        yield from _calling(wanted, choice) if choice.calls else _saying(wanted, choice)
    if choice is not None and choice.finish is not None:
        delta: Json = {"finish_reason": _STOPS[choice.finish]}
        if answer.with_usage:
            delta["usage"] = _usage(wanted, answer)
        yield {"type": "message-end", "delta": delta}, Tag.FINISH


def _calling(wanted: Wanted, choice: Choice) -> Iterator[tuple[Json, Tag]]:
    for piece in _thoughts(wanted):
        yield {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}}, Tag.CONTENT
    for index, call in enumerate(choice.calls):
        yield _delta("tool-call-start", index, {"tool_calls": _call(call.id, call.name, "")}), Tag.CONTENT
        for piece in call.pieces:
            yield _delta("tool-call-delta", index, {"tool_calls": {"function": {"arguments": piece}}}), Tag.CONTENT
        yield {"type": "tool-call-end", "index": index}, Tag.ROLE


def _saying(wanted: Wanted, choice: Choice) -> Iterator[tuple[Json, Tag]]:
    blocks = [("thinking", _thoughts(wanted))] if wanted.thinks else []
    for index, (kind, pieces) in enumerate([*blocks, ("text", list(choice.pieces))]):
        yield _delta("content-start", index, {"content": {"type": kind, kind: ""}}), Tag.ROLE
        for piece in pieces:
            yield _delta("content-delta", index, {"content": {kind: piece}}), Tag.CONTENT
        yield {"type": "content-end", "index": index}, Tag.ROLE
