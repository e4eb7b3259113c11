"""A chat completion request in Anthropic's form: everything but the messages.

Wire facts from Anthropic's API reference, the types of its SDK and recorded traffic. What has no counterpart and only
hints is listed as dropped; what would change the form of the answer is refused.
"""

from __future__ import annotations

import re
from typing import Any

from proxy.errors import Refusal
from proxy.providers.anthropic_messages import Turns
from proxy.providers.anthropic_models import OTHER, Model, model
from proxy.providers.anthropic_schema import NotNarrow, narrowed
from proxy.providers.base import Built, Endpoint
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json
from proxy.wire.request import dumped, parameters

_OWN = ("cache_control", "container", "context_management", "inference_geo", "mcp_servers", "speed")
"""Anthropic's own parameters without a counterpart: passed on as they are."""
_READ = {
    "model", "messages", "stream", "stream_options", "n", "modalities", "max_tokens", "max_completion_tokens", "tools",
    "tool_choice", "parallel_tool_calls", "response_format", "stop", "temperature", "top_p", "top_k", "user",
    "reasoning_effort", "thinking", "output_config", "metadata", "safety_identifier", "service_tier", "betas",
    "web_search_options", *_OWN,
}  # fmt: skip
_OWN_TOOL = re.compile(r"_\d{8}$|^mcp_toolset$")
"""Types of Anthropic's own tools, most of which it runs itself."""
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 24_576, "max": 32_000}
"""Tokens of thinking for models that are told a number; 1,024 is the least that the API takes."""
_LEAST_BUDGET = 1_024
_EFFORTS = {"minimal": "low", "xhigh": "high"}
"""What comes nearest where a model lacks the level."""
JSON_ONLY = "Answer with one JSON object and nothing else: no words around it and no code fence."
_BY_SCHEMA = " Its schema: "
_USER_ID_LIMIT = 256


def build(ask: ChatRequest, to: Endpoint) -> Built:
    """Raises `Refusal` (400) naming the parameter that Anthropic cannot serve."""
    request = _Request(ask.filled(to.params, to.force), to)
    body = dumped(request.out)
    betas = request.given.get("betas")
    headers = ((b"anthropic-beta", ",".join(map(str, betas)).encode()),) if type(betas) is list and betas else ()
    return Built(body, tuple(dict.fromkeys(request.dropped)), headers, parameters(request.out))


def answer_tool(given: Json, known: Model) -> str | None:
    """The name of the tool whose input is the answer, for models that take no schema otherwise; None without one."""
    if _form(given, known)[0] != "tool":
        return None
    name = "json_answer"
    while any(_function(tool).get("name") == name for tool in given.get("tools") or ()):
        name += "_"
    return name


def _form(given: Json, known: Model) -> tuple[str, Any]:
    """How the answer's form is asked for, and the schema: `text`, `object`, `format`, `tool`, `words` or `unknown`."""
    wanted = given.get("response_format")
    if wanted is None:
        return "text", None
    kind = wanted.get("type") if type(wanted) is dict else None
    described = wanted.get("json_schema") if kind == "json_schema" else None
    schema = described.get("schema") if type(described) is dict else None
    if kind == "text":
        return "text", None
    if kind == "json_object" or (type(described) is dict and schema is None):
        return "object", None
    if type(schema) is not dict:
        return "unknown", None
    if known.schema:
        try:
            return "format", narrowed(schema)
        except NotNarrow:
            pass  # a schema that output_config.format does not take
    choice = given.get("tool_choice")
    free = choice in (None, "auto", "none")
    if free and known.forced and (schema.get("type") == "object" or "properties" in schema):
        return "tool", schema
    return "words", schema


