"""OpenAI requests as Bedrock's Converse takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from proxy.errors import Refusal
from proxy.providers.base import Endpoint, Minted
from proxy.providers.bedrock import Bedrock
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json

OLD = "anthropic.claude-3-5-sonnet-20241022-v2:0"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ADAPTIVE = "us.anthropic.claude-opus-4-7-v1"
NOVA = "eu.amazon.nova-lite-v1:0"
NOVA_2 = "us.amazon.nova-2-lite-v1:0"
OSS = "openai.gpt-oss-120b-1:0"
LLAMA = "meta.llama3-3-70b-instruct-v1:0"

HELLO: Json = {"role": "user", "content": "Hello"}
TURN: Json = {"role": "user", "content": [{"text": "Hello"}]}
PNG = "data:image/png;base64,aW1hZ2U="
PDF = "data:application/pdf;base64,cGRm"
WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
SPEC: Json = {
    "toolSpec": {
        "name": "weather",
        "description": "Tells the weather",
        "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
}
SCHEMA: Json = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
FORM: Json = {"type": "json_schema", "json_schema": {"name": "x", "description": "d", "schema": SCHEMA}}


def build(model: str = CLAUDE, messages: list[Json] | None = None, **more: Any) -> tuple[Json, tuple[str, ...]]:
    to = Endpoint("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", model, region="us-east-1")
    ask = ChatRequest.parse(orjson.dumps({"model": "chat", "messages": messages or [HELLO], **more}))
    built = Bedrock().build(ask, to)
    return orjson.loads(built.body), built.dropped


def turns(*messages: Json) -> Any:
    return build(messages=list(messages))[0]["messages"]


def call(id: str, arguments: Any, name: str = "weather") -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def used(id: str, input: Json, name: str = "weather") -> Json:
    return {"toolUse": {"toolUseId": id, "name": name, "input": input}}


def result(id: str, *content: Json) -> Json:
    return {"toolResult": {"toolUseId": id, "content": list(content)}}


def test_the_least_request() -> None:
    assert build() == ({"messages": [TURN]}, ())
    assert build(stream=True, stream_options={"include_usage": True}, n=1, logprobs=False, store=False) == (
        {"messages": [TURN]},
        (),
    )


def test_system_text_stands_apart_and_turns_are_joined() -> None:
    body, _ = build(
        messages=[
            {"role": "system", "content": "One."},
            {"role": "user", "content": "A"},
            {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
            {"role": "user", "content": [{"type": "text", "text": "B"}, {"type": "text", "text": "  "}]},
            {"role": "assistant", "content": ""},
            {"role": "assistant", "content": "C  ", "refusal": None},
        ]
    )
    assert body["system"] == [{"text": "One."}, {"text": "Two."}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "A"}, {"text": "B"}]},
        {"role": "assistant", "content": [{"text": "C"}]},
    ]


def test_who_speaks_first() -> None:
    assert turns({"role": "assistant", "content": "Hi"}, HELLO)[0]["role"] == "user"
    body, _ = build(messages=[{"role": "system", "content": "Only this."}])
    assert body == {"messages": [{"role": "user", "content": [{"text": "Only this."}]}]}


def test_a_round_of_parallel_calls_with_results_in_any_order() -> None:
    for first, second in ((0, 1), (1, 0)):
        results: list[Json] = [
            {"role": "tool", "tool_call_id": "a", "content": "sunny"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "rain"}]},
        ]
        asked: Json = {"role": "assistant", "content": None, "tool_calls": [call("a", '{"city":"K"}'), call("b", "")]}
        made = turns(HELLO, asked, results[first], results[second], {"role": "user", "content": "So?"})
        blocks = [result("a", {"text": "sunny"}), result("b", {"text": "rain"})]
        assert made == [
            TURN,
            {"role": "assistant", "content": [used("a", {"city": "K"}), used("b", {})]},
            {"role": "user", "content": [blocks[first], blocks[second], {"text": "So?"}]},
        ]


def test_a_result_after_the_users_words_stands_first() -> None:
    asked: Json = {"role": "assistant", "tool_calls": [call("a", "{}"), call("b", "{}")]}
    made = turns(
        HELLO,
        asked,
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "user", "content": "Wait"},
        {"role": "tool", "tool_call_id": "b", "content": "", "is_error": True},
    )
    failed = {"toolResult": {"toolUseId": "b", "content": [], "status": "error"}}
    assert made[2]["content"] == [result("a", {"text": "1"}), failed, {"text": "Wait"}]


@pytest.mark.parametrize(
    ("arguments", "input"),
    [
        ("", {}),
        (" ", {}),
        (None, {}),
        ("{}", {}),
        ('{"a":1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("[1]", {"arguments": [1]}),
        ('{"cut', {"arguments": '{"cut'}),
    ],
)
def test_arguments_become_an_object(arguments: Any, input: Json) -> None:
    asked: Json = {"role": "assistant", "tool_calls": [call("a", arguments)]}
    assert turns(HELLO, asked)[1]["content"] == [used("a", input)]


def test_ids_that_bedrock_does_not_take() -> None:
    id = "call|1" * 30
    asked: Json = {"role": "assistant", "tool_calls": [call(id, "{}")]}
    made = turns(HELLO, asked, {"role": "tool", "tool_call_id": id, "content": "x"})
    new = made[1]["content"][0]["toolUse"]["toolUseId"]
    assert len(new) <= 64
    assert new.replace("_", "").isalnum()
    assert made[2]["content"][0]["toolResult"]["toolUseId"] == new


def test_ids_that_come_again() -> None:
    asked: Json = {"role": "assistant", "tool_calls": [call("c0", "{}")]}
    said: Json = {"role": "tool", "tool_call_id": "c0", "content": "x"}
    made = turns(HELLO, asked, said, asked, said)
    uses = [made[at]["content"][0]["toolUse"]["toolUseId"] for at in (1, 3)]
    assert uses == ["c0", "c0_2"]
    assert [made[at]["content"][0]["toolResult"]["toolUseId"] for at in (2, 4)] == uses


def test_calls_of_the_older_form() -> None:
    made = turns(
        HELLO,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "sunny"},
    )
    (asked,) = made[1]["content"]
    assert made[2]["content"] == [result(asked["toolUse"]["toolUseId"], {"text": "sunny"})]


def test_signed_thinking_comes_back_before_what_followed_it() -> None:
    details = [
        {"type": "reasoning.text", "text": "Hm, ", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.text", "text": "yes.", "signature": "c2ln", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "c2VjcmV0", "format": "amazon-bedrock-v1", "index": 1},
        {"type": "reasoning.encrypted", "data": "x", "format": "google-gemini-v1", "index": 2},
        {"type": "reasoning.text", "text": "unsigned", "format": "anthropic-claude-v1"},
    ]
    asked: Json = {"role": "assistant", "content": "Look.", "tool_calls": [call("a", "{}")]}
    made = turns(HELLO, {**asked, "reasoning_content": "Hm, yes.", "reasoning_details": details})
    assert made[1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm, yes.", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
        {"text": "Look."},
        used("a", {}),
    ]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": PNG}},
            {"image": {"format": "png", "source": {"bytes": "aW1hZ2U="}}},
        ),
        (
            {"type": "image_url", "image_url": "data:image/jpg;base64,aW1hZ2U="},
            {"image": {"format": "jpeg", "source": {"bytes": "aW1hZ2U="}}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "s3://bucket/a.jpg"}},
            {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/a.jpg"}}}},
        ),
        (
            {"type": "file", "file": {"file_data": PDF, "filename": "my_report, v.2.pdf"}},
            {"document": {"format": "pdf", "name": "my-report- v-2", "source": {"bytes": "cGRm"}}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:,a%20b", "filename": "a.csv"}},
            {"document": {"format": "csv", "name": "a", "source": {"bytes": "YSBi"}}},
        ),
        (
            {"type": "file", "file": {"file_data": "cGRm"}},
            {"document": {"format": "pdf", "name": "document", "source": {"bytes": "cGRm"}}},
        ),
        (
            {"type": "file", "file": {"file_data": PNG}},
            {"image": {"format": "png", "source": {"bytes": "aW1hZ2U="}}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}},
            {"audio": {"format": "wav", "source": {"bytes": "YQ=="}}},
        ),
    ],
)
def test_content(part: Json, block: Json) -> None:
    assert turns({"role": "user", "content": [part]})[0]["content"] == [block]


def test_documents_have_names_of_their_own() -> None:
    part: Json = {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}}
    made = turns({"role": "user", "content": [part, part]})
    assert [block["document"]["name"] for block in made[0]["content"]] == ["a", "a 2"]


def test_cache_points_stand_after_what_is_marked() -> None:
    mark = {"type": "ephemeral"}
    point = {"cachePoint": {"type": "default"}}
    body, _ = build(
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "S", "cache_control": {**mark, "ttl": "1h"}}]},
            {"role": "user", "content": [{"type": "text", "text": "A", "cache_control": mark}]},
            {"role": "assistant", "tool_calls": [call("a", "{}")]},
            {"role": "tool", "tool_call_id": "a", "content": "1", "cache_control": mark},
            {"role": "user", "content": "B", "cache_control": mark},
        ],
        tools=[{**WEATHER, "cache_control": mark}],
    )
    assert body["system"] == [{"text": "S"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert body["messages"][0]["content"] == [{"text": "A"}, point]
    assert body["messages"][2]["content"] == [result("a", {"text": "1"}), point, {"text": "B"}, point]
    assert body["toolConfig"]["tools"] == [SPEC, point]


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        (None, None),
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "weather"}}, {"tool": {"name": "weather"}}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [WEATHER]}}, {"any": {}}),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"name": "weather"}]}, {"auto": {}}),
    ],
)
def test_tool_choice(choice: Any, made: Json | None) -> None:
    body, dropped = build(tools=[WEATHER], tool_choice=choice)
    assert body["toolConfig"] == {"tools": [SPEC], **({"toolChoice": made} if made else {})}
    assert dropped == ()


def test_no_tools_wanted() -> None:
    assert build(tools=[WEATHER], tool_choice="none") == ({"messages": [TURN]}, ())
    history: list[Json] = [HELLO, {"role": "assistant", "tool_calls": [call("a", "{}")]}]
    history.append({"role": "tool", "tool_call_id": "a", "content": "1"})
    body, dropped = build(messages=history)
    (tool,) = body["toolConfig"]["tools"]
    assert (tool["toolSpec"]["name"], dropped) == ("weather", ())
    body, dropped = build(messages=history, tools=[WEATHER], tool_choice="none")
    assert body["toolConfig"]["tools"] == [tool]
    assert dropped == ("tool_choice",)


def test_a_tool_without_parameters_and_a_strict_one() -> None:
    body, dropped = build(tools=[{"type": "function", "function": {"name": "now", "strict": True}}])
    spec = body["toolConfig"]["tools"][0]["toolSpec"]
    assert (spec["name"], spec["strict"], spec["inputSchema"]["json"]["type"]) == ("now", True, "object")
    body, dropped = build(LLAMA, tools=[{"type": "function", "function": {"name": "now", "strict": True}}])
    assert "strict" not in body["toolConfig"]["tools"][0]["toolSpec"]
    assert dropped == ("tools[0].function.strict",)
    assert build(tools=[WEATHER], parallel_tool_calls=False)[1] == ("parallel_tool_calls",)
    assert build(tools=[WEATHER], parallel_tool_calls=True)[1] == ()


def test_limits_sampling_and_stop() -> None:
    body, dropped = build(OLD, max_completion_tokens=9, temperature=0.5, top_p=0.9, top_k=5, stop=["a", " "])
    assert body["inferenceConfig"] == {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["a"]}
    assert body["additionalModelRequestFields"] == {"top_k": 5}
    assert dropped == ("stop",)
    assert build(NOVA, top_k=5)[0]["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 5}}
    assert build(NOVA, temperature=1.5, stop="x", max_tokens=3) == (
        {"messages": [TURN], "inferenceConfig": {"maxTokens": 3, "temperature": 1, "stopSequences": ["x"]}},
        ("temperature",),
    )
    assert build(CLAUDE, temperature=0.5, top_p=0.9)[1] == ("top_p",)
    assert build(ADAPTIVE, temperature=0.5, top_p=0.9) == ({"messages": [TURN]}, ("temperature", "top_p"))


def test_the_answers_form() -> None:
    body, _ = build(CLAUDE, response_format=FORM)
    form = body["outputConfig"]["textFormat"]
    told = form["structure"]["jsonSchema"]
    assert (form["type"], told["name"], told["description"]) == ("json_schema", "x", "d")
    assert orjson.loads(told["schema"]) == SCHEMA
    body, _ = build(NOVA, response_format=FORM)
    assert body["toolConfig"]["toolChoice"] == {"tool": {"name": "json_answer"}}
    body, _ = build(OLD, response_format=FORM, tools=[WEATHER])
    assert body["toolConfig"]["toolChoice"] == {"any": {}}
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["weather", "json_answer"]
    body, _ = build(LLAMA, response_format=FORM)
    assert orjson.dumps(SCHEMA).decode() in body["system"][0]["text"]
    assert "JSON" in build(response_format={"type": "json_object"})[0]["system"][0]["text"]
    assert build(response_format={"type": "text"})[0] == {"messages": [TURN]}


@pytest.mark.parametrize(
    ("model", "effort", "more", "fields", "dropped"),
    [
        (CLAUDE, "low", {}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}, ()),
        (CLAUDE, "high", {"max_tokens": 4000}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, ()),
        (CLAUDE, "high", {"max_tokens": 1000}, None, ("reasoning_effort",)),
        (CLAUDE, "none", {}, None, ()),
        (CLAUDE, "low", {"tools": [WEATHER], "tool_choice": "required"}, None, ("reasoning_effort",)),
        (
            CLAUDE,
            "low",
            {"temperature": 0.2},
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            ("temperature",),
        ),
        (ADAPTIVE, "high", {}, {"thinking": {"type": "adaptive", "display": "summarized"}}, ()),
        (OLD, "low", {}, None, ("reasoning_effort",)),
        (OSS, "low", {}, {"reasoning_effort": "low"}, ()),
        (OSS, "max", {}, None, ("reasoning_effort",)),
        (NOVA_2, "medium", {}, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}, ()),
        (
            NOVA_2,
            "high",
            {"temperature": 0.2, "max_tokens": 5},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
            ("max_tokens", "temperature"),
        ),
        (NOVA, "low", {}, None, ("reasoning_effort",)),
    ],
)
def test_thinking(model: str, effort: str, more: Json, fields: Json | None, dropped: tuple[str, ...]) -> None:
    body, left = build(model, reasoning_effort=effort, **more)
    assert (body.get("additionalModelRequestFields"), left) == (fields, dropped)
    if model == ADAPTIVE:
        assert body["outputConfig"] == {"effort": "high"}


def test_thinking_is_left_out_where_the_turn_before_had_none() -> None:
    history: list[Json] = [HELLO, {"role": "assistant", "tool_calls": [call("a", "{}")]}]
    history.append({"role": "tool", "tool_call_id": "a", "content": "1"})
    body, dropped = build(messages=history, reasoning_effort="low")
    assert ("additionalModelRequestFields" in body, dropped) == (False, ("reasoning_effort",))


def test_the_rest() -> None:
    body, dropped = build(
        metadata={"team": "a"},
        service_tier="flex",
        guardrailConfig={"guardrailIdentifier": "g", "guardrailVersion": "1"},
        additionalModelRequestFields={"x": 1},
    )
    assert body["requestMetadata"] == {"team": "a"}
    assert body["serviceTier"] == {"type": "flex"}
    assert body["guardrailConfig"] == {"guardrailIdentifier": "g", "guardrailVersion": "1"}
    assert body["additionalModelRequestFields"] == {"x": 1}
    assert dropped == ()
    assert build(NOVA_2, web_search_options={})[0]["toolConfig"]["tools"] == [
        {"systemTool": {"name": "nova_grounding"}}
    ]


def test_what_cannot_be_said_is_told() -> None:
    hints = {
        "seed": 1,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "logit_bias": {"1": 1},
        "user": "u",
        "store": True,
        "verbosity": "low",
        "prediction": {"type": "content", "content": "x"},
        "prompt_cache_key": "k",
        "something_else": 1,
    }
    assert build(**hints) == ({"messages": [TURN]}, tuple(hints))
    assert build(metadata={"a": "ü|"}, service_tier="scale")[1] == ("metadata", "service_tier")


IMAGE_LINK = {"type": "image_url", "image_url": {"url": "https://a.example/a.png"}}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [WEATHER], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [IMAGE_LINK]}]}, "messages[0].content[0].image_url.url"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            "messages[0].content[0].file",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": "data:image/tiff;base64,YQ=="}]}
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,!"}]}
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": 5}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "tools": 5}}, "tool_choice"),
        ({"thinking": 5}, "thinking"),
        ({"messages": [HELLO, {"role": "assistant", "tool_calls": 5}]}, "messages[1].tool_calls"),
        ({"messages": [HELLO, {"role": "assistant", "tool_calls": [5]}]}, "messages[1].tool_calls[0]"),
    ],
)
def test_refusals(more: Json, param: str) -> None:
    with pytest.raises(Refusal) as caught:
        build(**more)
    assert (caught.value.status, caught.value.param) == (400, param)


RICH: Json = {
    "model": "chat",
    "temperature": 0.3,
    "top_p": 0.9,
    "stop": ["a"],
    "max_tokens": 50,
    "reasoning_effort": "low",
    "metadata": {"a": "b"},
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "response_format": FORM,
    "additionalModelRequestFields": {"reasoningConfig": {"maxReasoningEffort": "high"}},
    "outputConfig": {"effort": "low"},
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": {"ttl": "1h"}}]},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": PNG}},
                {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
                {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
            ],
        },
        {
            "role": "assistant",
            "content": "x",
            "refusal": "r",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1"},
                {"type": "reasoning.encrypted", "data": "eA==", "format": "amazon-bedrock-v1"},
            ],
            "tool_calls": [call("a", "{}")],
            "function_call": {"name": "f", "arguments": "{}"},
        },
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "z"}]},
        {"role": "function", "name": "f", "content": "q"},
    ],
}
JUNK: list[Any] = [None, -1, True, "x", [], [5], {}, {"type": []}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within."""
    for key in value if type(value) is dict else range(len(value)) if type(value) is list else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


@pytest.mark.parametrize("model", [CLAUDE, OLD, NOVA_2, LLAMA])
def test_nothing_in_any_place_makes_the_mapping_fall_over(model: str) -> None:
    to = Endpoint("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", model)
    refused = built = 0
    for path in places(RICH):
        for junk in JUNK:
            body = orjson.loads(orjson.dumps(RICH))
            held = body
            for key in path[:-1]:
                held = held[key]
            held[path[-1]] = junk
            try:
                ask = ChatRequest.parse(orjson.dumps(body))
                Bedrock().decoder(ask, to, Minted("chatcmpl-1", 1))
                Bedrock().build(ask, to)
            except Refusal:
                refused += 1
            else:
                built += 1
    assert refused
    assert built
