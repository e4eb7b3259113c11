"""Requests in OpenAI's form, checked as the real API checks them: its shapes, its ranges, its kind of complaint.

Facts from OpenAI's API reference and from the types of its Python SDK: names of the fields, ranges (temperature 0 to
2, penalties -2 to 2, `top_logprobs` 0 to 20, at most 4 stop sequences and 16 metadata pairs), codes of errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from proxy.simulated.answer import Complaint, Tool, Wanted
from proxy.simulated.dialect import Rules

Json = dict[str, Any]

_ROLES = ("developer", "system", "user", "assistant", "tool", "function")
_PART_MEMBERS = {
    "text": "text",
    "image_url": "image_url",
    "input_audio": "input_audio",
    "file": "file",
    "refusal": "refusal",
}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
}
_ANY_OBJECT = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "weight": {"type": "integer"}},
    "required": ["answer", "weight"],
}
_IMAGE_TOKENS = 85


def invalid(param: str, message: str, code: str = "invalid_value") -> Complaint:
    return Complaint(400, message, param=param, code=code)


def wrong_type(param: str, expected: str, value: object) -> Complaint:
    got = "null" if value is None else _NAMES.get(type(value), "something else")
    return invalid(param, f"Invalid type for '{param}': expected {expected}, but got {got} instead.", "invalid_type")


def check_key(headers: dict[str, str], rules: Rules) -> None:
    """Raises Complaint (401) unless the key is the one demanded, if one is."""
    if rules.api_key is None:
        return
    given = headers.get("authorization", "")
    if not given:
        raise Complaint(401, "You didn't provide an API key; send it as 'Authorization: Bearer YOUR_KEY'.")
    if given != f"Bearer {rules.api_key}":
        raise Complaint(401, "Incorrect API key provided.", code="invalid_api_key")


def _number(low: float, high: float) -> Callable[[str, object], None]:
    def check(param: str, value: object) -> None:
        if type(value) not in (int, float):
            raise wrong_type(param, "a decimal", value)
        _range(param, value, low, high, "decimal")

    return check


def _integer(low: float = float("-inf"), high: float = float("inf")) -> Callable[[str, object], None]:
    def check(param: str, value: object) -> None:
        if type(value) is not int:
            raise wrong_type(param, "an integer", value)
        _range(param, value, low, high, "integer")

    return check


def _range(param: str, value: Any, low: float, high: float, kind: str) -> None:
    if value < low:
        message = (
            f"Invalid '{param}': {kind} below minimum value. Expected a value >= {low:g}, but got {value} instead."
        )
        raise invalid(param, message, f"{kind}_below_min_value")
    if value > high:
        message = (
            f"Invalid '{param}': {kind} above maximum value. Expected a value <= {high:g}, but got {value} instead."
        )
        raise invalid(param, message, f"{kind}_above_max_value")


def _type(kind: type) -> Callable[[str, object], None]:
    def check(param: str, value: object) -> None:
        if type(value) is not kind:
            raise wrong_type(param, _NAMES[kind], value)

    return check


def _one_of(*names: str) -> Callable[[str, object], None]:
    def check(param: str, value: object) -> None:
        if type(value) is not str:
            raise wrong_type(param, "one of " + ", ".join(f"'{name}'" for name in names), value)
        if value not in names:
            supported = ", ".join(f"'{name}'" for name in names)
            raise invalid(param, f"Invalid value: '{value}'. Supported values are: {supported}.")

    return check


def _stop(param: str, value: object) -> None:
    stops = value if type(value) is list else [value]
    if len(stops) > 4:
        raise invalid(
            param, f"Invalid '{param}': array too long. Expected at most 4, got {len(stops)}.", "array_above_max_length"
        )
    for stop in stops:
        if type(stop) is not str:
            raise wrong_type(param, "a string or an array of strings", stop)


def _metadata(param: str, value: object) -> None:
    if type(value) is not dict:
        raise wrong_type(param, "an object", value)
    if len(value) > 16:
        raise invalid(
            param, "Invalid 'metadata': too many properties. Expected at most 16.", "object_above_max_properties"
        )
    for key, one in value.items():
        if type(one) is not str:
            raise wrong_type(f"{param}.{key}", "a string", one)


def _bias(param: str, value: object) -> None:
    if type(value) is not dict:
        raise wrong_type(param, "an object", value)
    for key, one in value.items():
        _number(-100, 100)(f"{param}.{key}", one)


def _free(param: str, value: object) -> None:
    """Taken as it is."""


def _not_simulated(param: str, value: object) -> None:
    raise invalid(param, f"The simulated upstream does not do '{param}'.", "unsupported_parameter")


_SHARED: dict[str, Callable[[str, object], None]] = {
    "model": _type(str),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "n": _integer(1, 128),
    "max_tokens": _integer(1),
    "seed": _integer(),
    "stop": _stop,
    "stream": _type(bool),
    "stream_options": _type(dict),
    "user": _type(str),
    "logit_bias": _bias,
}
_CHAT_FIELDS = _SHARED | {
    "messages": _type(list),
    "max_completion_tokens": _integer(1),
    "logprobs": _type(bool),
    "top_logprobs": _integer(0, 20),
    "metadata": _metadata,
    "parallel_tool_calls": _type(bool),
    "reasoning_effort": _one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "response_format": _type(dict),
    "service_tier": _one_of("auto", "default", "flex", "scale", "priority", "fast"),
    "store": _type(bool),
    "tools": _type(list),
    "tool_choice": _free,
    "verbosity": _one_of("low", "medium", "high"),
    "prompt_cache_key": _type(str),
    "safety_identifier": _type(str),
    "modalities": _free,
    "prediction": _free,
    "prompt_cache_options": _free,
    "prompt_cache_retention": _free,
    "moderation": _free,
    "audio": _not_simulated,
    "functions": _not_simulated,
    "function_call": _not_simulated,
    "web_search_options": _not_simulated,
}  # fmt: skip
_COMPLETION_FIELDS = _SHARED | {
    "prompt": _free, "best_of": _integer(1, 20), "echo": _type(bool), "logprobs": _integer(0, 5), "suffix": _type(str),
}  # fmt: skip


def read_chat(body: object, rules: Rules) -> Wanted:
    """Raises Complaint."""
    ask = _checked(body, _CHAT_FIELDS, rules)
    if "messages" not in ask:
        raise invalid("messages", "Missing required parameter: 'messages'.", "missing_required_parameter")
    messages = ask["messages"]
    _check_messages(messages)
    if "max_tokens" in ask and "max_completion_tokens" in ask:
        raise invalid(
            "max_tokens", "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        )
    if "top_logprobs" in ask and not ask.get("logprobs"):
        raise invalid("top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true.")
    stop = ask.get("stop", [])
    return Wanted(
        key=_key(messages, ask.get("seed")),
        model=ask["model"],
        stream=ask.get("stream", False),
        prompt_tokens=3 + sum(4 + _tokens(message.get("content")) for message in messages),
        n=ask.get("n", 1),
        limit=ask.get("max_completion_tokens", ask.get("max_tokens")),
        stop=(stop,) if type(stop) is str else tuple(stop),
        calls=_calls(ask, messages),
        schema=_format(ask.get("response_format")),
        top=ask.get("top_logprobs", 0) if ask.get("logprobs") else None,
        usage=ask.get("stream_options", {}).get("include_usage") is True,
    )


def read_completion(body: object, rules: Rules) -> Wanted:
    """Raises Complaint."""
    ask = _checked(body, _COMPLETION_FIELDS, rules)
    prompt = ask.get("prompt", "")
    if type(prompt) not in (str, list):
        raise wrong_type("prompt", "a string or an array", prompt)
    stop = ask.get("stop", [])
    return Wanted(
        key=_key(prompt, ask.get("seed")),
        model=ask["model"],
        stream=ask.get("stream", False),
        prompt_tokens=_tokens(prompt) if type(prompt) is str else len(prompt),
        n=ask.get("n", 1),
        limit=ask.get("max_tokens", 16),
        stop=(stop,) if type(stop) is str else tuple(stop),
        usage=ask.get("stream_options", {}).get("include_usage") is True,
        legacy=True,
    )


def _key(*parts: object) -> bytes:
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)


def _checked(body: object, fields: dict[str, Callable[[str, object], None]], rules: Rules) -> Json:
    """The request without its nulls, each known field checked."""
    if type(body) is not dict:
        raise Complaint(400, "We could not parse the JSON body of your request. It must be a JSON object.")
    if not body.get("model"):
        raise Complaint(400, "you must provide a model parameter")
    ask = {name: value for name, value in body.items() if value is not None}
    for name, value in ask.items():
        if name in fields:
            fields[name](name, value)
        elif rules.strict:
            raise invalid(name, f"Unknown parameter: '{name}'.", "unknown_parameter")
    if rules.models and ask["model"] not in rules.models:
        message = f"The model '{ask['model']}' does not exist or you do not have access to it."
        raise Complaint(404, message, code="model_not_found")
    if "stream_options" in ask and not ask.get("stream"):
        raise invalid("stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    return ask


def _check_messages(messages: list[Any]) -> None:
    if not messages:
        raise invalid(
            "messages", "Invalid 'messages': empty array. Expected an array with minimum length 1.", "empty_array"
        )
    called: set[object] = set()
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        if type(message) is not dict:
            raise wrong_type(where, "an object", message)
        if "role" not in message:
            raise invalid(f"{where}.role", f"Missing required parameter: '{where}.role'.", "missing_required_parameter")
        _one_of(*_ROLES)(f"{where}.role", message["role"])
        calls = message.get("tool_calls")
        _check_content(where, message, bool(calls) or message.get("function_call") is not None)
        if calls is not None:
            called |= _called(where, calls)
        if message["role"] == "tool":
            _type(str)(f"{where}.tool_call_id", message.get("tool_call_id"))
            if message["tool_call_id"] not in called:
                message_ = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise invalid(f"{where}.role", f"Invalid parameter: {message_}")


def _called(where: str, calls: object) -> set[object]:
    """The ids of an assistant's tool calls."""
    if type(calls) is not list:
        raise wrong_type(f"{where}.tool_calls", "an array of objects", calls)
    ids = set()
    for at, call in enumerate(calls):
        here = f"{where}.tool_calls[{at}]"
        if type(call) is not dict:
            raise wrong_type(here, "an object", call)
        _type(str)(f"{here}.id", call.get("id"))
        if call.get("type", "function") == "function":
            _type(dict)(f"{here}.function", call.get("function"))
            _type(str)(f"{here}.function.name", call["function"].get("name"))
            _type(str)(f"{here}.function.arguments", call["function"].get("arguments"))
        ids.add(call["id"])
    return ids