class _Request:
    """One request as it is put together. `out` is the body, `dropped` what it could not say."""

    def __init__(self, given: Json, to: Endpoint) -> None:
        self.given = given
        self.provider = to.provider
        self.model = model(to.model)
        self.dropped = [name for name in given if name not in _READ]
        self._refuse()
        self.turns = Turns(given["messages"], self.model, to.provider)
        self.out: Json = {"model": to.model, "max_tokens": self._limit(), "messages": self.turns.turns}
        if given.get("stream") is True:
            self.out["stream"] = True
        self.out.update({name: given[name] for name in _OWN if name in given})
        self._tools()
        self._answer_form()
        if self.turns.system:
            self.out["system"] = self.turns.system
        self._thinking()
        self._sampling()
        self._rest()

    def _refuse(self) -> None:
        given = self.given
        if (given.get("n") or 1) > 1:
            raise self._refusal("n", "gives one choice")
        if "audio" in given or any(kind != "text" for kind in given.get("modalities") or ()):
            raise self._refusal("audio" if "audio" in given else "modalities", "answers in text only")
        for name, use in (("functions", "tools"), ("function_call", "tool_choice")):
            if given.get(name):
                raise self._refusal(name, f"does not take it; use `{use}`")

    def _refusal(self, param: str, what: str) -> Refusal:
        return Refusal(400, f"`{param}`: {self.provider} {what}.", param=param, code="unsupported_parameter")

    def _limit(self) -> int:
        wanted = self.given.get("max_completion_tokens", self.given.get("max_tokens"))
        if wanted is None:
            return self.model.max_tokens
        # A limit beyond the model's own limits nothing, and Anthropic refuses it.
        return int(wanted) if self.model is OTHER else min(int(wanted), self.model.max_tokens)

    # Tools.

    def _tools(self) -> None:
        tools = [self._tool(tool, f"tools[{at}]") for at, tool in enumerate(self.given.get("tools") or ())]
        search = self.given.get("web_search_options")
        if search is not None:
            tools.append(_web_search(search))
        choice = self._choice(tools) if tools else None
        if not tools and self.turns.names:
            # Anthropic wants to know the tools that a conversation speaks of.
            tools = [{"name": name, "input_schema": _schema(None)} for name in self.turns.names]
            choice = {"type": "none"}
        if choice is not None and choice["type"] in ("any", "tool") and not self.model.forced:
            raise self._refusal("tool_choice", f"does not let {self.out['model']} be made to call a tool")
        if self.given.get("parallel_tool_calls") is False and tools:
            choice = choice or {"type": "auto"}
            if choice["type"] != "none":
                choice["disable_parallel_tool_use"] = True
        if tools:
            self.out["tools"] = tools
        if choice is not None:
            self.out["tool_choice"] = choice

    def _tool(self, tool: Json, where: str) -> Json:
        function = _function(tool)
        if tool.get("type", "function") == "function" and not function:
            raise Refusal(400, f"`{where}.function` must be an object with a name.", param=f"{where}.function")
        if not function:
            if type(tool.get("custom")) is dict:
                raise self._refusal(where, "has no tools with free text for input")
            if "input_schema" in tool or _OWN_TOOL.search(str(tool.get("type"))):
                return tool
            raise self._refusal(where, f"has no tools of type {tool.get('type')!r}")
        if type(function.get("name")) is not str:
            raise Refusal(400, f"`{where}.function.name` must be a string.", param=f"{where}.function.name")
        made: Json = {"name": function["name"], "input_schema": _schema(function.get("parameters"))}
        if function.get("description"):
            made["description"] = function["description"]
        if function.get("strict") is True:
            try:
                made.update(self._strict(made["input_schema"]))
            except NotNarrow:
                self.dropped.append("tools[].function.strict")
        mark = tool.get("cache_control") or function.get("cache_control")
        if mark is not None:
            made["cache_control"] = mark
        return made

    def _strict(self, schema: Json) -> Json:
        if not self.model.schema:
            raise NotNarrow("the model knows no strict tools")
        return {"input_schema": narrowed(schema, root=True), "strict": True}

    def _choice(self, tools: list[Json]) -> Json | None:
        choice = self.given.get("tool_choice")
        if choice is None:
            return None
        named = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
        if type(choice) is str and choice in named:
            return {"type": named[choice]}
        if type(choice) is dict:
            kind = choice.get("type")
            if kind == "function" and _function(choice).get("name"):
                return {"type": "tool", "name": _function(choice)["name"]}
            if kind == "allowed_tools":
                return self._allowed(choice.get("allowed_tools") or choice, tools)
            if kind in ("auto", "any", "none", "tool"):
                return dict(choice)
        message = "`tool_choice` must be none, auto, required, a function by name, or allowed_tools."
        raise Refusal(400, message, param="tool_choice", code="invalid_value")

    def _allowed(self, allowed: Json, tools: list[Json]) -> Json:
        listed = allowed.get("tools") if type(allowed) is dict else None
        named = [one for one in listed if type(one) is dict] if type(listed) is list else []
        names = [_function(one).get("name") or one.get("name") for one in named]
        tools[:] = [tool for tool in tools if tool.get("name") in names]
        if not tools:
            message = "`tool_choice.allowed_tools` names none of the `tools`."
            raise Refusal(400, message, param="tool_choice", code="invalid_value")
        return {"type": "any" if allowed.get("mode") == "required" else "auto"}

    # The answer's form.

    def _answer_form(self) -> None:
        form, schema = _form(self.given, self.model)
        name = answer_tool(self.given, self.model)
        if form == "unknown":
            message = "`response_format` must be of type text, json_object or json_schema, the last with a schema."
            raise Refusal(400, message, param="response_format", code="invalid_value")
        if form == "format":
            self._config()["format"] = {"type": "json_schema", "schema": schema}
        elif name is not None:
            tools = self.out.setdefault("tools", [])
            free = self.given.get("tool_choice") != "none" and bool(self.given.get("tools"))
            tools.append({"name": name, "description": "Gives the answer.", "input_schema": _schema(schema)})
            choice = {"type": "any"} if free else {"type": "tool", "name": name}
            self.out["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
        elif form in ("object", "words"):
            told = JSON_ONLY if schema is None else f"{JSON_ONLY}{_BY_SCHEMA}{dumped(schema).decode()}"
            self.turns.system.append({"type": "text", "text": told})

    def _config(self) -> Json:
        config = self.out.get("output_config")
        if config is None:
            own = self.given.get("output_config")
            config = self.out["output_config"] = dict(own) if type(own) is dict else {}
        return config

    # Thinking and sampling.

    def _thinking(self) -> None:
        given, known = self.given, self.model
        if "output_config" in given:
            self._config()
        effort, own = given.get("reasoning_effort"), given.get("thinking")
        own = own if type(own) is dict else None
        kind = own.get("type") if own is not None else None
        forced = self.out.get("tool_choice", {}).get("type") in ("any", "tool")
        name = "reasoning_effort" if own is None else "thinking"
        if effort == "none" or kind == "disabled":
            if known.off is not None:
                self.out["thinking"] = {"type": known.off}
            elif known.thinking == "always":
                self._effort("low")
                self.dropped.append(name)
        elif effort is None and own is None:
            if forced and known.off is not None:
                self.out["thinking"] = {"type": known.off}
        elif forced:
            # A call cannot be forced while thinking: the call is the answer's form, thinking is a hint.
            self.dropped.append(name)
            if known.off is not None:
                self.out["thinking"] = {"type": known.off}
        elif not (self._think(str(effort)) if own is None else self._own_thinking(own, effort)):
            self.dropped.append(name)

    def _own_thinking(self, own: Json, effort: str | None) -> bool:
        """`thinking` as Anthropic has it, or as others do (`{type: enabled}`), in the form that the model takes."""
        kept = {key: own[key] for key in ("type", "budget_tokens", "display") if own.get(key) is not None}
        kind = kept.get("type")
        if effort is not None and not self._effort(effort):
            self.dropped.append("reasoning_effort")
        foreign = kind == "enabled" and not ("budget_tokens" in kept and self.model.sampling)
        if foreign or (kind == "adaptive" and self.model.thinking in ("budget", "none")):
            return self._think(effort or "medium", own_effort=effort is not None)
        self.out["thinking"] = kept
        return "type" in kept

    def _think(self, effort: str, own_effort: bool = True) -> bool:
        """Turns thinking on; False where it cannot be had. `own_effort`: the client named the level."""
        known = self.model
        if known.thinking == "budget":
            budget = min(_BUDGETS.get(effort, 0), self.out["max_tokens"] // 2)
            if budget < _LEAST_BUDGET or self.turns.lacks_thinking():
                return False
            self.out["thinking"] = {"type": "enabled", "budget_tokens": budget}
            return True
        if known.thinking == "none" or (own_effort and not self._effort(effort)):
            return False
        self.out["thinking"] = {"type": "adaptive"}
        if not known.sampling:
            # These models leave the text of their thinking out unless asked for it.
            self.out["thinking"]["display"] = "summarized"
        return True

    def _effort(self, effort: str) -> bool:
        level = effort if effort in self.model.efforts else _EFFORTS.get(effort)
        if level not in self.model.efforts:
            return False
        self._config().setdefault("effort", level)
        return True

    def _sampling(self) -> None:
        given, out, known = self.given, self.out, self.model
        for name in ("temperature", "top_p", "top_k"):
            if name in given:
                out[name] = given[name]
        thinks = (out.get("thinking") or {}).get("type") in ("enabled", "adaptive")
        if not known.sampling:
            refused = ["temperature", "top_p", "top_k"]
        elif thinks:
            refused = ["top_k"]
            refused += ["temperature"] if out.get("temperature") != 1 else []
            refused += ["top_p"] if out.get("top_p", 1) < 0.95 else []
        else:
            refused = []
        if not known.both and "temperature" in out and "temperature" not in refused:
            refused.append("top_p")
        for name in refused:
            if out.pop(name, None) is not None:
                self.dropped.append(name)
        if out.get("temperature", 0) > 1:
            out["temperature"] = 1
            self.dropped.append("temperature")

    def _rest(self) -> None:
        given, out = self.given, self.out
        stop = given.get("stop")
        if stop:
            stops = [stop] if type(stop) is str else stop
            kept = [one for one in stops if type(one) is str and one.strip()]
            if kept:
                out["stop_sequences"] = kept
            if len(kept) < len(stops):
                self.dropped.append("stop")
        metadata = given.get("metadata") or {}
        if any(name != "user_id" for name in metadata):
            self.dropped.append("metadata")
        for name, user in (
            ("metadata", metadata.get("user_id")),
            ("safety_identifier", given.get("safety_identifier")),
            ("user", given.get("user")),
        ):
            if type(user) is not str or not user:
                continue
            if "metadata" in out or len(user) > _USER_ID_LIMIT:
                self.dropped.append(name)
            else:
                out["metadata"] = {"user_id": user}
        tier = given.get("service_tier")
        if tier in _TIERS:
            out["service_tier"] = _TIERS[tier]
        elif tier is not None:
            self.dropped.append("service_tier")


def _function(tool: object) -> Json:
    function = tool.get("function") if isinstance(tool, dict) else None
    return function if type(function) is dict else {}


def _schema(parameters: object) -> Json:
    if type(parameters) is not dict or not parameters:
        return {"type": "object", "properties": {}}
    return parameters if parameters.get("type") == "object" else {"type": "object", **parameters, **_OBJECT}


_OBJECT = {"type": "object"}


def _web_search(options: Json) -> Json:
    tool: Json = {"type": "web_search_20250305", "name": "web_search"}
    place = options.get("user_location")
    if type(place) is dict:
        place = place["approximate"] if type(place.get("approximate")) is dict else place
        tool["user_location"] = {**place, "type": "approximate"}
    return tool
