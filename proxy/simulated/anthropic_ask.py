"""Requests in Anthropic's form: what they ask for, and the complaints of the real API where they make no sense.

Facts from Anthropic's API reference, the types of its SDK and the words of its errors: fields, roles, blocks, what each
generation of models takes. Unknown fields are refused always, as the real API does.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson

from proxy.providers.anthropic_models import OTHER, Model, model
from proxy.providers.anthropic_request import JSON_ONLY
from proxy.simulated.answer import Complaint, Tool, Wanted
from proxy.simulated.dialect import Rules

Json = dict[str, Any]

_FIELDS: dict[str, tuple[type, ...]] = {
    "model": (str,), "max_tokens": (int,), "messages": (list,), "system": (str, list), "stream": (bool,),
    "stop_sequences": (list,), "temperature": (int, float), "top_p": (int, float), "top_k": (int,),
    "tools": (list,), "tool_choice": (dict,), "thinking": (dict,), "metadata": (dict,), "service_tier": (str,),
    "output_config": (dict,), "cache_control": (dict,), "container": (str, dict), "inference_geo": (str,),
    "speed": (str,), "mcp_servers": (list,), "context_management": (dict,),
}  # fmt: skip
_TOOL_FIELDS = {"type", "name", "description", "input_schema", "cache_control", "strict"}
_PARTS = {"user": {"text", "image", "document", "search_result", "tool_result"}, "system": {"text"},
          "assistant": {"text", "thinking", "redacted_thinking", "tool_use"}}  # fmt: skip
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
_IMAGE_TOKENS = 85


def check_head(headers: dict[str, str], rules: Rules) -> None:
    """Raises Complaint: 401 for a wrong key, 400 without a version."""
    given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    if rules.api_key is not None and given != rules.api_key:
        raise Complaint(401, "invalid x-api-key" if given else "x-api-key header is required")
    if "anthropic-version" not in headers:
        raise _wrong("anthropic-version: header is required")


def read_messages(body: object, rules: Rules) -> Wanted:
    """Raises Complaint."""
    ask = _checked(body, rules)
    known = model(ask["model"])
    _check_values(ask, known)
    tools = [_tool(tool, f"tools.{at}") for at, tool in enumerate(ask.get("tools", ()))]
    called = _check_messages(ask["messages"], known)
    thinks = ask.get("thinking", {}).get("type") in ("enabled", "adaptive")
    if ask.get("thinking", {}).get("type") == "enabled":
        _check_thought(ask["messages"])
    if called and not tools:
        raise _wrong("Requests which include `tool_use` or `tool_result` blocks must define tools")
    system = ask.get("system", "")
    return Wanted(
        key=orjson.dumps([system, ask["messages"]], option=orjson.OPT_SORT_KEYS),
        model=ask["model"],
        stream=ask.get("stream", False),
        prompt_tokens=3 + _tokens(system) + sum(4 + _tokens(message["content"]) for message in ask["messages"]),
        limit=ask["max_tokens"],
        stop=tuple(ask.get("stop_sequences", ())),
        calls=_calls(ask, [tool for tool in tools if tool is not None], called, thinks, known),
        schema=_schema(ask, system),
        usage=True,
        thinks=thinks,
    )


def signature(thinking: str) -> str:
    """What signs a block of thinking: it can be checked without having been kept."""
    return hashlib.sha256(b"simulated" + thinking.encode()).hexdigest()


def _schema(ask: Json, system: object) -> Any:
    """What the answer must satisfy; None for text. A model that is told to write JSON does."""
    form = ask.get("output_config", {}).get("format")
    if form is not None:
        return form["schema"]
    return _ANY_OBJECT if JSON_ONLY in orjson.dumps(system).decode() else None


def _wrong(message: str) -> Complaint:
    return Complaint(400, message)


def _checked(body: object, rules: Rules) -> Json:
    if type(body) is not dict:
        raise _wrong("The request body is not valid JSON")
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            raise _wrong(f"{name}: Field required")
    for name, value in body.items():
        if name not in _FIELDS:
            raise _wrong(f"{name}: Extra inputs are not permitted")
        if type(value) not in _FIELDS[name]:
            raise _wrong(f"{name}: Input should be a valid {_FIELDS[name][0].__name__}")
    if rules.models and body["model"] not in rules.models:
        raise Complaint(404, f"model: {body['model']}")
    return body


def _check_values(ask: Json, known: Model) -> None:
    if ask["max_tokens"] < 1:
        raise _wrong("max_tokens: Input should be greater than or equal to 1")
    if known is not OTHER and ask["max_tokens"] > known.max_tokens:
        most = f"{ask['max_tokens']} > {known.max_tokens}"
        raise _wrong(f"max_tokens: {most}, which is the maximum allowed number of output tokens for {ask['model']}")
    for name in ("temperature", "top_p", "top_k"):
        if name in ask and not known.sampling:
            raise _wrong(f"{name}: not supported for this model")
    for name in ("temperature", "top_p"):
        if not 0 <= ask.get(name, 0) <= 1:
            raise _wrong(f"{name}: range: 0..1")
    if "temperature" in ask and "top_p" in ask and not known.both:
        raise _wrong("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    for at, stop in enumerate(ask.get("stop_sequences", ())):
        if type(stop) is not str or not stop.strip():
            raise _wrong(f"stop_sequences.{at}: each stop sequence must contain non-whitespace")
    if ask.get("service_tier", "auto") not in ("auto", "standard_only"):
        raise _wrong("service_tier: Input should be 'auto' or 'standard_only'")
    if set(ask.get("metadata", {})) - {"user_id"}:
        raise _wrong("metadata: Extra inputs are not permitted")
    system = ask.get("system", "")
    for at, block in enumerate(system if type(system) is list else ()):
        _check_block(block, f"system.{at}", "system")
    _check_output(ask.get("output_config", {}), known)
    _check_thinking(ask, known)


def _check_output(config: Json, known: Model) -> None:
    if set(config) - {"effort", "format"}:
        raise _wrong("output_config: Extra inputs are not permitted")
    effort = config.get("effort")
    if effort is not None and effort not in known.efforts:
        raise _wrong(f"This model does not support effort level {effort!r}. Supported levels: {list(known.efforts)}")
    form = config.get("format")
    if form is None:
        return
    if not known.schema:
        raise _wrong("output_config.format: not supported for this model")
    if type(form) is not dict or form.get("type") != "json_schema" or type(form.get("schema")) is not dict:
        raise _wrong("output_config.format: Input should be a json_schema with its schema")
    _check_closed(form["schema"])


def _check_closed(schema: object) -> None:
    """Every object of an answer's schema names its members and no others."""
    if type(schema) is list:
        for one in schema:
            _check_closed(one)
    if type(schema) is not dict:
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise _wrong("output_config.format.schema: For 'object' type, 'additionalProperties' must be set to false")
    for refused in ("minimum", "maximum", "minLength", "maxLength", "pattern", "multipleOf"):
        if refused in schema and "type" in schema:
            raise _wrong(f"output_config.format.schema: property '{refused}' is not supported")
    for value in schema.values():
        _check_closed(value)


