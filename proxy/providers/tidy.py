"""Parts of an answer that is nearly OpenAI's, brought into the shape of OpenAI's own types.

Seen in recorded traffic of compatible servers: contents that are lists, reasoning under three names, calls without
type, index or arguments, cached tokens in five places. Members that OpenAI does not know stay under their own names,
but for those that say nothing (null) and values outside of a closed set.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.providers.frame import malformed
from proxy.providers.quirks import Quirks
from proxy.wire.chunk import Json, Usage, usage_of
from proxy.wire.scribe import FINISH_REASONS

SERVICE_TIERS = {"auto", "default", "flex", "scale", "priority", "fast"}
"""What OpenAI's types allow (openai 2.54)."""
FAILED = {"error", "insufficient_system_resource", "network_error", "abort"}
"""Finish reasons that tell of a failure of the provider (OpenRouter and Mistral, DeepSeek, Z.ai, SGLang)."""
_FINISH = {
    "model_length": "length",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "max_output_tokens": "length",
    "data_inspection_failed": "content_filter",
    "sensitive": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
    "guardrail_intervened": "content_filter",
}
"""Words of the models' makers too, which gateways before them let through."""
_OWN = {"role", "content", "refusal", "reasoning_content", "tool_calls", "function_call", "annotations", "audio"}


def finish(reason: str, called: bool) -> str:
    """One of the five literals; unknown reasons are `stop`, and `stop` is `tool_calls` where calls were made."""
    reason = _FINISH.get(reason.lower(), reason.lower())
    if reason not in FINISH_REASONS or reason == "stop":
        return "tool_calls" if called else "stop"
    return reason


def texts(message: Json) -> tuple[str, str]:
    """Text and reasoning. Content may be a list of `text` and `thinking` parts (Mistral)."""
    content = message.get("content")
    reasoning = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
    if type(content) is not list:
        return _text(content), reasoning
    said, thought = [], []
    for part in content:
        if type(part) is str:
            said.append(part)
        elif type(part) is dict and part.get("type") == "thinking":
            thinking = part.get("thinking")
            pieces = thinking if type(thinking) is list else [thinking]
            thought += [_text(one.get("text")) if type(one) is dict else _text(one) for one in pieces]
        elif type(part) is dict:
            said.append(_text(part.get("text")))
    return "".join(said), "".join(thought) + reasoning


def _text(value: object) -> str:
    return value if type(value) is str else ""


def calls_in(message: Json) -> list[Json]:
    """The calls of a message or a delta, or their pieces. Raises `UpstreamError` for one that is no object."""
    told = message.get("tool_calls")
    calls = [one for one in told if one is not None] if type(told) is list else []
    if any(type(one) is not dict for one in calls):
        raise malformed("a tool call is not an object")
    return calls


def arguments(value: object) -> str:
    """A JSON string, whatever they were sent as."""
    if value is None:
        return ""
    return value if type(value) is str else orjson.dumps(value).decode()


def function(call: Json) -> tuple[str, str]:
    """Name and arguments of a call or a piece of one; those of a custom tool where it has no function."""
    told = call.get("function")
    custom = call.get("custom")
    if type(custom) is dict and custom.get("name") and not (type(told) is dict and told.get("name")):
        return _text(custom.get("name")), orjson.dumps(custom.get("input") or "").decode()
    if type(told) is not dict:
        return "", ""
    return _text(told.get("name")), arguments(told.get("arguments"))


def extras(message: Json) -> Json:
    """What else a message or a delta holds. `reasoning` is left out, since it is told as `reasoning_content`."""
    kept = {key: value for key, value in message.items() if value is not None and key not in _OWN}
    if type(kept.get("reasoning")) is str:
        del kept["reasoning"]
    audio = message.get("audio")
    if type(audio) is dict and (audio.get("id") or audio.get("data") or audio.get("transcript")):
        kept["audio"] = audio
    legacy = message.get("function_call")
    if type(legacy) is dict and (legacy.get("name") or legacy.get("arguments")):
        named = {"name": _text(legacy["name"])} if "name" in legacy else {}
        kept["function_call"] = {**legacy, **named, "arguments": arguments(legacy.get("arguments"))}
    noted = message.get("annotations")
    if type(noted) is list:
        fitting = [one for one in noted if is_citation(one)]
        if fitting:
            kept["annotations"] = fitting
        if len(fitting) < len(noted):
            kept["provider_annotations"] = [one for one in noted if not is_citation(one)]
    return kept


def is_audio(one: Json) -> bool:
    """All that OpenAI's type of a whole answer's sound asks for."""
    texts = (one.get(name) for name in ("id", "data", "transcript"))
    return type(one.get("expires_at")) is int and all(type(text) is str for text in texts)


