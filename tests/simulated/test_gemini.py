"""The simulated Gemini: its answers against Google's own types, its complaints, and an agent's loop through the proxy's
dialect, with signatures demanded."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from policies.verdict import Kind
from proxy.assemble import DIALECTS
from proxy.providers.base import Endpoint, Minted
from proxy.simulated.answer import Answer, Complaint, Wanted, plan
from proxy.simulated.dialect import Request, Rules
from proxy.simulated.gemini import Gemini, Vertex
from proxy.simulated.latency import Tokens
from proxy.simulated.spoil import STATUSES
from proxy.wire.chat import ChatRequest

Json = dict[str, Any]
MODEL = "gemini-3.5-flash"
HI: Json = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
DECLARED = {"name": "f", "parametersJsonSchema": {"type": "object", "properties": {"x": {"type": "integer"}}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": DECLARED["parametersJsonSchema"]}}
    for name in ("f", "g")
]
CALL: Json = {"functionCall": {"name": "f", "args": {}}}
RESULT: Json = {"functionResponse": {"name": "f", "response": {}}}


def request(body: object, path: str = f"/v1beta/models/{MODEL}:generateContent", **headers: str) -> Request:
    return Request("POST", path, headers, b"", body)


def read(body: object, model: str = MODEL) -> Wanted:
    return Gemini().read(request(body, f"/v1beta/models/{model}:generateContent"), Rules())


def planned(wanted: Wanted) -> Answer:
    return plan(wanted, seed=1, number=1, source="sim", tokens=Tokens.of(8))


def through(body: Json, *, stream: bool, dialect: str = "gemini") -> Json:
    """One request of an app: the proxy's dialect, the simulator, and the message that the app gets."""
    raw = orjson.dumps({"model": "m", "stream": stream, **body})
    ask, provider = ChatRequest.parse(raw), DIALECTS[dialect]
    simulated = Vertex() if dialect == "vertex" else Gemini()
    to = Endpoint("google", f"http://sim{simulated.prefix}", MODEL)
    path = simulated.prefix + provider.path(to, stream).partition("?")[0]
    headers = {name.decode(): value.decode() for name, value in provider.headers(to, "secret", stream)}
    assert simulated.answers("POST", path)
    sent = Request("POST", path, headers, b"", orjson.loads(provider.build(ask, to).body))
    wanted = simulated.read(sent, Rules(models=(MODEL,), api_key="secret"))
    assert wanted.stream is stream
    reply = (simulated.stream if stream else simulated.whole)(wanted, planned(wanted))
    decoder = provider.decoder(ask, to, Minted("chatcmpl-1", 1))
    chunks = decoder.feed(reply.body()) + decoder.close()
    if not stream:
        message: Json = (chunks[0].body or {})["choices"][0]["message"]
        return message
    message = {"role": "assistant", "content": ""}
    for chunk in chunks:
        for choice in (chunk.body or {"choices": []})["choices"]:
            message["content"] += choice["delta"].get("content") or ""
            message.setdefault("tool_calls", []).extend(choice["delta"].get("tool_calls", []))
    return message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["gemini", "vertex"])