def _check_content(where: str, message: Json, may_lack: bool) -> None:
    content = message.get("content")
    if type(content) is str or (
        content is None and (may_lack or (message["role"] == "assistant" and "refusal" in message))
    ):
        return
    if type(content) is not list:
        raise wrong_type(f"{where}.content", "one of a string or array of objects", content)
    for at, part in enumerate(content):
        here = f"{where}.content[{at}]"
        if type(part) is not dict:
            raise wrong_type(here, "an object", part)
        _one_of(*_PART_MEMBERS)(f"{here}.type", part.get("type"))
        member = _PART_MEMBERS[part["type"]]
        value = part.get(member)
        _type(str if member in ("text", "refusal") else dict)(f"{here}.{member}", value)
        if member == "image_url":
            _check_image(here, part["image_url"])


def _check_image(here: str, image: Json) -> None:
    url = image.get("url")
    _type(str)(f"{here}.image_url.url", url)
    if not str(url).startswith(("data:", "http://", "https://")):
        raise invalid(
            f"{here}.image_url.url", "Invalid image URL: neither a data URL nor http(s).", "invalid_image_url"
        )


def _tokens(content: object) -> int:
    """About as many as a tokeniser would count: one in four characters."""
    if type(content) is str:
        return len(content) // 4 + 1
    if type(content) is list:
        return sum(_IMAGE_TOKENS if part.get("type") != "text" else _tokens(part["text"]) for part in content)
    return 0


