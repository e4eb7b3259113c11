"""Requests in Gemini's form: what they ask for, and the complaints of the real API where they make no sense.

Facts from Google's API reference, the types of google-genai and the words of its errors. Unknown fields are refused
always, as the real API does; models since Gemini 3 (and unknown ones) refuse a call that lost its signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Any

import orjson

from proxy.simulated.answer import Complaint, Tool, Wanted
from proxy.simulated.dialect import Rules

Json = dict[str, Any]

_FIELDS: dict[str, type] = {
    "contents": list, "systemInstruction": dict, "tools": list, "toolConfig": dict, "generationConfig": dict,
    "safetySettings": list, "cachedContent": str, "serviceTier": str, "labels": dict,
}  # fmt: skip
_SETTINGS: dict[str, tuple[type, ...]] = {
    "temperature": (int, float), "topP": (int, float), "topK": (int, float), "candidateCount": (int,),
    "maxOutputTokens": (int,), "stopSequences": (list,), "seed": (int,), "presencePenalty": (int, float),
    "frequencyPenalty": (int, float), "responseLogprobs": (bool,), "logprobs": (int,), "responseMimeType": (str,),
    "responseSchema": (dict,), "responseJsonSchema": (dict, bool), "responseModalities": (list,),
    "thinkingConfig": (dict,), "mediaResolution": (str,), "speechConfig": (dict,), "imageConfig": (dict,),
}  # fmt: skip
_PARTS: dict[str, Any] = {
    "text": str, "inlineData": dict, "fileData": dict, "functionCall": dict, "functionResponse": dict,
    "executableCode": dict, "codeExecutionResult": dict,
}  # fmt: skip
_BESIDE = {"thought", "thoughtSignature", "videoMetadata", "mediaResolution"}
_MEMBERS = {
    "inlineData": {"mimeType", "data", "displayName"},
    "fileData": {"mimeType", "fileUri", "displayName"},
    "functionCall": {"name", "args", "id"},
    "functionResponse": {"name", "response", "id", "parts", "willContinue", "scheduling"},
}
_DECLARED = {"name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "behavior"}
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_SIGNS = re.compile(r"gemini-[12]\b|gemma")
_STAND_INS = {"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"}
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
_IMAGE_TOKENS = 258


def invalid(message: str) -> Complaint:
    return Complaint(400, message, code="INVALID_ARGUMENT")


def read_contents(body: object, model: str, stream: bool, rules: Rules) -> Wanted:
    """Raises Complaint."""
    if type(body) is not dict:
        raise invalid("Invalid JSON payload received.")
    if rules.models and model not in rules.models:
        raise Complaint(404, f"models/{model} is not found for API version v1beta, or is not supported.")
    _known(body, _FIELDS.keys(), "")
    for name, kind in _FIELDS.items():
        if name in body and type(body[name]) is not kind:
            raise invalid(f"Invalid value at '{name}'.")
    settings = _settings(body.get("generationConfig", {}))
    contents = body.get("contents") or []
    if not contents:
        raise invalid("* GenerateContentRequest.contents: contents is not specified")
    _check_contents(contents, signs=not _SIGNS.match(model))
    if "systemInstruction" in body:
        _check_content("system_instruction", {"role": "user", **body["systemInstruction"]})
    return Wanted(
        key=orjson.dumps([_told(contents), settings.get("seed")], option=orjson.OPT_SORT_KEYS),
        model=model,
        stream=stream,
        prompt_tokens=3 + sum(4 + sum(map(_tokens, content["parts"])) for content in contents),
        n=settings.get("candidateCount", 1),
        limit=settings.get("maxOutputTokens"),
        stop=tuple(settings.get("stopSequences", ())),
        calls=_calls(body, contents),
        schema=_schema(settings),
        top=settings.get("logprobs", 0) if settings.get("responseLogprobs") else None,
        usage=True,
        thinks=settings.get("thinkingConfig", {}).get("includeThoughts") is True,
    )


def signature(name: str, args: object) -> str:
    """What the simulated model signs a call with."""
    told = orjson.dumps([name, args], option=orjson.OPT_SORT_KEYS)
    return base64.b64encode(hashlib.sha256(told).digest()).decode()


def _known(given: Json, known: Any, where: str) -> None:
    for name in given:
        if name not in known:
            at = f" at '{where}'" if where else ""
            raise invalid(f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.')


def _settings(settings: Json) -> Json:
    _known(settings, _SETTINGS.keys(), "generation_config")
    for name, value in settings.items():
        if type(value) not in _SETTINGS[name]:
            raise invalid(f"Invalid value at 'generation_config.{name}'.")
    if not 0 <= settings.get("temperature", 1) <= 2:
        raise invalid("* GenerateContentRequest.generation_config.temperature: must be in the range [0.0, 2.0]")
    if len(settings.get("stopSequences", ())) > 5:
        raise invalid("* GenerateContentRequest.generation_config.stop_sequences: at most 5")
    if settings.get("maxOutputTokens", 1) < 1 or not 1 <= settings.get("candidateCount", 1) <= 8:
        raise invalid("* GenerateContentRequest.generation_config: max_output_tokens or candidate_count out of range")
    thinking = settings.get("thinkingConfig", {})
    _known(thinking, {"includeThoughts", "thinkingBudget", "thinkingLevel"}, "generation_config.thinking_config")
    if "thinkingBudget" in thinking and "thinkingLevel" in thinking:
        raise invalid("You can only set one of thinking budget and thinking level.")
    return settings


def _schema(settings: Json) -> Any:
    schema = settings.get("responseJsonSchema", settings.get("responseSchema"))
    if settings.get("responseMimeType") != "application/json":
        if schema is not None:
            raise invalid("A response schema needs the response mime type application/json.")
        return None
    return _ANY_OBJECT if schema is None else schema


def _check_contents(contents: list[Any], *, signs: bool) -> None:
    for at, content in enumerate(contents):
        _check_content(f"contents[{at}]", content)
    begin = max(
        (
            at
            for at, content in enumerate(contents)
            if content["role"] == "user" and not _of(content, "functionResponse")
        ),
        default=-1,
    )
    for at, content in enumerate(contents):
        if content["role"] == "user" and (results := _of(content, "functionResponse")):
            before = _of(contents[at - 1], "functionCall") if at else []
            called = sorted(part["functionCall"]["name"] for part in before)
            if sorted(part["functionResponse"]["name"] for part in results) != called:
                raise invalid(
                    "Please ensure that the number of function response parts is equal to the number of function call "
                    "parts of the function call turn, and that they come right after it."
                )
        if _of(content, "functionCall") and at + 1 < len(contents) and not _of(contents[at + 1], "functionResponse"):
            raise invalid("Please ensure that a function call turn is followed by its function responses.")
    for at, content in enumerate(contents):
        if signs and at > begin and (calls := _of(content, "functionCall")):
            _check_signature(calls[0], at)


def _check_signature(part: Json, at: int) -> None:
    call = part["functionCall"]
    given = part.get("thoughtSignature")
    if given is None:
        raise invalid(
            f"Function call is missing a thought_signature in functionCall parts. Function call `{call['name']}` in "
            f"the {at}. content block."
        )
    if given not in _STAND_INS and given != signature(call["name"], call.get("args", {})):
        raise invalid("Thought signature is not valid.")


def _of(content: Json, kind: str) -> list[Json]:
    return [part for part in content["parts"] if kind in part]


def _check_content(where: str, content: Any) -> None:
    if type(content) is not dict:
        raise invalid(f"Invalid value at '{where}'.")
    _known(content, {"role", "parts"}, where)
    if content.get("role") not in ("user", "model"):
        raise invalid("Please use a valid role: user, model.")
    if type(content.get("parts")) is not list or not content["parts"]:
        raise invalid(f"* GenerateContentRequest.{where}.parts: contents.parts must not be empty.")
    for at, part in enumerate(content["parts"]):
        _check_part(f"{where}.parts[{at}]", part, content["role"])


def _check_part(where: str, part: Any, role: str) -> None:
    if not isinstance(part, dict):
        raise invalid(f"Invalid value at '{where}'.")
    _known(part, _PARTS.keys() | _BESIDE, where)
    kinds = [kind for kind in _PARTS if kind in part]
    if len(kinds) != 1:
        raise invalid(
            f"* GenerateContentRequest.{where}.data: required oneof field 'data' must have one initialized field"
        )
    (kind,) = kinds
    value: Any = part[kind]
    if type(value) is not _PARTS[kind]:
        raise invalid(f"Invalid value at '{where}.{kind}'.")
    if kind in _MEMBERS:
        _known(value, _MEMBERS[kind], f"{where}.{kind}")
    if kind in ("functionCall", "functionResponse"):
        if type(value.get("name")) is not str or not _NAME.fullmatch(value["name"]):
            raise invalid(f"* GenerateContentRequest.{where}.{kind}.name: Name cannot be empty.")
        if (kind == "functionCall") is not (role == "model"):
            raise invalid(f"Please ensure that {kind} parts stand in a turn of the right role.")
        inner = "args" if kind == "functionCall" else "response"
        if type(value.get(inner, {})) is not dict:
            raise invalid(f"Invalid value at '{where}.{kind}.{inner}' (type.googleapis.com/google.protobuf.Struct).")
    if kind == "inlineData":
        try:
            base64.b64decode(value.get("data", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise invalid(
                f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES), Base64 decoding failed."
            ) from None
        if not value.get("mimeType"):
            raise invalid("Unable to submit request because it must have a mimeType parameter.")
    if kind == "fileData" and not value.get("fileUri"):
        raise invalid("Unable to submit request because it must have a fileUri parameter.")


def _calls(body: Json, contents: list[Any]) -> tuple[Tool, ...]:
    """The tools that the answer calls."""
    tools: dict[str, Tool] = {}
    for at, tool in enumerate(body.get("tools", ())):
        if type(tool) is not dict:
            raise invalid(f"Invalid value at 'tools[{at}]'.")
        _known(tool, {"functionDeclarations", "googleSearch", "codeExecution", "urlContext"}, f"tools[{at}]")
        for one in tool.get("functionDeclarations", ()):
            if type(one) is not dict:
                raise invalid(f"Invalid value at 'tools[{at}].function_declarations'.")
            _known(one, _DECLARED, f"tools[{at}].function_declarations")
            if type(one.get("name")) is not str or not _NAME.fullmatch(one["name"]):
                raise invalid("* GenerateContentRequest.tools.function_declarations.name: Invalid function name.")
            if one["name"] in tools:
                raise invalid(f"Duplicate function declaration found: {one['name']}")
            if "parameters" in one:
                _known(
                    one["parameters"], {"type", "properties", "required", "description", "items", "enum"}, "parameters"
                )
            tools[one["name"]] = Tool(one["name"], one.get("parametersJsonSchema", one.get("parameters")))
    config = body.get("toolConfig", {}).get("functionCallingConfig", {})
    if type(config) is not dict:
        raise invalid("Invalid value at 'tool_config.function_calling_config'.")
    _known(config, {"mode", "allowedFunctionNames"}, "tool_config.function_calling_config")
    mode, allowed = config.get("mode", "AUTO"), config.get("allowedFunctionNames")
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        raise invalid("Invalid value at 'tool_config.function_calling_config.mode'.")
    if allowed is not None:
        if mode not in ("ANY", "VALIDATED") or any(name not in tools for name in allowed):
            raise invalid("Allowed function names must be declared, and the mode ANY or VALIDATED.")
        tools = {name: tools[name] for name in allowed}
    if mode == "NONE" or (mode != "ANY" and _of(contents[-1], "functionResponse")):
        return ()
    return tuple(tools.values())


def _told(contents: list[Any]) -> list[Any]:
    """What was said, without the names that only this API's own bookkeeping gives."""
    return [
        [
            content["role"],
            [{kind: value for kind, value in part.items() if kind != "thoughtSignature"} for part in content["parts"]],
        ]
        for content in contents
    ]


def _tokens(part: Json) -> int:
    if "text" in part:
        return len(part["text"]) // 4 + 1
    return _IMAGE_TOKENS if "inlineData" in part or "fileData" in part else len(orjson.dumps(part)) // 4
