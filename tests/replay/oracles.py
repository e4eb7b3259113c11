"""Upstream requests judged by the providers' own Python packages: each gives the reasons why a body is wrong.

The packages do not check what they send: their types are annotations. Two things are mended before they can judge.
pydantic looks into an `Iterable` only when it is read, so that a wrong message would pass: it becomes a `List`. And
members that a type does not have are let through: they are forbidden.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, ForwardRef, Literal, NotRequired, Required, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict, get_type_hints, is_typeddict

Oracle = Callable[[dict[str, Any]], Iterator[str]]

_LISTS: set[Any] = {Iterable, Sequence, list}
_LITERAL: set[Any] = {Literal}
_ANNOTATED: set[Any] = {Annotated}
_REQUIRED: set[Any] = {Required}
_OPTIONAL: set[Any] = {NotRequired}
_UNIONS: set[Any] = {Union, UnionType}


def strict(told: Any, seen: dict[Any, Any]) -> Any:
    """The same type, with lists that are looked into and without room for unknown members."""
    if is_typeddict(told):
        return _strict_dict(told, seen)
    origin = get_origin(told)
    if origin in (None, *_LITERAL) or isinstance(told, ForwardRef):
        return told
    arguments = get_args(told)
    if origin in _ANNOTATED:
        return strict(arguments[0], seen)
    inner = tuple(strict(one, seen) for one in arguments)
    if origin in _LISTS:
        return list[inner[0]]  # type: ignore[valid-type]
    if origin in _UNIONS:
        return Union[inner]  # noqa: UP007  (made from a tuple)
    return told if inner == arguments else origin[inner]


def _strict_dict(told: Any, seen: dict[Any, Any]) -> Any:
    if told in seen:
        return seen[told]
    functional: Any = TypedDict
    made = seen[told] = functional(told.__name__, {})
    required = set()
    inherited = {name for base in getattr(told, "__orig_bases__", ()) for name in getattr(base, "__annotations__", ())}
    for name, hint in get_type_hints(told, include_extras=True).items():
        # The class's own list of what is required is empty where annotations are kept as text.
        mark = get_origin(hint)
        needed = mark in _REQUIRED or (told.__total__ and name not in inherited and mark not in _OPTIONAL)
        inner = get_args(hint)[0] if mark in _REQUIRED | _OPTIONAL else hint
        made.__annotations__[name] = (Required if needed else NotRequired)[strict(inner, seen)]
        if needed:
            required.add(name)
    made.__required_keys__ = frozenset(required)
    made.__optional_keys__ = frozenset(made.__annotations__) - required
    made.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return made


@cache
def _adapter(told: Any) -> TypeAdapter[Any]:
    return TypeAdapter(strict(told, {}))


def _reasons(adapter: TypeAdapter[Any], value: Any) -> Iterator[str]:
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        yield _shortest(error)


def _shortest(error: ValidationError) -> str:
    """Of all the members of a union that did not fit, the one that came furthest."""
    one = max(error.errors(), key=lambda fault: len([place for place in fault["loc"] if isinstance(place, int)]))
    return f"{'.'.join(map(str, one['loc']))}: {one['msg']}"


def openai(body: dict[str, Any]) -> Iterator[str]:
    from openai.types.chat import completion_create_params as params

    kind = "Streaming" if body.get("stream") else "NonStreaming"
    yield from _reasons(_adapter(getattr(params, f"CompletionCreateParams{kind}")), body)


def anthropic(body: dict[str, Any]) -> Iterator[str]:
    """`temperature`, `top_p` and `top_k` have left the types, but models that take them are still served."""
    from anthropic.types import message_create_params as params

    known = dict(body)
    for name, most in (("temperature", 1), ("top_p", 1), ("top_k", 10**6)):
        value = known.pop(name, 0)
        if not isinstance(value, int | float) or not 0 <= value <= most:
            yield f"{name}: {value!r}"
    kind = "Streaming" if body.get("stream") else "NonStreaming"
    yield from _reasons(_adapter(getattr(params, f"MessageCreateParams{kind}")), known)
    yield from _anthropic_turns(body.get("messages"))


def _anthropic_turns(messages: Any) -> Iterator[str]:
    """What the types cannot say: every call is answered at the start of the next turn."""
    open_calls: set[str] = set()
    for place, message in enumerate(messages if isinstance(messages, list) else []):
        blocks = message.get("content") if isinstance(message.get("content"), list) else []
        results = [block.get("tool_use_id") for block in blocks if block.get("type") == "tool_result"]
        if any(block.get("type") == "text" and not str(block.get("text")).strip() for block in blocks):
            yield f"messages.{place}: a blank text"
        if isinstance(message.get("content"), str) and not message["content"].strip():
            yield f"messages.{place}: blank"
        if set(results) != open_calls or len(results) != len(open_calls):
            yield f"messages.{place}: results {sorted(map(str, results))} for calls {sorted(open_calls)}"
        if any(block.get("type") != "tool_result" for block in blocks[: len(results)]):
            yield f"messages.{place}: a result after other content"
        open_calls = {block["id"] for block in blocks if block.get("type") == "tool_use"}


def gemini(body: dict[str, Any]) -> Iterator[str]:
    from google.genai import types

    members: dict[str, Any] = {
        "contents": list[types.Content],
        "systemInstruction": types.Content,
        "tools": list[types.Tool],
        "toolConfig": types.ToolConfig,
        "generationConfig": types.GenerationConfig,
        "safetySettings": list[types.SafetySetting],
        "cachedContent": str,
        "labels": dict[str, str],
        "serviceTier": str,
    }
    if not body.get("contents"):
        yield "contents: missing"
    for name, value in body.items():
        if name not in members:
            yield f"{name}: unknown"
            continue
        with warnings.catch_warnings(record=True) as unknown:
            warnings.simplefilter("always")  # the package only warns of values that an enumeration does not have
            try:
                # From JSON: bytes are base64 there.
                TypeAdapter(members[name]).validate_json(json.dumps(value))
            except ValidationError as error:
                yield f"{name}.{_shortest(error)}"
        for warning in unknown:
            if "is not a valid" in str(warning.message):
                yield f"{name}: {warning.message}"
    for place, turn in enumerate(body.get("contents") or []):
        if not isinstance(turn, dict) or turn.get("role") not in ("user", "model") or not turn.get("parts"):
            yield f"contents.{place}: a turn needs a role (user, model) and parts"
    yield from _gemini_turns(body.get("contents") or [])


def _gemini_turns(contents: Sequence[Any]) -> Iterator[str]:
    """What the types cannot say: the turn after calls answers each of them, and no other turn answers any."""
    open_calls = 0
    for place, turn in enumerate(contents):
        parts = turn.get("parts") if isinstance(turn, dict) else None
        kinds = [key for part in parts or [] if isinstance(part, dict) for key in part]
        if kinds.count("functionResponse") != open_calls:
            yield f"contents.{place}: {kinds.count('functionResponse')} responses for {open_calls} calls"
        open_calls = kinds.count("functionCall")


@cache
def _bedrock_shape() -> Any:
    from botocore.loaders import Loader  # type: ignore[import-untyped]
    from botocore.model import ServiceModel  # type: ignore[import-untyped]

    model = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
    return model.operation_model("Converse").input_shape


def bedrock(body: dict[str, Any]) -> Iterator[str]:
    from botocore.validate import ParamValidator  # type: ignore[import-untyped]

    report = ParamValidator().validate({"modelId": "m", **body}, _bedrock_shape())
    if report.has_errors():
        yield report.generate_report().splitlines()[0]
    uses, results = _bedrock_tools(body)
    if (uses or results) and not body.get("toolConfig"):
        yield "toolConfig: missing, though there are calls"
    if set(results) - set(uses):
        yield f"messages: results {results} for calls {uses}"
    for place, message in enumerate(body.get("messages") or []):
        if message.get("role") != ("assistant" if place % 2 else "user"):
            yield f"messages.{place}: turns alternate, and the first is the user's"
        texts = [block["text"] for block in _bedrock_blocks(message) if "text" in block]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            yield f"messages.{place}: a blank text"


def _bedrock_blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a message, and inside its results."""
    content = message.get("content")
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    results = [block["toolResult"] for block in blocks if "toolResult" in block]
    return blocks + [one for result in results for one in result.get("content") or []]