def _format(wanted: Json | None) -> Any:
    """The schema that the answer must satisfy; None for text."""
    if wanted is None:
        return None
    _one_of("text", "json_object", "json_schema")("response_format.type", wanted.get("type"))
    if wanted["type"] == "text":
        return None
    if wanted["type"] == "json_object":
        return _ANY_OBJECT
    described = wanted.get("json_schema")
    _type(dict)("response_format.json_schema", described)
    _type(str)("response_format.json_schema.name", wanted["json_schema"].get("name"))
    schema = wanted["json_schema"].get("schema", _ANY_OBJECT)
    _type(dict)("response_format.json_schema.schema", schema)
    return schema


def _calls(ask: Json, messages: list[Any]) -> tuple[Tool, ...]:
    """The tools that the answer calls."""
    if "tools" not in ask:
        for needs in ("tool_choice", "parallel_tool_calls"):
            if needs in ask:
                raise invalid(needs, f"Invalid value for '{needs}': it is only allowed when 'tools' are specified.")
        return ()
    tools = {}
    for at, tool in enumerate(ask["tools"]):
        made = _tool(f"tools[{at}]", tool)
        tools[made.name] = made
    if not tools:
        raise invalid("tools", "Invalid 'tools': empty array. Expected an array with minimum length 1.", "empty_array")
    choice = ask.get("tool_choice", "auto")
    if type(choice) is dict:
        name = (choice.get("function") or {}).get("name") if choice.get("type") == "function" else None
        if name not in tools:
            raise invalid("tool_choice", f"Invalid value for 'tool_choice': tool {name!r} not found in 'tools'.")
        return (tools[name],)
    _one_of("none", "auto", "required")("tool_choice", choice)
    if choice == "none" or (choice == "auto" and messages[-1]["role"] == "tool"):
        return ()
    called = tuple(tools.values())
    return called if ask.get("parallel_tool_calls", True) else called[:1]


def _tool(where: str, tool: object) -> Tool:
    if type(tool) is not dict:
        raise wrong_type(where, "an object", tool)
    if tool.get("type") != "function":
        raise invalid(f"{where}.type", f"Invalid value: {tool.get('type')!r}. The simulated upstream knows 'function'.")
    function = tool.get("function")
    if type(function) is not dict:
        raise wrong_type(f"{where}.function", "an object", function)
    name = function.get("name")
    if type(name) is not str or not _TOOL_NAME.fullmatch(name):
        raise invalid(f"{where}.function.name", f"Invalid '{where}.function.name': 1 to 64 of a-z, A-Z, 0-9, _ and -.")
    schema = function.get("parameters")
    if schema is not None and type(schema) is not dict:
        raise wrong_type(f"{where}.function.parameters", "an object", schema)
    return Tool(name, schema)