def _check_thinking(ask: Json, known: Model) -> None:
    thinking = ask.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type")
    budget = thinking.get("budget_tokens")
    if set(thinking) - {"type", "budget_tokens", "display"}:
        raise _wrong("thinking: Extra inputs are not permitted")
    allowed = {"none": (), "budget": ("enabled", "disabled"), "always": ("adaptive",)}.get(
        known.thinking, ("adaptive", known.off or "disabled", *(("enabled",) if known.sampling else ()))
    )
    if kind not in allowed:
        raise _wrong(f'"thinking.type.{kind}" is not supported for this model.')
    if kind == "enabled" and (type(budget) is not int or not 1024 <= budget < ask["max_tokens"]):
        raise _wrong("thinking.enabled.budget_tokens: at least 1024 and less than max_tokens")
    if kind in ("enabled", "adaptive"):
        if ask.get("temperature", 1) != 1:
            raise _wrong("`temperature` may only be set to 1 when thinking is enabled.")
        if "top_k" in ask or ask.get("top_p", 1) < 0.95:
            raise _wrong("`top_k` must be unset and `top_p` at least 0.95 when thinking is enabled.")


def _check_messages(messages: list[Any], known: Model) -> set[str]:
    """The names of the tools that were called. Raises Complaint."""
    if not messages:
        raise _wrong("messages: at least one message is required")
    names: set[str] = set()
    ids: set[str] = set()
    waiting: set[str] = set()
    for at, message in enumerate(messages):
        where = f"messages.{at}"
        if type(message) is not dict or set(message) - {"role", "content"}:
            raise _wrong(f"{where}: Input should be a role and its content")
        role, content = message.get("role"), message.get("content")
        if type(role) is not str or role not in _PARTS or (role == "system" and not known.system):
            raise _wrong(f"{where}: role {role!r} is not supported on this model")
        if at == 0 and role != "user":
            raise _wrong('messages: first message must use the "user" role')
        blocks = [{"type": "text", "text": content}] if type(content) is str else content
        if type(blocks) is not list or not blocks:
            raise _wrong(f"{where}: all messages must have non-empty content")
        results = _results(blocks, where, waiting)
        if waiting - results:
            missing = ", ".join(sorted(waiting - results))
            raise _wrong(
                f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: {missing}"
            )
        waiting = set()
        for number, block in enumerate(blocks):
            _check_block(block, f"{where}.content.{number}", role)
            if block["type"] == "tool_use":
                if block["id"] in ids:
                    raise _wrong(f"{where}: `tool_use` ids must be unique")
                ids.add(block["id"])
                waiting.add(block["id"])
                names.add(block["name"])
    if waiting:
        raise _wrong(f"`tool_use` ids were found without `tool_result` blocks immediately after: {sorted(waiting)}")
    if messages[-1]["role"] == "assistant" and not known.prefill:
        raise _wrong("This model does not support assistant message prefill. It must end with a user message.")
    return names


