"""A chat completion request: a typed view over JSON that is otherwise kept as it came.

Only what the proxy itself reads is looked at; every other field, known to us or not, reaches the upstream untouched.
Where a field must change (the model's name, asking for usage), the bytes are edited in place, so that number formats,
key order and unknown fields survive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from proxy.errors import Refusal
from proxy.wire.chunk import Json

MODEL_LIMIT = 512
"""Characters of a model's name: it goes into headers and records."""

_MODEL = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.)*)"')

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_NUMBER = ((int, float), "a number")
_INTEGER = ((int,), "an integer")
_STRING = ((str,), "a string")
_BOOLEAN = ((bool,), "true or false")
_OBJECT = ((dict,), "an object")
_ARRAY = ((list,), "an array")

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "frequency_penalty": _NUMBER,
    "presence_penalty": _NUMBER,
    "max_tokens": _INTEGER,
    "max_completion_tokens": _INTEGER,
    "n": _INTEGER,
    "seed": ((int, float), "an integer"),  # one of more than 64 bits is read as a float here, and passed on as it came
    "top_logprobs": _INTEGER,
    "stream": _BOOLEAN,
    "logprobs": _BOOLEAN,
    "store": _BOOLEAN,
    "parallel_tool_calls": _BOOLEAN,
    "user": _STRING,
    "reasoning_effort": _STRING,
    "service_tier": _STRING,
    "verbosity": _STRING,
    "prompt_cache_key": _STRING,
    "prompt_cache_retention": _STRING,
    "safety_identifier": _STRING,
    "stop": ((str, list), "a string or an array of strings"),
    "tool_choice": ((str, dict), "a string or an object"),
    "function_call": ((str, dict), "a string or an object"),
    "tools": _ARRAY,
    "functions": _ARRAY,
    "modalities": _ARRAY,
    "metadata": _OBJECT,
    "logit_bias": _OBJECT,
    "response_format": _OBJECT,
    "stream_options": _OBJECT,
    "audio": _OBJECT,
    "prediction": _OBJECT,
    "web_search_options": _OBJECT,
}
"""Fields whose JSON type OpenAI's API reference has fixed for long; null always means "not given"."""


def _wrong(param: str, message: str, code: str = "invalid_type") -> Refusal:
    return Refusal(400, message, param=param, code=code)


