"""The candidate's request: the live one, but for what the experiment changes; and what must not be asked twice."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import orjson

from proxy.config.shadow import Candidate
from proxy.errors import Refusal
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json
from proxy.wire.request import Request

_REMEMBERS = ("background", "conversation", "previous_response_id", "container")
"""Members whose request leaves something behind at the provider, or goes on from there."""
_OWN_TOOLS = ("function", "custom", None)
"""Types of tools that the client itself would run; all others the provider runs (searches, code, computers)."""


class Incompatible(Exception):
    """The request cannot be mirrored; the text says why."""


def mirrored(ask: Request, candidate: Candidate, unit: str) -> Request:
    """Raises `Incompatible`. Nothing is stored at the provider, and no tool with effects runs there."""
    _check(ask.body)
    ask = unstored(ask)
    if candidate.system is None and not (candidate.prefix or candidate.suffix or candidate.cache_bust):
        return ask
    if not isinstance(ask, ChatRequest):
        try:
            ask = ask.as_chat()
        except Refusal as refusal:
            raise Incompatible(refusal.message) from None
    messages = [*_edited(ask.body["messages"], candidate)]
    if candidate.cache_bust:
        messages.insert(0, {"role": "system", "content": f"[{unit}]"})
    return _with(ask, {"messages": messages})


def unstored(ask: Request) -> Request:
    """The very same, but that nothing of it is kept at the provider."""
    return _with(ask, {"store": False}) if ask.body.get("store") else ask


def chat_body(ask: Request) -> Json:
    """The request in chat form, for scorers; empty where it has none."""
    if isinstance(ask, ChatRequest):
        return ask.body
    try:
        return ask.as_chat().body
    except Refusal:
        return {}


def _check(body: Json) -> None:
    for name in _REMEMBERS:
        if body.get(name):
            raise Incompatible(f"`{name}` leaves something behind at the provider")
    for name in ("tools", "messages"):
        listed = body.get(name) or []
        if not (isinstance(listed, list) and all(isinstance(one, dict) for one in listed)):
            raise Incompatible(f"`{name}` is no list of objects")
    for tool in body.get("tools") or ():
        if tool.get("type") not in _OWN_TOOLS:
            raise Incompatible(f"the provider itself would run the tool `{tool.get('type')}`")
    if body.get("web_search_options") is not None or body.get("mcp_servers"):
        raise Incompatible("the provider itself would run a search")


def _with(ask: Request, changes: Json) -> Request:
    made = copy.copy(ask)
    made.body = {**ask.body, **changes}
    made.raw = orjson.dumps(made.body)
    return made


def _edited(messages: list[Json], candidate: Candidate) -> Iterator[Json]:
    last = max((place for place, message in enumerate(messages) if message.get("role") == "user"), default=None)
    if candidate.system is not None:
        yield {"role": "system", "content": candidate.system}
    for place, message in enumerate(messages):
        if candidate.system is not None and message.get("role") in ("system", "developer"):
            continue
        yield _around(message, candidate.prefix or "", candidate.suffix or "") if place == last else message


def _around(message: Json, prefix: str, suffix: str) -> Json:
    content = message.get("content")
    if isinstance(content, list):
        parts = [{"type": "text", "text": text} for text in (prefix, suffix)]
        return {**message, "content": [*([parts[0]] if prefix else []), *content, *([parts[1]] if suffix else [])]}
    return {**message, "content": f"{prefix}{content or ''}{suffix}"}
