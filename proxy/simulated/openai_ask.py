"""Requests in OpenAI's form: what they ask for, and the complaints of the real API where they make no sense.

Facts from OpenAI's API reference and from the types of its Python SDK: roles, content parts, tools, formats.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from proxy.simulated.answer import Complaint, Tool, Wanted
from proxy.simulated.dialect import Rules
from proxy.simulated.openai_fields import CHAT, COMPLETION, checked, invalid, of_type, one_of, wrong_type

Json = dict[str, Any]

_ROLES = ("developer", "system", "user", "assistant", "tool", "function")
_PARTS = ("text", "image_url", "input_audio", "file", "refusal")
"""Kinds of content; the member of the same name holds it."""
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ANY_OBJECT = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "weight": {"type": "integer"}},
    "required": ["answer", "weight"],
}
_IMAGE_TOKENS = 85


def check_key(headers: dict[str, str], rules: Rules) -> None:
    """Raises Complaint (401) unless the key is the one demanded, if one is."""
    if rules.api_key is None:
        return
    given = headers.get("authorization", "")
    if not given:
        raise Complaint(401, "You didn't provide an API key; send it as 'Authorization: Bearer YOUR_KEY'.")
    if given != f"Bearer {rules.api_key}":
        raise Complaint(401, "Incorrect API key provided.", code="invalid_api_key")


def read_chat(body: object, rules: Rules) -> Wanted:
    """Raises Complaint."""
    ask = checked(body, CHAT, rules)
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
    ask = checked(body, COMPLETION, rules)
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
        echo=prompt if ask.get("echo") and type(prompt) is str else "",
        top=ask.get("logprobs"),
    )


def _key(*parts: object) -> bytes:
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)


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
        one_of(*_ROLES)(f"{where}.role", message["role"])
        calls = message.get("tool_calls")
        _check_content(where, message, bool(calls) or message.get("function_call") is not None)
        if calls is not None:
            called |= _called(where, calls)
        if message["role"] == "tool":
            of_type(str)(f"{where}.tool_call_id", message.get("tool_call_id"))
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
        of_type(str)(f"{here}.id", call.get("id"))
        if call.get("type", "function") == "function":
            of_type(dict)(f"{here}.function", call.get("function"))
            of_type(str)(f"{here}.function.name", call["function"].get("name"))
            of_type(str)(f"{here}.function.arguments", call["function"].get("arguments"))
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
        one_of(*_PARTS)(f"{here}.type", part.get("type"))
        member = part["type"]
        of_type(str if member in ("text", "refusal") else dict)(f"{here}.{member}", part.get(member))
        if member == "image_url":
            _check_image(here, part["image_url"])


def _check_image(here: str, image: Json) -> None:
    url = image.get("url")
    of_type(str)(f"{here}.image_url.url", url)
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
    one_of("text", "json_object", "json_schema")("response_format.type", wanted.get("type"))
    if wanted["type"] == "text":
        return None
    if wanted["type"] == "json_object":
        return _ANY_OBJECT
    described = wanted.get("json_schema")
    of_type(dict)("response_format.json_schema", described)
    of_type(str)("response_format.json_schema.name", wanted["json_schema"].get("name"))
    schema = wanted["json_schema"].get("schema", _ANY_OBJECT)
    of_type(dict)("response_format.json_schema.schema", schema)
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
        function = choice.get("function") if choice.get("type") == "function" else None
        name = function.get("name") if type(function) is dict else None
        if type(name) is not str or name not in tools:
            raise invalid("tool_choice", f"Invalid value for 'tool_choice': tool {name!r} not found in 'tools'.")
        return (tools[name],)
    one_of("none", "auto", "required")("tool_choice", choice)
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