def is_citation(one: object) -> bool:
    """OpenAI knows one kind of annotation, and it needs places in the text, a title and an address."""
    if type(one) is not dict or one.get("type") != "url_citation":
        return False
    told = one.get("url_citation")
    if type(told) is not dict:
        return False
    places = all(type(told.get(name)) is int for name in ("start_index", "end_index"))
    return places and all(type(told.get(name)) is str for name in ("title", "url"))


def logprobs(told: object) -> Json | None:
    if type(told) is not dict or not any(value is not None for value in told.values()):
        return None
    whole = dict(told)
    for name in ("content", "refusal"):
        entries = told.get(name)
        whole[name] = [_logprob(one) for one in _tokens(entries)] if type(entries) is list else None
    return whole


def _tokens(entries: object) -> list[Json]:
    """Those that name a token and its probability: without either an entry says nothing."""
    told = [one for one in entries if type(one) is dict] if type(entries) is list else []
    return [one for one in told if type(one.get("token")) is str and type(one.get("logprob")) in (int, float)]


def _logprob(entry: Json) -> Json:
    return {
        **entry,
        "bytes": _utf8(entry.get("bytes")),
        "top_logprobs": [{**one, "bytes": _utf8(one.get("bytes"))} for one in _tokens(entry.get("top_logprobs"))],
    }


def _utf8(told: object) -> list[int] | None:
    return told if type(told) is list and all(type(one) is int for one in told) else None


def head(body: Json) -> Json:
    """The further members of an answer or a chunk, beside id, object, created, model, choices and usage."""
    kept: Json = {}
    for key, value in body.items():
        if value is None or key in ("id", "object", "created", "model", "choices", "usage"):
            continue
        if key in _NAMES and (type(value) is not str or not value):
            continue
        if key == "service_tier" and value not in SERVICE_TIERS:
            continue
        if key == "x_groq" and type(value) is dict:
            value = {name: part for name, part in value.items() if name != "usage"}
        kept[key] = value
    return kept


_NAMES = {"service_tier", "system_fingerprint", "obfuscation"}


def created(body: Json) -> int:
    """Seconds since the epoch; 0 where it is not told."""
    return _count(_object(body).get("created"))


def usage_in(body: Json) -> Json | None:
    """Where usage stands: at the top, in `x_groq` (Groq), or in the last choice (Moonshot)."""
    found = body.get("usage")
    if type(found) is dict and found:
        return found
    groq = body.get("x_groq")
    if type(groq) is dict and type(groq.get("usage")) is dict:
        return dict(groq["usage"])
    choices = body.get("choices")
    for choice in choices if type(choices) is list else ():
        if type(choice) is dict and type(choice.get("usage")) is dict:
            return dict(choice["usage"])
    return None


def usage(told: Json, quirks: Quirks, tier: object = None) -> tuple[Usage, Json] | None:
    """The classes, and OpenAI's object with the provider's further members (`cost`, times, ...) kept.

    None where nothing was counted. Parts larger than their whole are cut to it. `tier`: the answer's `service_tier`.
    """
    if told.get("prompt_tokens") is None:
        return None
    counts = _object(told)
    prompt_details = {**_object(told.get("prompt_token_details")), **_object(told.get("prompt_tokens_details"))}
    completion_details = _object(told.get("completion_tokens_details"))
    prompt_details["cached_tokens"] = max(
        _count(prompt_details.get("cached_tokens")), *(_count(counts.get(name)) for name in _CACHED)
    )
    reasoning = _count(completion_details.get("reasoning_tokens")) or _count(counts.get("reasoning_tokens"))
    completion_details["reasoning_tokens"] = reasoning
    prompt, completion = _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))
    total = counts.get("total_tokens")
    apart = total == prompt + completion + reasoning if type(total) is int else quirks.reasoning_apart
    if reasoning and apart:
        completion += reasoning
    whole = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": completion_details,
    }
    classes = usage_of({**told, **whole}, tier or told.get("service_tier"))
    prompt_details["cached_tokens"] = classes.cache_read
    if "cache_write_tokens" in prompt_details:
        prompt_details["cache_write_tokens"] = classes.cache_write
    completion_details["reasoning_tokens"] = classes.reasoning
    kept = {key: value for key, value in told.items() if value is not None and key not in whole}
    return classes, {**kept, **whole, "total_tokens": prompt + completion}


_CACHED = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")
"""DeepSeek; Together and Moonshot; Mistral."""


def _object(value: object) -> Json:
    """Counts; what is no number, or one that no answer can have, says nothing."""
    if type(value) is not dict:
        return {}
    return {key: int(one) for key, one in value.items() if type(one) in (int, float) and abs(one) < _MOST}


_MOST = 10**12


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