def test_an_agents_loop(stream: bool, dialect: str) -> None:
    messages: list[Json] = [{"role": "user", "content": "Do it"}]
    for _ in range(2):
        asked = {"messages": messages, "tools": TOOLS, "tool_choice": "required"}
        answer = through(asked, stream=stream, dialect=dialect)
        calls = answer["tool_calls"]
        assert [call["function"]["name"] for call in calls] == ["f", "g"]
        assert calls[0]["extra_content"]["google"]["thought_signature"]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "1"} for call in reversed(calls)]
        messages += [answer, *results]
    last = through({"messages": messages, "tools": TOOLS}, stream=stream, dialect=dialect)
    assert last["content"]
    assert not last.get("tool_calls")
    # A client that loses what it does not know still goes on.
    for message in messages:
        for call in message.get("tool_calls", ()):
            call.pop("extra_content", None)
    assert through({"messages": messages, "tools": TOOLS}, stream=stream, dialect=dialect)["content"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_answer_streamed_and_whole(stream: bool) -> None:
    thinking = {"messages": [{"role": "user", "content": "Say"}], "reasoning_effort": "low"}
    assert through(thinking, stream=stream)["content"] == through(thinking, stream=False)["content"] != ""


def test_its_answers_have_googles_form() -> None:
    types = pytest.importorskip("google.genai.types")
    bodies = [
        HI,
        {**HI, "tools": [{"functionDeclarations": [DECLARED]}]},
        {**HI, "generationConfig": {"candidateCount": 2, "responseLogprobs": True, "logprobs": 2}},
        {**HI, "generationConfig": {"thinkingConfig": {"includeThoughts": True}, "maxOutputTokens": 2}},
        {**HI, "generationConfig": {"responseMimeType": "application/json"}},
    ]
    for body in bodies:
        wanted = read(body)
        answer = planned(wanted)
        whole = types.GenerateContentResponse.model_validate(orjson.loads(Gemini().whole(wanted, answer).body()))
        parts = [part.data for part in Gemini().stream(wanted, answer).parts]
        told = [
            types.GenerateContentResponse.model_validate(orjson.loads(part.removeprefix(b"data: "))) for part in parts
        ]
        assert whole.candidates[0].finish_reason == told[-1].candidates[0].finish_reason
        assert whole.usage_metadata == told[-1].usage_metadata


def user(*parts: Json) -> Json:
    return {"role": "user", "parts": list(parts)}


def model(*parts: Json) -> Json:
    return {"role": "model", "parts": list(parts)}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (None, "Invalid JSON payload"),
        ({}, "contents is not specified"),
        ({**HI, "messages": []}, 'Unknown name "messages"'),
        ({**HI, "generationConfig": {"max_tokens": 5}}, "Unknown name"),
        ({**HI, "generationConfig": {"stopSequences": [*"abcdef"]}}, "stop_sequences"),
        ({**HI, "generationConfig": {"responseJsonSchema": {}}}, "needs the response mime type"),
        ({**HI, "tools": [DECLARED]}, "Unknown name"),
        ({**HI, "tools": [{"functionDeclarations": [{**DECLARED, "strict": True}]}]}, "Unknown name"),
        ({**HI, "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"$ref": "x"}}]}]}, "Unknown name"),
        ({**HI, "toolConfig": {"functionCallingConfig": {"mode": "auto"}}}, "Invalid value"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "valid role"),
        ({"contents": [user()]}, "must not be empty"),
        ({"contents": [user({"type": "text"})]}, "Unknown name"),
        ({"contents": [user({"text": "x", "inlineData": {}})]}, "oneof"),
        ({"contents": [user({"inlineData": {"mimeType": "image/png", "data": "?"}})]}, "Base64"),
        ({"contents": [user({"text": "x"}), model(CALL)]}, "missing a thought_signature"),
        ({"contents": [user({"text": "x"}), model({**CALL, "thoughtSignature": "forged"})]}, "not valid"),
        ({"contents": [user({"text": "x"}), user(RESULT)]}, "function response parts is equal"),
        ({"contents": [model(CALL, CALL), user(RESULT)]}, "function response parts is equal"),
        ({"contents": [model(CALL), user({"text": "x"})]}, "followed by its function responses"),
        ({"contents": [model(RESULT)]}, "right role"),
        ({"contents": [model({"functionCall": {"name": "f", "args": "{}"}})]}, "Struct"),
    ],
)
def test_what_it_refuses(body: object, told: str) -> None:
    with pytest.raises(Complaint, match=told) as caught:
        read(body)
    assert DIALECTS["gemini"].error(400, (), Gemini().error(caught.value)).kind is Kind.BAD_REQUEST


def test_old_models_need_no_signatures_and_nobody_needs_those_of_old_turns() -> None:
    contents = [user({"text": "x"}), model(CALL), user(RESULT)]
    assert read({"contents": contents}, "gemini-2.5-flash").model == "gemini-2.5-flash"
    assert read({"contents": [*contents, model({"text": "y"}), user({"text": "z"})]}).model == MODEL


def test_a_wrong_key() -> None:
    rules = Rules(api_key="secret")
    for simulated, status, path in (
        (Gemini(), 400, f"/v1beta/models/{MODEL}:generateContent"),
        (Vertex(), 401, f"{Vertex.prefix}/publishers/google/models/{MODEL}:generateContent"),
    ):
        with pytest.raises(Complaint) as caught:
            simulated.read(request(HI, path), rules)
        assert caught.value.status == status
        assert DIALECTS[simulated.name].error(status, (), simulated.error(caught.value)).kind is Kind.AUTH


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("http_400", Kind.BAD_REQUEST), ("context_length", Kind.CONTEXT_LENGTH), ("http_401", Kind.AUTH),
        ("http_402", Kind.QUOTA), ("http_403", Kind.AUTH), ("http_404", Kind.UNKNOWN_MODEL),
        ("http_429", Kind.RATE_LIMIT), ("http_429_quota", Kind.QUOTA), ("http_500", Kind.SERVER_ERROR),
        ("http_502", Kind.SERVER_ERROR), ("http_503", Kind.SERVER_ERROR), ("http_504", Kind.SERVER_ERROR),
        ("http_529", Kind.SERVER_ERROR),
    ],
)  # fmt: skip
def test_its_errors_are_read_as_what_they_are(fault: str, kind: Kind) -> None:
    complaint = STATUSES[fault]
    error = DIALECTS["gemini"].error(complaint.status, (), Gemini().error(complaint))
    assert error.kind is kind
    assert error.retry_after == (1.0 if fault == "http_429" else None)


def test_other_paths() -> None:
    counted = Gemini().other(request(HI, f"/v1beta/models/{MODEL}:countTokens"), Rules())
    assert orjson.loads(counted.body())["totalTokens"] > 0
    listed = Gemini().other(Request("GET", "/v1beta/models", {}, b""), Rules(models=("a", "b")))
    assert [one["name"] for one in orjson.loads(listed.body())["models"]] == ["models/a", "models/b"]
    with pytest.raises(Complaint):
        Gemini().other(Request("GET", "/v2", {}, b""), Rules())
    assert not Gemini().answers("POST", "/v1/chat/completions")
    with pytest.raises(Complaint, match="not found"):
        Gemini().read(request(HI), Rules(models=("another",)))