class ChatRequest:
    """A request whose outer form has been checked. `body` is the parsed JSON and must not be changed."""

    __slots__ = ("body", "model", "n", "raw", "stream", "wants_usage")

    def __init__(self, raw: bytes, body: Json) -> None:
        self.raw = raw
        self.body = body
        self.model: str = body["model"]
        self.stream: bool = body.get("stream") is True
        self.n: int = body.get("n") or 1
        options = body.get("stream_options")
        self.wants_usage: bool = bool(options and options.get("include_usage"))

    @classmethod
    def parse(cls, raw: bytes) -> ChatRequest:
        """Raises `Refusal` (400) with the parameter at fault and how to mend it."""
        body = parse_object(raw)
        _check(body)
        return cls(raw, body)

    def for_upstream(
        self,
        model: str,
        *,
        ask_usage: bool,
        params: Mapping[str, Any] | None = None,
        force: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The body to send: the model replaced, usage asked for, defaults added and forced values set.

        `params` fill in what the request leaves out; `force` wins over it. `max_tokens` and `max_completion_tokens`
        count as one. Raises `Refusal` where the body cannot be written again (nested too deep).
        """
        body = self.body
        added: Json = {}
        if ask_usage and self.stream and not self.wants_usage:
            options = body.get("stream_options")
            if options is not None or "stream_options" in body:
                force = {**(force or {}), "stream_options": {**(options or {}), "include_usage": True}}
            else:
                added["stream_options"] = {"include_usage": True}
        if params:
            added.update({key: value for key, value in params.items() if not _given(key, body)})
        if not force and not (added and any(key in body for key in added)):
            spliced = self._spliced(model, added)
            if spliced is not None:
                return spliced
        whole = {**body, **added, "model": model}
        for key, value in (force or {}).items():
            for twin in _TWINS.get(key, ()):
                whole.pop(twin, None)
            whole[key] = value
        try:
            return orjson.dumps(whole)
        except orjson.JSONEncodeError as error:
            raise Refusal(400, f"The request body cannot be passed on: {error}. Nest it less deeply.") from error

    def filled(self, params: Mapping[str, Any] | None = None, force: Mapping[str, Any] | None = None) -> Json:
        """The body with `params` and `force` as in `for_upstream`, without nulls: what a translation starts from."""
        whole = {key: value for key, value in self.body.items() if value is not None}
        if params:
            whole.update({key: value for key, value in params.items() if not _given(key, self.body)})
        for key, value in (force or {}).items():
            for twin in _TWINS.get(key, ()):
                whole.pop(twin, None)
            whole[key] = value
        return whole

    def _spliced(self, model: str, added: Json) -> bytes | None:
        """The bytes with the edits made in place; None where that is not certain to be right.

        Certain means: the characters `"model"` stand in the body once, followed by the very value that was parsed,
        and no escaped letter could have spelled the key a second time.
        """
        raw = self.raw
        at = raw.find(b'"model"')
        if at < 0 or raw.find(b'"model"', at + 7) >= 0 or b"\\u00" in raw:
            return None
        if model != self.model:
            match = _MODEL.match(raw, at)
            if match is None or match[1] != self.model.encode():
                return None
            start, end = match.span(1)
            raw = b"%b%b%b" % (raw[: start - 1], orjson.dumps(model), raw[end + 1 :])
        if added:
            raw = b"%b,%b" % (raw.rstrip(b" \t\r\n")[:-1], orjson.dumps(added)[1:])
        return raw


_TWINS = {"max_tokens": ("max_completion_tokens",), "max_completion_tokens": ("max_tokens",)}


def _given(key: str, body: Json) -> bool:
    return body.get(key) is not None or any(body.get(twin) is not None for twin in _TWINS.get(key, ()))


def parse_object(raw: bytes) -> Json:
    """The request body as an object. Raises `Refusal` (400)."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if not raw.strip():
            raise Refusal(400, "The request body is empty. Send a JSON object with `model` and `messages`.") from None
        raise Refusal(400, f"The request body is not valid JSON in UTF-8: {error}.", code="invalid_json") from None
    if type(body) is not dict:
        raise Refusal(400, "The request body must be a JSON object with `model` and `messages`.", code="invalid_type")
    return body


def _check(body: Json) -> None:
    model = body.get("model")
    if type(model) is not str or not model:
        message = "`model` is missing." if model is None else "`model` must be a non-empty string."
        raise _wrong("model", f"{message} Name a route or `provider/model`; GET /v1/models lists them.")
    if len(model) > MODEL_LIMIT or _CONTROL.search(model):
        message = f"`model` must be at most {MODEL_LIMIT} characters without control characters."
        raise _wrong("model", message, "invalid_value")
    messages = body.get("messages")
    if type(messages) is not list or not messages:
        raise _wrong("messages", "`messages` must be a non-empty array of messages, each with a `role`.")
    for index, message in enumerate(messages):
        if type(message) is not dict or type(message.get("role")) is not str:
            raise _wrong(f"messages[{index}]", f"`messages[{index}]` must be an object with a string `role`.")
        content = message.get("content")
        if content is not None and type(content) is not str and type(content) is not list:
            raise _wrong(
                f"messages[{index}].content", f"`messages[{index}].content` must be a string or an array of parts."
            )
    for key, value in body.items():
        if value is not None and key in _TYPES:
            allowed, words = _TYPES[key]
            if type(value) not in allowed:
                raise _wrong(key, f"`{key}` must be {words}, not {_name(value)}.")
    n = body.get("n")
    if n is not None and not 1 <= n <= 128:
        raise _wrong("n", "`n` must be between 1 and 128.", "invalid_value")
    for key in ("tools", "functions"):
        for index, tool in enumerate(body.get(key) or ()):
            if type(tool) is not dict:
                raise _wrong(f"{key}[{index}]", f"`{key}[{index}]` must be an object, not {_name(tool)}.")


def _name(value: object) -> str:
    names = {str: "a string", int: "an integer", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), "true or false")
