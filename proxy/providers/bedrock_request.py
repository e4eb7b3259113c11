"""An OpenAI request as one of Bedrock's Converse.

Wire facts from the Bedrock API reference (Converse: InferenceConfiguration, ToolConfiguration, OutputConfig,
ServiceTier), botocore's service model, and the pages of Claude and Nova on Bedrock for what stands in
`additionalModelRequestFields`.
"""

from __future__ import annotations

import re
from typing import Any

from proxy.errors import Refusal
from proxy.providers.anthropic_models import Model, model
from proxy.providers.anthropic_schema import NotNarrow, narrowed
from proxy.providers.base import Endpoint
from proxy.providers.bedrock_messages import Turns, cache_point
from proxy.wire.chunk import Json
from proxy.wire.request import dumped

_OWN = (
    "guardrailConfig",
    "performanceConfig",
    "promptVariables",
    "additionalModelResponseFieldPaths",
)
"""Members of Converse's own request that a client, or a route's `params`, may give as they are."""
_READ = {
    "messages", "model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "temperature",
    "top_p", "top_k", "stop", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort",
    "thinking", "metadata", "service_tier", "web_search_options", "modalities", "audio", "functions", "function_call",
    "logprobs", "top_logprobs", "additionalModelRequestFields", "outputConfig", "requestMetadata", *_OWN,
}  # fmt: skip
_CLOSED = {"store": False, "logprobs": False, "top_logprobs": 0, "frequency_penalty": 0, "presence_penalty": 0}
"""Values that ask for nothing, so that leaving them out loses nothing."""

_NO_SCHEMA = re.compile(r"llama|titan|ai21|jamba|cohere|command|deepseek\.r1")
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 24_576, "max": 32_000}
"""Tokens of thinking for models that are told a number; 1,024 is the least that they take."""
_LEAST_BUDGET = 1_024
_NOVA_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_CLAUDE_EFFORTS = {"minimal": "low", "xhigh": "high"}
_TIERS = {"priority": "priority", "flex": "flex"}
_METADATA = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}")
GONE = "Was used earlier in this conversation. It is not available any more: do not call it."
JSON_ONLY = "Answer with one JSON object and nothing else: no words around it and no code fence."


def body_of(given: Json, to: Endpoint) -> tuple[Json, tuple[str, ...]]:
    """The request's body and the parameters it could not say. Raises `Refusal` (400) naming what cannot be served."""
    request = _Request(given, to)
    return request.out, tuple(dict.fromkeys(request.dropped))


def answer_tool(given: Json, to: Endpoint) -> str | None:
    """The name of the tool whose input is the answer, for models that take no schema otherwise; None without one."""
    if _form(given, to.model)[0] != "tool":
        return None
    name = "json_answer"
    while any(_function(tool).get("name") == name for tool in given.get("tools") or ()):
        name += "_"
    return name


def is_claude(name: str) -> bool:
    return "claude" in name


def is_nova(name: str) -> bool:
    return "nova-" in name


def _form(given: Json, name: str) -> tuple[str, Any]:
    """How the answer's form is asked for, and the schema: `text`, `object`, `format`, `tool` or `words`."""
    wanted = given.get("response_format") or {}
    kind = wanted.get("type")
    if kind in (None, "text"):
        return "text", None
    described = wanted.get("json_schema")
    schema = described.get("schema") if type(described) is dict else None
    if kind == "json_object" or (kind == "json_schema" and type(described) is dict and schema is None):
        return "object", None
    if kind != "json_schema" or type(schema) is not dict:
        message = "`response_format` must be of type text, json_object or json_schema, the last with a schema."
        raise Refusal(400, message, param="response_format", code="invalid_value")
    if is_claude(name) and model(name).schema:
        try:
            return "format", narrowed(schema)
        except NotNarrow:
            pass  # a schema that the format does not take
    elif not is_claude(name) and not is_nova(name) and not _NO_SCHEMA.search(name):
        return "format", schema
    free = given.get("tool_choice") in (None, "auto", "none")
    forced = is_nova(name) or (is_claude(name) and model(name).forced)
    if free and forced and (schema.get("type") == "object" or "properties" in schema):
        return "tool", schema
    return "words", schema


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "top_k": ((int,), "an integer"),
    "thinking": ((dict,), "an object"),
    **dict.fromkeys(("additionalModelRequestFields", "outputConfig", "requestMetadata"), ((dict,), "an object")),
    "temperature": ((int, float), "a number"),
    "top_p": ((int, float), "a number"),
}
"""What the mapping looks into, and what nobody has checked where it comes from a route's `params`."""


