"""A chat request in Gemini's words: generation settings, tools and formats. Messages are in `gemini_contents`.

Wire facts from Google's reference of `GenerateContentRequest`, `GenerationConfig`, `ToolConfig` and `ThinkingConfig`,
and from the types of google-genai. JSON schemas go into the fields that take all of JSON Schema
(`parametersJsonSchema`, `responseJsonSchema`): the older ones refuse `$ref` and `additionalProperties`.
"""

from __future__ import annotations

import re
from typing import Any

from proxy.errors import Refusal
from proxy.providers.base import Built, Endpoint
from proxy.providers.gemini_answer import objects
from proxy.providers.gemini_contents import contents
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json
from proxy.wire.request import dumped, parameters

_PLAIN = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
}
"""Settings with the same meaning under another name."""
_READ = {
    "model", "messages", "stream", "stream_options", "stop", "n", "seed", "logprobs", "top_logprobs", "tools",
    "functions", "tool_choice", "function_call", "response_format", "reasoning_effort", "modalities", "google",
    "extra_body", "web_search_options", "service_tier",
}  # fmt: skip
_BUDGET = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
"""Thinking tokens for Gemini 2.5, as Google's OpenAI-compatible API maps `reasoning_effort`."""
_LEVEL = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH", "max": "HIGH"}
"""Since Gemini 3. The types know XHIGH too, but no model is documented to take it."""
_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_INT32 = range(-(2**31), 2**31)
_TIERS = {"default": "standard", "flex": "flex", "priority": "priority"}


def version(model: str) -> tuple[int, int]:
    """`(2, 5)` for a name of Gemini 2.5; names without a number lead to the newest, so that is what is assumed."""
    match = _VERSION.search(model)
    if match is None:
        return (1, 0) if "gemma" in model else (99, 0)
    return int(match[1]), int(match[2] or 0)


def build(ask: ChatRequest, to: Endpoint, *, vertex: bool = False) -> Built:
    """Raises `Refusal` (400) naming the parameter that Gemini cannot serve."""
    request = _Request(ask.filled(to.params, to.force), to, vertex)
    body = request.whole()
    return Built(dumped(body), tuple(sorted(request.dropped)), sent=parameters(body))


