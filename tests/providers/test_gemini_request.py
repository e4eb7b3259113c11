"""Requests in Gemini's words, by table; every one is accepted by the types of google-genai where it is installed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.assemble import DIALECTS
from proxy.errors import Refusal
from proxy.providers.base import Built, Endpoint
from proxy.wire.chat import ChatRequest

Json = dict[str, Any]
HI = [{"role": "user", "content": "Hi"}]
PIXEL = "data:image/png;base64,AAAA"
TOOL = {"type": "function", "function": {"name": "f", "description": "D", "parameters": {"$ref": "#/$defs/x"}}}
SKIP = "skip_thought_signature_validator"


def build(model: str = "gemini-3.5-flash", dialect: str = "gemini", **body: Any) -> Built:
    raw = orjson.dumps({"model": "g", "messages": HI, **body})
    to = Endpoint("google", "https://g.example", model, params={"temperature": 0.5} if model == "defaults" else None)
    built = DIALECTS[dialect].build(ChatRequest.parse(raw), to)
    accepted(orjson.loads(built.body))
    return built


def sent(model: str = "gemini-3.5-flash", dialect: str = "gemini", **body: Any) -> Json:
    found: Json = orjson.loads(build(model, dialect, **body).body)
    return found


def accepted(body: Json) -> None:
    """By the official types, which forbid what they do not know."""
    try:
        from google.genai import types
    except ImportError:
        return
    for content in [*body["contents"], *([body["systemInstruction"]] if "systemInstruction" in body else [])]:
        types.Content.model_validate(content)
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)
    types.ToolConfig.model_validate(body.get("toolConfig", {}))
    types.GenerationConfig.model_validate(body.get("generationConfig", {}))
    assert body.keys() <= {
        "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings", "cachedContent",
        "serviceTier",
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"contents": [{"role": "user", "parts": [{"type": "text", "text": "x"}]}]},
        {"contents": [{"role": "user", "parts": [{"image_url": {"url": "x"}}]}]},
        {"contents": [], "tools": [TOOL]},
        {"contents": [], "toolConfig": {"functionCallingConfig": "auto"}},
        {"contents": [], "generationConfig": {"max_tokens_": 5}},
        {"contents": [], "stop": ["x"]},
    ],
)
def test_the_official_types_refuse_what_is_wrong(wrong: Json) -> None:
    pytest.importorskip("google.genai")
    with pytest.raises((ValueError, AssertionError)):
        accepted(wrong)


def turns(*messages: Json, model: str = "gemini-3.5-flash", dialect: str = "gemini") -> list[Json]:
    found: list[Json] = sent(model, dialect, messages=list(messages))["contents"]
    return found


def call(id: str, name: str = "f", arguments: str = "{}", signature: str | None = None) -> Json:
    made: Json = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    if signature is not None:
        made["extra_content"] = {"google": {"thought_signature": signature}}
    return made


def result(id: str, content: Any) -> Json:
    return {"role": "tool", "tool_call_id": id, "content": content}


def test_roles() -> None:
    body = sent(
        messages=[
            {"role": "system", "content": "A"},
            {"role": "user", "content": "1"},
            {"role": "user", "content": [{"type": "text", "text": "2"}, {"type": "text", "text": ""}]},
            {"role": "assistant", "content": "3"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "4"}], "refusal": "5"},
            {"role": "developer", "content": [{"type": "text", "text": "B"}]},
            {"role": "assistant", "content": None},
            {"role": "user", "content": "6"},
        ]
    )
    assert body["systemInstruction"] == {"parts": [{"text": "A"}, {"text": "B"}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "1"}, {"text": "2"}]},
        {"role": "model", "parts": [{"text": "3"}, {"text": "4"}, {"text": "5"}]},
        {"role": "user", "parts": [{"text": "6"}]},
    ]
    assert sent(messages=[{"role": "system", "content": "A"}])["contents"] == [
        {"role": "user", "parts": [{"text": "A"}]}
    ]


def test_results_stand_together_in_the_order_of_the_calls() -> None:
    model, results, user = turns(
        {"role": "assistant", "content": "", "tool_calls": [
            call("a", arguments='{"x":1}', signature="sig"), call("b", "g", ""), call("c"),
        ]},
        result("c", "plain"),
        result("a", '{"ok":true}'),
        {"role": "user", "content": "And?"},
        result("b", "[1,2]"),
    )  # fmt: skip
    assert model["parts"] == [
        {"functionCall": {"name": "f", "args": {"x": 1}, "id": "a"}, "thoughtSignature": "sig"},
        {"functionCall": {"name": "g", "args": {}, "id": "b"}},
        {"functionCall": {"name": "f", "args": {}, "id": "c"}},
    ]
    assert results == {"role": "user", "parts": [
        {"functionResponse": {"name": "f", "id": "a", "response": {"ok": True}}},
        {"functionResponse": {"name": "g", "id": "b", "response": {"result": [1, 2]}}},
        {"functionResponse": {"name": "f", "id": "c", "response": {"result": "plain"}}},
    ]}  # fmt: skip
    assert user == {"role": "user", "parts": [{"text": "And?"}]}


def test_the_same_id_in_a_later_turn() -> None:
    found = turns(
        {"role": "assistant", "tool_calls": [call("a", "one")]},
        result("a", "1"),
        {"role": "assistant", "tool_calls": [call("a", "two")]},
        result("a", "2"),
    )
    assert [turn["parts"][0].get("functionResponse", {}).get("name") for turn in found] == [None, "one", None, "two"]


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("gemini-3-flash-preview", SKIP),
        ("gemini-flash-latest", SKIP),
        ("gemini-2.5-pro", None),
        ("gemini-2.0-flash", None),
    ],
)
def test_a_call_without_its_signature(model: str, signature: str | None) -> None:
    (turn,) = turns({"role": "assistant", "tool_calls": [call("a"), call("b")]}, model=model)
    assert [part.get("thoughtSignature") for part in turn["parts"]] == [signature, None]


def test_vertex_matches_calls_without_ids() -> None:
    asked = [{"role": "assistant", "tool_calls": [call("a"), call("b")]}, result("b", "2"), result("a", "1")]
    model, results = turns(*asked, dialect="vertex")
    assert all("id" not in part["functionCall"] for part in model["parts"])
    assert [part["functionResponse"] for part in results["parts"]] == [
        {"name": "f", "response": {"result": "1"}}, {"name": "f", "response": {"result": "2"}},
    ]  # fmt: skip


def test_signatures_of_text_and_pictures_return() -> None:
    signed = {"extra_content": {"google": {"thought_signature": "sig"}}}
    image = {"type": "image_url", "image_url": {"url": PIXEL}, "index": 0}
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    assert turns({"role": "assistant", "content": "Yes", **signed, "images": [{**image, **signed}, image]}) == [
        {"role": "model", "parts": [
            {"text": "Yes", "thoughtSignature": "sig"}, {**picture, "thoughtSignature": "sig"}, picture,
        ]}
    ]  # fmt: skip
    assert turns({"role": "assistant", "content": None, **signed}) == [
        {"role": "model", "parts": [{"text": "", "thoughtSignature": "sig"}]}
    ]


def test_legacy_functions() -> None:
    body = sent(
        messages=[
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "oops"}},
            {"role": "function", "name": "f", "content": "1"},
        ],
        functions=[{"name": "f"}],
        function_call={"name": "f"},
    )
    assert body["contents"][0]["parts"][0]["functionCall"] == {"name": "f", "args": {"INVALID_JSON": "oops"}}
    assert body["contents"][1]["parts"] == [{"functionResponse": {"name": "f", "response": {"result": "1"}}}]
    assert body["tools"] == [{"functionDeclarations": [{"name": "f"}]}]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}


@pytest.mark.parametrize(
    ("part", "made"),
    [
        ({"type": "image_url", "image_url": {"url": PIXEL}}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
        ({"type": "image_url", "image_url": PIXEL}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
        ({"type": "image_url", "image_url": {"url": "https://x/a.JPG?b=c"}},
         {"fileData": {"fileUri": "https://x/a.JPG?b=c", "mimeType": "image/jpeg"}}),
        ({"type": "image_url", "image_url": {"url": "https://x/a"}}, {"fileData": {"fileUri": "https://x/a"}}),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
         {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}}),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
         {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}}),
        ({"type": "file", "file": {"file_data": "AAAA", "filename": "a.csv"}},
         {"inlineData": {"mimeType": "text/csv", "data": "AAAA"}}),
        ({"type": "file", "file": {"file_id": "gs://b/a.pdf"}},
         {"fileData": {"fileUri": "gs://b/a.pdf", "mimeType": "application/pdf"}}),
    ],
)  # fmt: skip
def test_media(part: Json, made: Json) -> None:
    assert turns({"role": "user", "content": [part]}) == [{"role": "user", "parts": [made]}]


def test_a_picture_in_a_result() -> None:
    seen = [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    found = turns({"role": "assistant", "tool_calls": [call("a")]}, result("a", seen))
    assert found[1]["parts"][0]["functionResponse"] == {
        "name": "f", "id": "a", "response": {"result": "See"},
        "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ({"temperature": 0.2, "top_p": 0.9, "top_k": 5}, {"temperature": 0.2, "topP": 0.9, "topK": 5}),
        ({"max_tokens": 9}, {"maxOutputTokens": 9}),
        ({"max_completion_tokens": 9}, {"maxOutputTokens": 9}),
        ({"stop": "x"}, {"stopSequences": ["x"]}),
        ({"stop": ["x", "", "y"]}, {"stopSequences": ["x", "y"]}),
        ({"n": 3}, {"candidateCount": 3}),
        ({"seed": 7, "presence_penalty": 1, "frequency_penalty": -1},
         {"seed": 7, "presencePenalty": 1, "frequencyPenalty": -1}),
        ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#"}}}},
         {"responseMimeType": "application/json", "responseJsonSchema": {"$ref": "#"}}),
        ({"modalities": ["text", "image"]}, {"responseModalities": ["TEXT", "IMAGE"]}),
        ({"modalities": ["text"], "n": 1, "stream": True, "stream_options": {"include_usage": True}}, None),
        ({"extra_body": {"google": {"thinking_config": {"thinking_budget": 5, "include_thoughts": True}}}},
         {"thinkingConfig": {"thinkingBudget": 5, "includeThoughts": True}}),
    ],
)  # fmt: skip
def test_settings(given: Json, settings: Json | None) -> None:
    built = build(**given)
    assert orjson.loads(built.body).get("generationConfig") == settings
    assert built.dropped == ()


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "dropped"),
    [
        ("gemini-3.5-flash", "minimal", {"thinkingLevel": "MINIMAL", "includeThoughts": True}, ()),
        ("gemini-3.5-flash", "none", {"thinkingLevel": "MINIMAL"}, ("reasoning_effort",)),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}, ()),
        ("gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}, ()),
        ("gemini-3.1-pro-preview", "max", {"thinkingLevel": "HIGH", "includeThoughts": True}, ()),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}, ()),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}, ("reasoning_effort",)),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8192, "includeThoughts": True}, ()),
        ("gemini-2.0-flash", "high", None, ("reasoning_effort",)),
        ("gemma-3-27b-it", "high", None, ("reasoning_effort",)),
    ],
)
def test_thinking(model: str, effort: str, thinking: Json | None, dropped: tuple[str, ...]) -> None:
    built = build(model, reasoning_effort=effort)
    assert orjson.loads(built.body).get("generationConfig", {}).get("thinkingConfig") == thinking
    assert built.dropped == dropped


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}},
         {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}},
         {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)  # fmt: skip
def test_tools(choice: Any, config: Json | None) -> None:
    body = sent(tools=[TOOL, {"type": "function", "function": {"name": "bare"}}], tool_choice=choice)
    assert body.get("toolConfig") == (None if config is None else {"functionCallingConfig": config})
    assert body["tools"] == [
        {"functionDeclarations": [
            {"name": "f", "description": "D", "parametersJsonSchema": {"$ref": "#/$defs/x"}}, {"name": "bare"},
        ]}
    ]  # fmt: skip


def test_web_search_and_tier() -> None:
    assert sent(web_search_options={})["tools"] == [{"googleSearch": {}}]
    assert build(web_search_options={"search_context_size": "low"}).dropped == ("web_search_options",)
    assert sent(service_tier="flex")["serviceTier"] == "flex"
    assert build(dialect="vertex", service_tier="flex").dropped == ("service_tier",)


def test_what_is_dropped_is_told() -> None:
    strict = {"type": "function", "function": {"name": "f", "strict": True}}
    low = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    built = build(
        messages=[{"role": "user", "name": "Ann", "content": [{**low, "cache_control": {"type": "ephemeral"}}]}],
        tools=[strict], parallel_tool_calls=False, user="u", seed=2**40, metadata={}, logit_bias={"1": 2},
        prompt_cache_key="k", verbosity="low", unheard_of=1, store=None,
    )  # fmt: skip
    assert built.dropped == (
        "cache_control", "detail", "logit_bias", "metadata", "name", "parallel_tool_calls", "prompt_cache_key",
        "seed", "strict", "unheard_of", "user", "verbosity",
    )  # fmt: skip


def test_defaults_of_the_target_count() -> None:
    assert sent("defaults")["generationConfig"] == {"temperature": 0.5}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"messages": [result("nobody", "1")]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
         "messages[0].content[0].file.file_id"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}]},
         "messages[0].tool_calls[0]"),
    ],
)  # fmt: skip
def test_what_gemini_cannot_be_asked(body: Json, param: str) -> None:
    with pytest.raises(Refusal) as caught:
        build(**body)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message