class _Request:
    """One request as it is put together. `out` is the body, `dropped` what it could not say."""

    def __init__(self, given: Json, to: Endpoint) -> None:
        self.given = given
        self.provider = to.provider
        self.name = to.model
        self.claude: Model | None = model(to.model) if is_claude(to.model) else None
        self.dropped = [name for name in given if name not in _READ and given[name] != _CLOSED.get(name)]
        self._refuse()
        self.turns = Turns(given["messages"], to.provider, prefill=self.claude is None or self.claude.prefill)
        self.config: Json = {}
        self.more: Json = dict(_mapping(given, "additionalModelRequestFields"))
        self.out: Json = {"messages": self.turns.turns}
        self.answer_tool = answer_tool(given, to)
        self._tools()
        self._answer_form()
        self._limits()
        self._thinking()
        self._sampling()
        self._rest()
        if self.turns.system:
            self.out["system"] = self.turns.system
        for name, value in (("inferenceConfig", self.config), ("additionalModelRequestFields", self.more)):
            if value:
                self.out[name] = value
        self.out.update({name: given[name] for name in _OWN if name in given})

    def _refuse(self) -> None:
        given = self.given
        for name, (types, words) in _TYPES.items():
            if name in given and type(given[name]) not in types:
                raise Refusal(400, f"`{name}` must be {words}.", param=name, code="invalid_type")
        if (given.get("n") or 1) > 1:
            raise self._refusal("n", "gives one choice")
        if "audio" in given or any(kind != "text" for kind in given.get("modalities") or ()):
            raise self._refusal("audio" if "audio" in given else "modalities", "answers in text only")
        if given.get("logprobs"):
            raise self._refusal("logprobs", "tells no probabilities")
        if "web_search_options" in given and not is_nova(self.name):
            raise self._refusal("web_search_options", f"has no web search for {self.name}")
        for name, use in (("functions", "tools"), ("function_call", "tool_choice")):
            if given.get(name):
                raise self._refusal(name, f"does not take it; use `{use}`")

    def _refusal(self, param: str, what: str) -> Refusal:
        return Refusal(400, f"`{param}`: {self.provider} {what}.", param=param, code="unsupported_parameter")

    # Tools.

    def _tools(self) -> None:
        given = self.given
        tools = [self._tool(tool, f"tools[{at}]") for at, tool in enumerate(given.get("tools") or ())]
        if "web_search_options" in given:
            tools.append([{"systemTool": {"name": "nova_grounding"}}])
        choice = given.get("tool_choice") if tools else None
        if type(choice) is dict and choice.get("type") == "allowed_tools":
            tools, choice = self._allowed(_mapping(choice, "allowed_tools") or choice, tools)
        if choice == "none":
            tools, choice = [], None
            if self.turns.names:
                self.dropped.append("tool_choice")
        if not tools and self.turns.names:
            # Tools must be described where the conversation speaks of them, and there is no way to forbid their use.
            tools = [[_spec(name, None, GONE)] for name in self.turns.names]
        if given.get("parallel_tool_calls") is False and tools:
            self.dropped.append("parallel_tool_calls")
        if tools:
            self.out["toolConfig"] = {"tools": [block for blocks in tools for block in blocks]}
            if choice is not None:
                self.out["toolConfig"]["toolChoice"] = self._choice(choice)

    def _tool(self, tool: Json, where: str) -> list[Json]:
        function = _function(tool)
        if type(tool.get("systemTool")) is dict:
            return [{"systemTool": tool["systemTool"]}]
        if tool.get("type", "function") != "function":
            raise self._refusal(where, f"has no tools of type {tool.get('type')!r}")
        if type(function.get("name")) is not str:
            raise Refusal(400, f"`{where}.function` must be an object with a name.", param=f"{where}.function")
        spec = _spec(function["name"], function.get("parameters"), function.get("description"))
        if function.get("strict") is True:
            try:
                if self.claude is None or not self.claude.schema:
                    raise NotNarrow("the model knows no strict tools")
                schema = narrowed(spec["toolSpec"]["inputSchema"]["json"], root=True)
                spec["toolSpec"].update(inputSchema={"json": schema}, strict=True)
            except NotNarrow:
                self.dropped.append(f"{where}.function.strict")
        mark = tool.get("cache_control") or function.get("cache_control")
        return [spec] if mark is None else [spec, cache_point(mark)]

    def _choice(self, choice: Any) -> Json:
        named = {"auto": "auto", "required": "any", "any": "any"}
        made: Json | None = None
        if type(choice) is str and choice in named:
            made = {named[choice]: {}}
        elif type(choice) is dict and type(_function(choice).get("name")) is str:
            made = {"tool": {"name": _function(choice)["name"]}}
        if made is None:
            message = "`tool_choice` must be none, auto, required, a function by name, or allowed_tools."
            raise Refusal(400, message, param="tool_choice", code="invalid_value")
        if "auto" not in made and self.claude is not None and not self.claude.forced:
            raise self._refusal("tool_choice", f"does not let {self.name} be made to call a tool")
        return made

    def _allowed(self, allowed: Json, tools: list[list[Json]]) -> tuple[list[list[Json]], str]:
        listed = allowed.get("tools")
        told = [one for one in listed if type(one) is dict] if type(listed) is list else []
        names = [_function(one).get("name") or one.get("name") for one in told]
        kept = [blocks for blocks in tools if blocks[0].get("toolSpec", {}).get("name") in names]
        if not kept:
            message = "`tool_choice.allowed_tools` names none of the `tools`."
            raise Refusal(400, message, param="tool_choice", code="invalid_value")
        return kept, "required" if allowed.get("mode") == "required" else "auto"

    # The answer's form.

    def _answer_form(self) -> None:
        form, schema = _form(self.given, self.name)
        config = dict(_mapping(self.given, "outputConfig"))
        if form == "format":
            described = self.given["response_format"]["json_schema"]
            told = {"schema": dumped(schema).decode()}
            told |= {name: described[name] for name in ("name", "description") if type(described.get(name)) is str}
            config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": told}}
        elif self.answer_tool is not None:
            tools = self.out.setdefault("toolConfig", {"tools": []})
            free = self.given.get("tool_choice") != "none" and bool(self.given.get("tools"))
            tools["tools"].append(_spec(self.answer_tool, schema, "Gives the answer."))
            tools["toolChoice"] = {"any": {}} if free else {"tool": {"name": self.answer_tool}}
        elif form in ("object", "words"):
            told_schema = "" if schema is None else f" Its schema: {dumped(schema).decode()}"
            self.turns.system.append({"text": JSON_ONLY + told_schema})
        if config:
            self.out["outputConfig"] = config

    # Limits, thinking and sampling.

    def _limits(self) -> None:
        limit = self.given.get("max_completion_tokens", self.given.get("max_tokens"))
        if limit is not None:
            # A limit beyond the model's own limits nothing, and Claude refuses it.
            self.config["maxTokens"] = int(limit) if self.claude is None else min(int(limit), self.claude.max_tokens)
        stop = self.given.get("stop")
        if stop:
            stops = [stop] if type(stop) is str else stop
            kept = [one for one in stops if type(one) is str and one.strip()]
            if kept:
                self.config["stopSequences"] = kept
            if len(kept) < len(stops):
                self.dropped.append("stop")

    def _thinking(self) -> None:
        given = self.given
        if "thinking" in given:
            self.more["thinking"] = given["thinking"]
        effort = given.get("reasoning_effort")
        if effort is None:
            return
        choice = self.out.get("toolConfig", {}).get("toolChoice", {})
        if self.claude is not None:
            forced = "any" in choice or "tool" in choice
            taken = "thinking" not in given and self._claude_thinks(effort, self.claude, forced)
        elif "gpt-oss" in self.name and effort in ("low", "medium", "high"):
            taken = True
            self.more.setdefault("reasoning_effort", effort)
        elif "nova-2" in self.name:
            taken = effort in _NOVA_EFFORTS or effort == "none"
            if taken and effort != "none":
                told = {"type": "enabled", "maxReasoningEffort": _NOVA_EFFORTS[effort]}
                self.more.setdefault("reasoningConfig", told)
        else:
            taken = effort == "none"
        if not taken:
            self.dropped.append("reasoning_effort")

    def _claude_thinks(self, effort: str, known: Model, forced: bool) -> bool:
        """Turns Claude's thinking on or off; False where that cannot be had.

        A call cannot be forced while thinking: the call is the answer's form, thinking is a hint.
        """
        if effort == "none" or forced:
            if known.off is not None:
                self.more["thinking"] = {"type": known.off}
            return effort == "none" and known.thinking != "always"
        if known.thinking == "budget":
            room = self.config.get("maxTokens", known.max_tokens)
            budget = min(_BUDGETS.get(effort, 0), room // 2)
            if budget < _LEAST_BUDGET or self.turns.lacks_thinking():
                return False
            self.more["thinking"] = {"type": "enabled", "budget_tokens": budget}
            self.config.setdefault("maxTokens", known.max_tokens)
            return True
        level = effort if effort in known.efforts else _CLAUDE_EFFORTS.get(effort)
        if known.thinking == "none" or level not in known.efforts:
            return False
        self.more["thinking"] = {"type": "adaptive"}
        if not known.sampling:
            # These models leave the text of their thinking out unless asked for it.
            self.more["thinking"]["display"] = "summarized"
        self.out.setdefault("outputConfig", {}).setdefault("effort", level)
        return True

    def _sampling(self) -> None:
        given, known = self.given, self.claude
        values: Json = {name: given[name] for name in ("temperature", "top_p", "top_k") if name in given}
        refused: list[str] = []
        if known is not None:
            thinking = self.more.get("thinking")
            if not known.sampling:
                refused = ["temperature", "top_p", "top_k"]
            elif type(thinking) is dict and thinking.get("type") in ("enabled", "adaptive"):
                refused = ["top_k"]
                refused += ["temperature"] if values.get("temperature") != 1 else []
                refused += ["top_p"] if values.get("top_p", 1) < 0.95 else []
            if not known.both and "temperature" in values and "temperature" not in refused:
                refused.append("top_p")
        elif _mapping(self.more, "reasoningConfig").get("maxReasoningEffort") == "high":
            # Nova at its highest effort takes neither a limit nor sampling parameters.
            refused = ["temperature", "top_p", "top_k"]
            if self.config.pop("maxTokens", None) is not None:
                self.dropped.append("max_tokens" if "max_tokens" in given else "max_completion_tokens")
        self.dropped += [name for name in refused if values.pop(name, None) is not None]
        if values.get("temperature", 0) > 1:
            values["temperature"] = 1
            self.dropped.append("temperature")
        for name, own in (("temperature", "temperature"), ("top_p", "topP")):
            if name in values:
                self.config[own] = values[name]
        if "top_k" in values and is_nova(self.name):
            self.more.setdefault("inferenceConfig", {"topK": values["top_k"]})
        elif "top_k" in values:
            self.more.setdefault("top_k", values["top_k"])

    def _rest(self) -> None:
        metadata = self.given.get("requestMetadata") or self.given.get("metadata")
        if metadata:
            texts = [text for pair in metadata.items() for text in pair]
            if len(metadata) <= 16 and all(type(text) is str and _METADATA.fullmatch(text) for text in texts):
                self.out["requestMetadata"] = metadata
            else:
                self.dropped.append("metadata")
        tier = self.given.get("service_tier")
        if tier in _TIERS:
            self.out["serviceTier"] = {"type": _TIERS[tier]}
        elif tier not in (None, "auto", "default"):
            self.dropped.append("service_tier")


def _mapping(given: Json, name: str) -> Json:
    found = given.get(name)
    return found if type(found) is dict else {}


def _function(tool: Json) -> Json:
    return _mapping(tool, "function")


def _spec(name: str, parameters: object, description: object) -> Json:
    schema: Json = parameters if type(parameters) is dict and parameters else {"properties": {}}
    spec: Json = {"name": name, "inputSchema": {"json": {**schema, "type": "object"}}}
    if type(description) is str and description.strip():
        spec["description"] = description
    return {"toolSpec": spec}