class _Request:
    def __init__(self, given: Json, to: Endpoint, vertex: bool) -> None:
        self.given = given
        self.to = to
        self.vertex = vertex
        self.version = version(to.model)
        self.dropped: set[str] = set()
        self.out: Json = {}
        self.settings: Json = {}

    def whole(self) -> Json:
        system, turns, dropped = contents(
            # The v1 API of Vertex knows no ids of calls.
            self.given["messages"],
            self.to.provider,
            signatures=self.version >= (3, 0),
            ids=not self.vertex,
        )
        self.dropped |= dropped
        if not turns:
            raise Refusal(400, "`messages` holds no text that is not blank.", param="messages")
        if system:
            self.out["systemInstruction"] = {"parts": system}
        self.out["contents"] = turns
        self._sampling()
        self._format()
        self._modalities()
        self._thinking()
        self._tools()
        self._tier()
        self._extensions()
        if self.settings:
            self.out["generationConfig"] = self.settings
        self.dropped |= {name for name in self.given if name not in _READ and name not in _PLAIN}
        return self.out

    def _refusal(self, param: str, what: str) -> Refusal:
        return Refusal(400, f"`{param}`: {self.to.provider} {what}.", param=param, code="unsupported_parameter")

    def _sampling(self) -> None:
        given, settings = self.given, self.settings
        for name, theirs in _PLAIN.items():
            if name in given:
                settings[theirs] = given[name]
        stop = given.get("stop")
        stops = [stop] if type(stop) is str else stop or []
        if stops := [one for one in stops if one]:
            settings["stopSequences"] = stops
        if given.get("n", 1) > 1:
            settings["candidateCount"] = given["n"]
        seed = given.get("seed")
        if type(seed) is int and seed in _INT32:
            settings["seed"] = seed
        elif seed is not None:
            self.dropped.add("seed")
        if given.get("logprobs") is True:
            settings["responseLogprobs"] = True
            if given.get("top_logprobs"):
                settings["logprobs"] = given["top_logprobs"]

    def _format(self) -> None:
        form = self.given.get("response_format")
        if form is None or form.get("type") == "text":
            return
        if form.get("type") not in ("json_object", "json_schema"):
            raise self._refusal("response_format.type", f"does not know the format {form.get('type')!r}")
        self.settings["responseMimeType"] = "application/json"
        described = form.get("json_schema")
        if type(described) is dict and described.get("schema") is not None:
            self.settings["responseJsonSchema"] = described["schema"]

    def _modalities(self) -> None:
        wanted = self.given.get("modalities") or ["text"]
        for one in wanted:
            if one not in ("text", "image"):
                raise self._refusal("modalities", f"cannot answer with {one!r} here")
        if "image" in wanted:
            self.settings["responseModalities"] = [one.upper() for one in wanted]

    def _thinking(self) -> None:
        effort = self.given.get("reasoning_effort")
        if effort is None:
            return
        name = self.to.model
        silent = self.version < (2, 5) or (self.version < (3, 0) and ("image" in name or "tts" in name))
        if silent or effort not in _BUDGET:
            self.dropped.add("reasoning_effort")
            return
        thinking: Json = {}
        if self.version < (3, 0):
            # 2.5 Pro cannot be kept from thinking; 128 tokens are its least.
            budget = _BUDGET[effort]
            if budget == 0 and "pro" in name:
                budget = 128
                self.dropped.add("reasoning_effort")
            thinking["thinkingBudget"] = budget
        else:
            thinking["thinkingLevel"] = _LEVEL.get(effort) or self._least()
            if effort == "none":
                self.dropped.add("reasoning_effort")
        if effort != "none":
            thinking["includeThoughts"] = True
        self.settings["thinkingConfig"] = thinking

    def _least(self) -> str:
        """The lowest level of a model since Gemini 3: Pro, and Flash since 3.7, begin at LOW; none can be silenced."""
        name = self.to.model
        flash = "flash" in name and "lite" not in name and self.version >= (3, 7)
        return "LOW" if "pro" in name or flash else "MINIMAL"

    def _tools(self) -> None:
        given = self.given
        tools = [
            *(given.get("tools") or ()),
            *({"type": "function", "function": one} for one in given.get("functions") or ()),
        ]
        declared = [self._declared(f"tools[{at}]", tool) for at, tool in enumerate(tools)]
        out: list[Json] = []
        if declared:
            out.append({"functionDeclarations": declared})
            choice = given.get("tool_choice", given.get("function_call"))
            if choice is not None and choice != "auto":
                self.out["toolConfig"] = {"functionCallingConfig": self._choice(choice)}
        if "web_search_options" in given:
            out.append({"googleSearch": {}})
            if given["web_search_options"]:
                self.dropped.add("web_search_options")
        if out:
            self.out["tools"] = out

    def _declared(self, where: str, tool: Json) -> Json:
        function = tool.get("function")
        kind = tool.get("type", "function")
        if kind != "function" or type(function) is not dict or type(function.get("name")) is not str:
            if kind == "function":
                raise Refusal(400, f"`{where}.function` must be an object with a name.", param=f"{where}.function")
            raise self._refusal(f"{where}.type", f"takes only tools of type 'function', not {kind!r}")
        declared: Json = {"name": function["name"]}
        if function.get("description"):
            declared["description"] = function["description"]
        if function.get("parameters"):
            declared["parametersJsonSchema"] = function["parameters"]
        if function.get("strict"):
            self.dropped.add("strict")
        return declared

    def _choice(self, choice: Any) -> Json:
        if type(choice) is str:
            mode = {"none": "NONE", "required": "ANY", "any": "ANY"}.get(choice)
            if mode is None:
                message = "`tool_choice` must be 'none', 'auto', 'required' or an object that names a function."
                raise Refusal(400, message, param="tool_choice", code="invalid_value")
            return {"mode": mode}
        if choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools")
            allowed = allowed if type(allowed) is dict else choice
            names = [_named(one) for one in objects(allowed.get("tools"))]
            # Names may be given only where the model must call, or where its calls are checked.
            mode = "ANY" if allowed.get("mode") == "required" else "VALIDATED"
        else:
            names, mode = [_named(choice)], "ANY"
        if not names or not all(names):
            raise Refusal(400, "`tool_choice` must name a function.", param="tool_choice", code="invalid_value")
        return {"mode": mode, "allowedFunctionNames": names}

    def _tier(self) -> None:
        tier = self.given.get("service_tier")
        if tier is None or tier == "auto":
            return
        if tier in _TIERS and not self.vertex:
            self.out["serviceTier"] = _TIERS[tier]
        else:
            self.dropped.add("service_tier")

    def _extensions(self) -> None:
        """What Google's own OpenAI-compatible API takes under `extra_body.google`."""
        extra = self.given.get("extra_body")
        google = extra.get("google") if type(extra) is dict else self.given.get("google")
        if type(extra) is dict:
            self.dropped |= {f"extra_body.{name}" for name in extra if name != "google"}
        elif extra is not None:
            self.dropped.add("extra_body")
        for name, value in google.items() if type(google) is dict else ():
            if name == "thinking_config" and type(value) is dict:
                self.settings["thinkingConfig"] = {_camel(key): one for key, one in value.items()}
            elif name in ("safety_settings", "cached_content"):
                self.out[_camel(name)] = value
            else:
                self.dropped.add(f"google.{name}")


def _named(choice: Any) -> Any:
    """The name in `{"type": "function", "function": {"name": …}}`, or in the older `{"name": …}`."""
    if type(choice) is not dict:
        return None
    function = choice.get("function")
    return function.get("name") if type(function) is dict else choice.get("name")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
