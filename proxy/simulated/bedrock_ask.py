"""Requests in the form of Bedrock's Converse: what they ask for, and the complaints where they make no sense.

Facts from the Bedrock API reference (Converse) and botocore's service model: members, blocks, patterns and ranges.
Unknown members are refused always, as the real API does.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import Any
from urllib.parse import quote, unquote

import orjson

from proxy.providers.bedrock_request import GONE, JSON_ONLY
from proxy.providers.sigv4 import Identity, Signer
from proxy.simulated.answer import Complaint, Tool, Wanted
from proxy.simulated.dialect import Request, Rules

Json = dict[str, Any]

PATH = re.compile(r"/model/([^/]+)/converse(-stream)?")
_MEMBERS: dict[str, type] = {
    "messages": list, "system": list, "inferenceConfig": dict, "toolConfig": dict, "guardrailConfig": dict,
    "additionalModelRequestFields": dict, "promptVariables": dict, "additionalModelResponseFieldPaths": list,
    "requestMetadata": dict, "performanceConfig": dict, "serviceTier": dict, "outputConfig": dict,
}  # fmt: skip
_CONFIG = {"maxTokens", "temperature", "topP", "stopSequences"}
_BLOCKS = {
    "user": {"text", "image", "document", "audio", "video", "toolResult", "cachePoint", "guardContent"},
    "assistant": {"text", "toolUse", "reasoningContent", "cachePoint"},
}
_FORMATS = {
    "image": {"png", "jpeg", "gif", "webp"},
    "document": {"pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"},
    "audio": {"mp3", "wav", "opus", "aac", "flac", "mp4", "ogg", "pcm", "webm"},
}
_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/bedrock/aws4_request, "
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
_BLOCK_TOKENS = 85


def signature(thinking: str) -> str:
    """What signs a block of thinking: it can be checked without having been kept."""
    return hashlib.sha256(b"simulated" + thinking.encode()).hexdigest()


def check_head(request: Request, rules: Rules) -> None:
    """Raises Complaint (403) unless the key is the one demanded, if one is; a pair of keys must have signed."""
    if rules.api_key is None:
        return
    told = request.headers.get("authorization", "")
    identity = Identity.read(rules.api_key)
    if identity is None:
        if told != f"Bearer {rules.api_key}":
            raise Complaint(403, "Invalid API Key", code="AccessDeniedException")
        return
    match = _SIGNED.fullmatch(told)
    stamp = request.headers.get("x-amz-date", "")
    token = request.headers.get("x-amz-security-token")
    if match is None or match["id"] != identity.access_key_id or token != identity.token:
        raise Complaint(403, "The security token in the request is invalid.", code="UnrecognizedClientException")
    covered = {name: request.headers.get(name, "") for name in match["names"].split(";")}
    path = "/".join(quote(unquote(part), safe="") for part in request.path.split("/"))
    signer = Signer(identity, match["region"], "bedrock")
    right = signer.signature("POST", path, covered, request.body, stamp)[0]
    if right != match["signature"] or not {"host", "x-amz-date"} <= covered.keys() or stamp[:8] != match["day"]:
        raise Complaint(403, "The request signature we calculated does not match.", code="InvalidSignatureException")


def read_converse(request: Request, rules: Rules) -> Wanted:
    """Raises Complaint."""
    match = PATH.fullmatch(request.path)
    name = unquote(match[1]) if match else ""
    if rules.models and name not in rules.models:
        raise _wrong("The provided model identifier is invalid.")
    ask = _checked(request.json)
    config = ask.get("inferenceConfig", {})
    thinking = ask.get("additionalModelRequestFields", {}).get("thinking", {})
    thinks = type(thinking) is dict and thinking.get("type") in ("enabled", "adaptive")
    called = _check_messages(ask["messages"])
    if thinks and thinking["type"] == "enabled":
        _check_thought(ask["messages"])
    tools = _tools(ask.get("toolConfig"))
    if called is not None and "toolConfig" not in ask:
        raise _wrong("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
    system = ask.get("system", [])
    return Wanted(
        key=orjson.dumps([system, ask["messages"]], option=orjson.OPT_SORT_KEYS),
        model=name,
        stream=bool(match and match[2]),
        prompt_tokens=3 + _tokens(system) + sum(4 + _tokens(message["content"]) for message in ask["messages"]),
        limit=config.get("maxTokens"),
        stop=tuple(config.get("stopSequences", ())),
        calls=_calls(ask, tools, called or set(), thinks),
        schema=_schema(ask),
        usage=True,
        thinks=thinks,
    )


def _wrong(message: str) -> Complaint:
    return Complaint(400, message)


def _checked(body: object) -> Json:
    if type(body) is not dict:
        raise _wrong("Malformed input request, please reformat your input and try again.")
    for name, value in body.items():
        if name not in _MEMBERS:
            raise _wrong(f"Malformed input request: #: extraneous key [{name}] is not permitted")
        if type(value) is not _MEMBERS[name]:
            raise _wrong(f"{name}: not of type {_MEMBERS[name].__name__}")
    if not body.get("messages"):
        raise _wrong("The messages field must hold at least one message.")
    config = body.get("inferenceConfig", {})
    if set(config) - _CONFIG:
        raise _wrong(f"inferenceConfig: extraneous key {sorted(set(config) - _CONFIG)} is not permitted")
    if type(config.get("maxTokens", 1)) is not int or config.get("maxTokens", 1) < 1:
        raise _wrong("inferenceConfig.maxTokens must be at least 1")
    for name in ("temperature", "topP"):
        if not 0 <= config.get(name, 0) <= 1:
            raise _wrong(f"inferenceConfig.{name} must be between 0 and 1")
    if any(type(stop) is not str or not stop.strip() for stop in config.get("stopSequences", ())):
        raise _wrong("inferenceConfig.stopSequences: blank")
    for at, block in enumerate(body.get("system", ())):
        _check_block(block, f"system.{at}", {"text", "cachePoint", "guardContent"})
    return body


def _check_messages(messages: list[Any]) -> set[str] | None:
    """The names of the tools that were called; None where no block speaks of tools. Raises Complaint."""
    names: set[str] = set()
    speaks = False
    waiting: set[str] = set()
    before = "assistant"
    for at, message in enumerate(messages):
        where = f"messages.{at}"
        if type(message) is not dict or set(message) != {"role", "content"} or message["role"] not in _BLOCKS:
            raise _wrong(f"{where}: a message has a role (user or assistant) and content")
        role, blocks = message["role"], message["content"]
        if at == 0 and role != "user":
            raise _wrong("A conversation must start with a user message. Try again with one.")
        if role == before:
            raise _wrong("A conversation must alternate between user and assistant roles.")
        before = role
        if type(blocks) is not list or not blocks:
            raise _wrong(f"The content field in the Message object at {where} is empty. Add a ContentBlock object.")
        for number, block in enumerate(blocks):
            _check_block(block, f"{where}.content.{number}", _BLOCKS[role])
        results = {block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block}
        if waiting - results:
            missing = ", ".join(sorted(waiting - results))
            raise _wrong(f"Expected toolResult blocks at {where}.content for the following Ids: {missing}")
        if results - waiting:
            raise _wrong(f"The number of toolResult blocks at {where}.content exceeds the toolUse blocks before it.")
        uses = [block["toolUse"] for block in blocks if "toolUse" in block]
        waiting = {use["toolUseId"] for use in uses}
        if len(waiting) < len(uses):
            raise _wrong(f"The toolUse blocks at {where}.content contain duplicate Ids.")
        names |= {use["name"] for use in uses}
        speaks = speaks or bool(uses) or bool(results)
    if waiting:
        raise _wrong(f"Expected toolResult blocks for the following Ids: {', '.join(sorted(waiting))}")
    return names if speaks else None


def _check_block(block: Any, where: str, allowed: set[str]) -> None:
    if type(block) is not dict or len(block) != 1 or not set(block) <= allowed:
        raise _wrong(f"{where}: a ContentBlock sets exactly one of {', '.join(sorted(allowed))}")
    ((kind, held),) = block.items()
    if kind == "text":
        if type(held) is not str or not held.strip():
            raise _wrong(f"The text field in the ContentBlock object at {where} is blank. Add text to it.")
        return
    if type(held) is not dict:
        raise _wrong(f"{where}.{kind}: not an object")
    if kind in _FORMATS:
        _check_media(kind, held, where)
    elif kind == "toolUse":
        fits = _fits(_ID, held.get("toolUseId")) and _fits(_NAME, held.get("name")) and type(held.get("input")) is dict
        if not fits or set(held) != {"toolUseId", "name", "input"}:
            raise _wrong(f"{where}.toolUse: needs toolUseId, name and an object as input")
    elif kind == "toolResult":
        if not _fits(_ID, held.get("toolUseId")) or type(held.get("content")) is not list:
            raise _wrong(f"{where}.toolResult: needs toolUseId and content")
        for at, part in enumerate(held["content"]):
            if not (type(part) is dict and set(part) == {"json"}):
                _check_block(part, f"{where}.toolResult.content.{at}", {"text", "image", "document"})
    elif kind == "reasoningContent" and "reasoningText" in held:
        told = held["reasoningText"]
        if type(told) is not dict or told.get("signature") != signature(str(told.get("text"))):
            raise _wrong(f"{where}: Invalid `signature` in `thinking` block")


def _check_media(kind: str, held: Json, where: str) -> None:
    source = held.get("source")
    if held.get("format") not in _FORMATS[kind] or type(source) is not dict or len(source) != 1:
        raise _wrong(f"{where}.{kind}: needs a known format and a source")
    if kind == "document" and not re.fullmatch(r"[a-zA-Z0-9()\[\]-]+(\s[a-zA-Z0-9()\[\]-]+)*", str(held.get("name"))):
        raise _wrong("The document file name can only contain alphanumeric characters, whitespace, -, () and [].")
    if "bytes" in source:
        try:
            binascii.a2b_base64(source["bytes"], strict_mode=True)
        except (TypeError, ValueError):
            raise _wrong(f"{where}.{kind}.source.bytes: not base64") from None


def _fits(pattern: re.Pattern[str], text: object) -> bool:
    return type(text) is str and pattern.fullmatch(text) is not None


def _check_thought(messages: list[Any]) -> None:
    """With a budget of thinking, the turn that called the tools begins with its thinking."""
    if not any("toolResult" in block for block in messages[-1]["content"]):
        return
    first = messages[-2]["content"][0]
    if "reasoningContent" not in first:
        raise _wrong(f"Expected `thinking` or `redacted_thinking`, but found `{next(iter(first))}`")


def _tools(config: Any) -> list[tuple[Tool, str]]:
    """The tools and what they say of themselves."""
    tools: list[tuple[Tool, str]] = []
    if config is None:
        return tools
    if type(config.get("tools")) is not list or not config["tools"]:
        raise _wrong("toolConfig.tools must hold at least one tool")
    for at, tool in enumerate(config["tools"]):
        where = f"toolConfig.tools.{at}"
        if type(tool) is not dict or len(tool) != 1 or not set(tool) <= {"toolSpec", "systemTool", "cachePoint"}:
            raise _wrong(f"{where}: sets exactly one of toolSpec, systemTool, cachePoint")
        if "toolSpec" not in tool:
            continue
        spec = tool["toolSpec"]
        schema = spec.get("inputSchema", {}).get("json")
        if not _fits(_NAME, spec.get("name")) or type(schema) is not dict or schema.get("type") != "object":
            raise _wrong(f"The value at {where}.toolSpec.inputSchema.json.type must be one of the following: object.")
        if set(spec) - {"name", "description", "inputSchema", "strict"} or spec.get("description") == "":
            raise _wrong(f"{where}.toolSpec: extraneous keys, or a blank description")
        tools.append((Tool(spec["name"], schema), spec.get("description", "")))
    return tools


def _calls(ask: Json, tools: list[tuple[Tool, str]], called: set[str], thinks: bool) -> tuple[Tool, ...]:
    """The tools that the answer calls."""
    choice = ask.get("toolConfig", {}).get("toolChoice", {"auto": {}})
    if type(choice) is not dict or len(choice) != 1 or not set(choice) <= {"auto", "any", "tool"}:
        raise _wrong("toolConfig.toolChoice sets exactly one of auto, any, tool")
    if thinks and "auto" not in choice:
        raise _wrong("Thinking may not be enabled when tool_choice forces tool use.")
    if "tool" in choice:
        named = tuple(tool for tool, _ in tools if tool.name == choice["tool"].get("name"))
        if not named:
            raise _wrong("The toolChoice names a tool that is not in toolConfig.tools")
        return named
    if "auto" in choice and any("toolResult" in block for block in ask["messages"][-1]["content"]):
        return ()
    usable = tuple(tool for tool, says in tools if says != GONE)
    return tuple(tool for tool in usable if tool.name not in called) or usable


def _schema(ask: Json) -> Any:
    """What the answer must satisfy; None for text. A model that is told to write JSON does."""
    form = ask.get("outputConfig", {}).get("textFormat")
    if form is None:
        return _ANY_OBJECT if JSON_ONLY in orjson.dumps(ask.get("system", [])).decode() else None
    try:
        return orjson.loads(form["structure"]["jsonSchema"]["schema"])
    except (KeyError, TypeError, orjson.JSONDecodeError):
        raise _wrong("outputConfig.textFormat: needs a JSON schema, as text") from None


def _tokens(blocks: list[Any]) -> int:
    """About as many as a tokeniser would count: one in four characters."""
    return sum(len(block["text"]) // 4 + 1 if "text" in block else _BLOCK_TOKENS for block in blocks)