def _bedrock_tools(body: dict[str, Any]) -> tuple[list[str], list[str]]:
    blocks = [block for message in body.get("messages") or [] for block in message.get("content") or []]
    uses = [block["toolUse"].get("toolUseId", "") for block in blocks if "toolUse" in block]
    return uses, [block["toolResult"].get("toolUseId", "") for block in blocks if "toolResult" in block]


def cohere(body: dict[str, Any]) -> Iterator[str]:
    from cohere.v2.client import V2Client

    members = inspect.signature(V2Client.chat).parameters
    for name, value in body.items():
        if name == "stream" and isinstance(value, bool):
            continue
        if name not in members or name in ("self", "request_options"):
            yield f"{name}: unknown"
            continue
        yield from _model_reasons(name, members[name].annotation, value)
    for name in ("model", "messages"):
        if not body.get(name):
            yield f"{name}: missing"


def mistral(body: dict[str, Any]) -> Iterator[str]:
    from mistralai.client.models import ChatCompletionRequest

    yield from _model_reasons("body", ChatCompletionRequest, body)


def _model_reasons(name: str, told: Any, value: Any) -> Iterator[str]:
    try:
        made = TypeAdapter(told).validate_python(value)
    except ValidationError as error:
        yield f"{name}.{_shortest(error)}"
    else:
        yield from _unknown(name, made, value)


def _unknown(where: str, made: Any, value: Any) -> Iterator[str]:
    """Members that the package's models let through without having them."""
    if isinstance(made, BaseModel) and isinstance(value, Mapping):
        fields = type(made).model_fields
        names = {field.alias or name: name for name, field in fields.items()} | {name: name for name in fields}
        for key, inner in value.items():
            if key not in names:
                yield f"{where}.{key}: unknown"
            else:
                yield from _unknown(f"{where}.{key}", getattr(made, names[key]), inner)
    elif isinstance(made, list) and isinstance(value, list):
        for place, (one, inner) in enumerate(zip(made, value, strict=True)):
            yield from _unknown(f"{where}.{place}", one, inner)


ORACLES: dict[str, Oracle] = {
    "openai": openai,
    "azure": openai,
    "anthropic": anthropic,
    "gemini": gemini,
    "vertex": gemini,
    "bedrock": bedrock,
    "cohere": cohere,
    "mistral": mistral,
}
"""Dialect -> what judges its requests."""

PACKAGES = {
    "openai": "openai",
    "azure": "openai",
    "anthropic": "anthropic",
    "gemini": "google.genai",
    "vertex": "google.genai",
    "bedrock": "botocore",
    "cohere": "cohere",
    "mistral": "mistralai",
}