def _results(blocks: list[Any], where: str, waiting: set[str]) -> set[str]:
    """The calls that these blocks answer: they stand first, each once."""
    results: list[str] = []
    for number, block in enumerate(blocks):
        if type(block) is dict and block.get("type") == "tool_result":
            if number != len(results):
                raise _wrong(f"{where}: tool_result blocks must come first")
            results.append(str(block.get("tool_use_id")))
    unknown = set(results) - waiting
    if unknown:
        raise _wrong(f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {', '.join(sorted(unknown))}")
    if len(set(results)) < len(results):
        raise _wrong(f"{where}: each tool_use must have a single result")
    return set(results)


def _check_block(block: Any, where: str, role: str) -> None:
    kind = block.get("type") if type(block) is dict else None
    if type(kind) is not str or kind not in _PARTS[role]:
        raise _wrong(f"{where}: Input tag {kind!r} does not match any of the expected tags for {role}")
    if kind == "text" and (type(block.get("text")) is not str or not block["text"].strip()):
        raise _wrong(f"{where}: text content blocks must contain non-whitespace text")
    if kind == "thinking" and block.get("signature") != signature(str(block.get("thinking"))):
        raise _wrong(f"{where}: Invalid `signature` in `thinking` block")
    if kind == "tool_use":
        if type(block.get("id")) is not str or not _ID.fullmatch(block["id"]):
            raise _wrong(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if type(block.get("input")) is not dict or type(block.get("name")) is not str:
            raise _wrong(f"{where}.tool_use.input: Input should be a valid dictionary")
    if kind in ("image", "document") and type(block.get("source")) is not dict:
        raise _wrong(f"{where}.{kind}.source: Field required")


def _check_thought(messages: list[Any]) -> None:
    """With a budget of thinking, the turn that called the tools begins with its thinking."""
    last = messages[-1]["content"]
    if type(last) is str or not any(block["type"] == "tool_result" for block in last):
        return
    turns = [message["content"] for message in messages if message["role"] == "assistant"]
    if turns and type(turns[-1]) is list and turns[-1][0]["type"] not in ("thinking", "redacted_thinking"):
        found = turns[-1][0]["type"]
        raise _wrong(f"Expected `thinking` or `redacted_thinking`, but found `{found}`")


def _tool(tool: object, where: str) -> Tool | None:
    """None for a tool that the provider itself runs."""
    if type(tool) is not dict or type(tool.get("name")) is not str or not _NAME.fullmatch(tool["name"]):
        raise _wrong(f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if tool.get("type", "custom") != "custom":
        return None
    if set(tool) - _TOOL_FIELDS:
        raise _wrong(f"{where}: Extra inputs are not permitted: {sorted(set(tool) - _TOOL_FIELDS)}")
    schema = tool.get("input_schema")
    if type(schema) is not dict or schema.get("type") != "object":
        raise _wrong(f"{where}.input_schema.type: Input should be 'object'")
    return Tool(tool["name"], schema)


def _calls(ask: Json, tools: list[Tool], called: set[str], thinks: bool, known: Model) -> tuple[Tool, ...]:
    """The tools that the answer calls."""
    choice = ask.get("tool_choice", {"type": "auto"})
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise _wrong(f"tool_choice: Input tag {kind!r} does not match any of the expected tags")
    if "tool_choice" in ask and not ask.get("tools"):
        raise _wrong("tool_choice may only be specified while providing tools.")
    if kind in ("any", "tool") and (thinks or not known.forced):
        raise _wrong("Thinking may not be enabled when tool_choice forces tool use.")
    if kind == "tool":
        named = tuple(tool for tool in tools if tool.name == choice.get("name"))
        if not named:
            raise _wrong(f"Tool '{choice.get('name')}' not found in provided tools")
        return named
    last = ask["messages"][-1]["content"]
    answered = type(last) is list and any(block["type"] == "tool_result" for block in last)
    if kind == "none" or (kind == "auto" and answered):
        return ()
    fresh = tuple(tool for tool in tools if tool.name not in called) or tuple(tools)
    return fresh[:1] if choice.get("disable_parallel_tool_use") else fresh


def _tokens(content: object) -> int:
    """About as many as a tokeniser would count: one in four characters."""
    if type(content) is str:
        return len(content) // 4 + 1
    if type(content) is not list:
        return 0
    return sum(_tokens(part.get("text")) if part["type"] == "text" else _IMAGE_TOKENS for part in content)
