"""Requests to servers that are nearly OpenAI's: what they refuse is left out, renamed, or told to the client."""

from __future__ import annotations

import re

from proxy.errors import Refusal
from proxy.providers.base import Built, Endpoint
from proxy.providers.openai import as_it_came
from proxy.providers.quirks import LEVEL, Quirks
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json
from proxy.wire.request import dumped, parameters


def build(ask: ChatRequest, to: Endpoint) -> Built:
    """The request with the row's quirks applied. Raises `Refusal` (400) for what would change the answer's form."""
    changed, dropped = adapted(ask, to)
    return built(changed, dropped, ask, to)


def built(changed: Json, dropped: tuple[str, ...], ask: ChatRequest, to: Endpoint) -> Built:
    """The bytes as they came where nothing had to change."""
    if changed == ask.filled(to.params, to.force) and not to.quirks.drop & ask.body.keys():
        return as_it_came(ask, to)
    body = written(changed, ask, to)
    return Built(dumped(body), dropped, sent=parameters(body))


def adapted(ask: ChatRequest, to: Endpoint) -> tuple[Json, tuple[str, ...]]:
    """The request in the provider's words, and what was dropped."""
    quirks = to.quirks
    body = ask.filled(to.params, to.force)
    _refuse(body, to)
    dropped: list[str] = []
    if ask.translated:
        body = _plain(body, quirks, dropped)
    changed = {**body, "messages": [_message(one, quirks, dropped) for one in body["messages"]]}
    _drop(changed, to, dropped)
    _effort(changed, quirks)
    for name, spelled in quirks.rename:
        if name in changed:
            value = changed.pop(name)
            changed.setdefault(spelled, value)
    for name, value, spelled in quirks.values:
        if changed.get(name) == value:
            changed[name] = spelled
    return changed, tuple(dict.fromkeys(dropped))


def written(body: Json, ask: ChatRequest, to: Endpoint) -> Json:
    """The body, with the model's name there and usage asked for where it may be."""
    body = {**body, "model": to.model}
    if ask.stream and to.usage_in_stream:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return body


def _refuse(body: Json, to: Endpoint) -> None:
    refused = to.quirks.refuse
    many = (body.get("n") or 1) > 1
    if many and ("n" in refused or ("n_with_tools" in refused and body.get("tools"))):
        with_tools = "" if "n" in refused else " together with `tools`"
        raise _cannot("n", f"`n` above 1{with_tools} is not possible with {to.provider}.")
    format = body.get("response_format")
    if "json_schema" in refused and type(format) is dict and format.get("type") == "json_schema":
        raise _cannot("response_format", f"{to.provider} takes no JSON schema; it knows `json_object`.")
    choice = body.get("tool_choice")
    if "tool_choice" in refused and choice not in (None, "auto", "none"):
        raise _cannot("tool_choice", f"{to.provider} cannot be made to call a tool; it knows `auto` and `none`.")

    for name in sorted(refused & _REFUSABLE & body.keys()):
        raise _cannot(name, f"`{name}` is not possible with {to.provider}.")


_REFUSABLE = frozenset({"audio", "functions", "function_call", "web_search_options"})


def _cannot(param: str, message: str) -> Refusal:
    return Refusal(400, message, param=param, code="unsupported_parameter")


def _drop(body: Json, to: Endpoint, dropped: list[str]) -> None:
    quirks = to.quirks
    names = quirks.drop
    if quirks.reasoning_model and re.search(quirks.reasoning_model, to.model):
        names |= quirks.reasoning_drop
    if quirks.unreasoning_model and re.search(quirks.unreasoning_model, to.model):
        names |= {"reasoning_effort"}
    tier = body.get("service_tier")
    if tier is not None and quirks.service_tiers is not None and tier not in quirks.service_tiers:
        names |= {"service_tier"}
    for name in sorted(names & body.keys()):
        value = body.pop(name)
        # Usage comes all the same where this option is left out, and false is what all of these are by default.
        if name != "stream_options" and value is not False:
            dropped.append(name)


def _effort(body: Json, quirks: Quirks) -> None:
    if quirks.effort is None or "reasoning_effort" not in body:
        return
    off, on = quirks.effort
    level = body.pop("reasoning_effort")
    for name, value in (off if level == "none" else on).items():
        body.setdefault(name, level if value is LEVEL else value)


def _plain(body: Json, quirks: Quirks, dropped: list[str]) -> Json:
    """A request that came in another form, without what only some providers know of it."""
    told = {**body, "messages": [_plain_message(one, quirks, dropped) for one in body["messages"]]}
    if "tools" in body and not quirks.marks:
        told["tools"] = [_unmarked(tool, dropped) for tool in body["tools"]]
    return told


def _plain_message(message: Json, quirks: Quirks, dropped: list[str]) -> Json:
    told = dict(message)
    if told.pop("is_error", False) and type(told.get("content")) is str:
        told["content"] = f"Error: {told['content']}"
    if not quirks.marks:
        told = _unmarked(told, dropped)
        told.pop("reasoning_details", None)
        if type(told.get("content")) is list:
            told["content"] = [_unmarked(part, dropped) for part in told["content"]]
    if not quirks.signs_calls:
        told.pop("extra_content", None)
        if "tool_calls" in told:
            told["tool_calls"] = [
                {key: value for key, value in call.items() if key != "extra_content"} for call in told["tool_calls"]
            ]
    return told


def _unmarked(holder: Json, dropped: list[str]) -> Json:
    if "cache_control" not in holder:
        return holder
    dropped.append("cache_control")
    return {key: value for key, value in holder.items() if key != "cache_control"}


def _message(message: Json, quirks: Quirks, dropped: list[str]) -> Json:
    """The same message in words that the provider knows; the very object where nothing changes."""
    change: Json = {}
    gone = [name for name in quirks.message_drop if message.get(name) is not None]
    dropped += [f"messages.{name}" for name in gone if name not in _ANSWERED]
    if message["role"] == "developer" and not quirks.developer:
        change["role"] = "system"
    gone += [name for name in quirks.message_drop if name in message and name not in gone]
    thinking = message.get("reasoning_content")
    if thinking is not None and quirks.thinking_back != "reasoning_content":
        gone.append("reasoning_content")
        if quirks.thinking_back:
            change.setdefault(quirks.thinking_back, thinking)
    if not change and not gone:
        return message
    return {**{key: value for key, value in message.items() if key not in gone}, **change}


_ANSWERED = {"refusal", "annotations", "audio", "reasoning", "reasoning_details"}
"""What an assistant's message brings back of an answer, and what no model reads again."""
