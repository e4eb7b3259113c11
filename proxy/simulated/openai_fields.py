"""The fields of a request in OpenAI's form, each with the check that the real API makes.

Facts from OpenAI's API reference and from the types of its Python SDK: names of the fields, ranges (temperature 0 to
2, penalties -2 to 2, `top_logprobs` 0 to 20, at most 4 stop sequences and 16 metadata pairs), codes of errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.simulated.answer import Complaint
from proxy.simulated.dialect import Rules

Json = dict[str, Any]

_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
}


def invalid(param: str, message: str, code: str = "invalid_value") -> Complaint:
    return Complaint(400, message, param=param, code=code)


def wrong_type(param: str, expected: str, value: object) -> Complaint:
    got = "null" if value is None else _NAMES.get(type(value), "something else")
    return invalid(param, f"Invalid type for '{param}': expected {expected}, but got {got} instead.", "invalid_type")


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


def of_type(kind: type) -> Callable[[str, object], None]:
    def check(param: str, value: object) -> None:
        if type(value) is not kind:
            raise wrong_type(param, _NAMES[kind], value)

    return check


def one_of(*names: str) -> Callable[[str, object], None]:
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
    "model": of_type(str),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "n": _integer(1, 128),
    "max_tokens": _integer(1),
    "seed": _integer(),
    "stop": _stop,
    "stream": of_type(bool),
    "stream_options": of_type(dict),
    "user": of_type(str),
    "logit_bias": _bias,
}
CHAT = _SHARED | {
    "messages": of_type(list),
    "max_completion_tokens": _integer(1),
    "logprobs": of_type(bool),
    "top_logprobs": _integer(0, 20),
    "metadata": _metadata,
    "parallel_tool_calls": of_type(bool),
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "response_format": of_type(dict),
    "service_tier": one_of("auto", "default", "flex", "scale", "priority", "fast"),
    "store": of_type(bool),
    "tools": of_type(list),
    "tool_choice": _free,
    "verbosity": one_of("low", "medium", "high"),
    "prompt_cache_key": of_type(str),
    "safety_identifier": of_type(str),
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
COMPLETION = _SHARED | {
    "prompt": _free, "best_of": _integer(1, 20), "echo": of_type(bool), "logprobs": _integer(0, 5),
    "suffix": of_type(str),
}  # fmt: skip

RESPONSES: dict[str, Callable[[str, object], None]] = {
    "model": of_type(str),
    "input": _free,
    "instructions": of_type(str),
    "stream": of_type(bool),
    "stream_options": of_type(dict),
    "store": of_type(bool),
    "background": _not_simulated,
    "include": of_type(list),
    "max_output_tokens": _integer(16),
    "max_tool_calls": _integer(1),
    "metadata": _metadata,
    "parallel_tool_calls": of_type(bool),
    "previous_response_id": of_type(str),
    "conversation": _free,
    "prompt": _not_simulated,
    "prompt_cache_key": of_type(str),
    "reasoning": of_type(dict),
    "safety_identifier": of_type(str),
    "service_tier": one_of("auto", "default", "flex", "scale", "priority", "fast"),
    "temperature": _number(0, 2),
    "text": of_type(dict),
    "tool_choice": _free,
    "tools": of_type(list),
    "top_logprobs": _integer(0, 20),
    "top_p": _number(0, 1),
    "truncation": one_of("auto", "disabled"),
    "user": of_type(str),
}
EMBEDDINGS: dict[str, Callable[[str, object], None]] = {
    "model": of_type(str),
    "input": _free,
    "dimensions": _integer(1, 4096),
    "encoding_format": one_of("float", "base64"),
    "user": of_type(str),
}


def checked(body: object, fields: dict[str, Callable[[str, object], None]], rules: Rules) -> Json:
    """The request without its nulls, each known field checked."""
    if type(body) is not dict:
        raise Complaint(400, "We could not parse the JSON body of your request. It must be a JSON object.")
    if not body.get("model"):
        raise Complaint(400, "you must provide a model parameter")
    ask = {name: value for name, value in body.items() if value is not None}
    for name, value in ask.items():
        if name in rules.refused:
            raise invalid(name, f"Unsupported parameter: '{name}' is not supported.", "unsupported_parameter")
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
