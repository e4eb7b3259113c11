"""A real inference server behind the proxy: answers equal the direct ones, byte for byte but for ids and times.

What may differ is named in `settled` and nothing else: minted ids, the creation time, and llama.cpp's own `timings`.
(Those ride on the last event of a stream, which is the usage event when usage is asked for. The proxy asks for it and
takes it out again for a client that did not, so such a client gets no timings.)
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.parts.tiny_model import CONTEXT, END_OF_TURN, LESS_THAN, TOOL_CALL
from tests.processes import Answer, Running

pytestmark = pytest.mark.parts

ASK: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "How much does it weigh? 12 t, é 日 🚚"}],
    "temperature": 0,
    "max_tokens": 32,
}
WEIGH = {
    "type": "function",
    "function": {
        "name": "weigh",
        "description": "Weigh one axle.",
        "parameters": {
            "type": "object",
            "properties": {"axle": {"type": "integer", "minimum": 1, "maximum": 9}, "unit": {"enum": ["kg", "t"]}},
            "required": ["axle", "unit"],
            "additionalProperties": False,
        },
    },
}
LIFT = {
    "type": "function",
    "function": {
        "name": "lift",
        "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
    },
}
TICKET = {
    "type": "json_schema",
    "json_schema": {
        "name": "ticket",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "kg": {"type": "integer", "minimum": 0, "maximum": 999},
                "plate": {"type": "string", "maxLength": 6},
                "passed": {"type": "boolean"},
            },
            "required": ["kg", "plate", "passed"],
            "additionalProperties": False,
        },
    },
}
HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weigh axle 1."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weigh", "arguments": '{"axle": 1}'}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "7.5 t"},
    {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "axle 2?"}]},
]
CALL_ONCE = {str(END_OF_TURN): 100, str(TOOL_CALL): 90, str(LESS_THAN): 50}
CALL_ON = {str(TOOL_CALL): 100}

ASKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "end of turn": {"temperature": 1.0, "seed": 4, "logit_bias": {str(END_OF_TURN): 3}, "max_tokens": 900},
    "empty answer": {"logit_bias": {str(END_OF_TURN): 100}},
    "max_tokens": {"max_tokens": 1},
    "max_completion_tokens": {"max_tokens": None, "max_completion_tokens": 5},
    "n = 1": {"n": 1},
    "n = 2, sampled by seed": {"n": 2, "temperature": 1.0, "seed": 11},
    "sampled by seed": {"temperature": 1.0, "top_p": 0.9, "seed": 5},
    "stop": {"stop": ["pG", "nt"], "max_tokens": 200},
    "logprobs": {"logprobs": True, "top_logprobs": 3, "max_tokens": 8},
    "JSON schema": {"response_format": TICKET, "max_tokens": 200},
    "JSON object": {"response_format": {"type": "json_object"}, "max_tokens": 40},
    "one tool call": {"tools": [WEIGH], "tool_choice": "required", "logit_bias": CALL_ONCE, "max_tokens": 200},
    "parallel tool calls": {
        "tools": [WEIGH, LIFT],
        "tool_choice": "required",
        "parallel_tool_calls": True,
        "logit_bias": CALL_ON,
        "max_tokens": 300,
    },
    "tools offered, none called": {"tools": [WEIGH], "tool_choice": "auto"},
    "tool results and text parts": {"messages": HISTORY, "tools": [WEIGH]},
    "a field of llama.cpp's own": {"repeat_penalty": 1.5, "top_k": 5},
}


def config(llamacpp: Running) -> dict[str, Any]:
    """`weighed` is a route to the same model under another name."""
    return {
        "providers": {"local": {"dialect": "openai", "base_url": f"{llamacpp.base_url}/v1", "api_key": None}},
        "routes": {name: {"targets": ["local/tiny"]} for name in ("tiny", "weighed")},
    }


@pytest.fixture(scope="module")
def through(llamacpp: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The proxy in front of llama.cpp."""
    with processes.proxy(config(llamacpp), tmp_path_factory.mktemp("proxy")) as running:
        yield running


def chat(server: Running, **ask: Any) -> Answer:
    body = {name: value for name, value in {**ASK, **ask}.items() if value is not None}
    return server.ask("/v1/chat/completions", body)


def settled(body: bytes) -> bytes:
    """The answer without what no two calls share: minted ids, creation time, timings."""
    body = re.sub(rb'"id":"(chatcmpl-)?[A-Za-z0-9]{32}"', rb'"id":"\1"', body)
    body = re.sub(rb'"created":\d+', b'"created":0', body)
    return re.sub(rb',"timings":\{[^{}]*\}', b"", body)


def by_choice(body: bytes) -> dict[int, list[Any]]:
    """What each choice of a stream says: which goes first is up to the server's threads.

    llama.cpp gives each choice an id of its own, and tells usage while another choice goes on; the proxy mends both.
    """
    said: dict[int, list[Any]] = {}
    for event in body.split(b"\n\n"):
        for one in json.loads(event[6:])["choices"] if event.startswith(b"data: {") else ():
            delta = {key: value for key, value in one["delta"].items() if value not in (None, "")}
            if delta or one["finish_reason"]:
                said.setdefault(one["index"], []).append((delta, one["finish_reason"]))
    return said


def assert_same(direct: Answer, proxied: Answer, label: str) -> None:
    assert proxied.status == direct.status == 200, proxied.body
    assert proxied.headers["content-type"].split(";")[0] == direct.headers["content-type"].split(";")[0]
    if label.startswith("n = 2") and direct.body.startswith(b"data:"):
        assert by_choice(proxied.body) == by_choice(direct.body)
    else:
        assert settled(proxied.body) == settled(direct.body)


@pytest.mark.parametrize("label", ASKS)
def test_an_answer_equals_the_direct_one(llamacpp: Running, through: Running, label: str) -> None:
    direct = chat(llamacpp, **ASKS[label])
    assert_same(direct, chat(through, **ASKS[label]), label)


@pytest.mark.parametrize("usage", [None, {"include_usage": True}, {"include_usage": False}], ids=["-", "usage", "none"])
@pytest.mark.parametrize("label", ASKS)
def test_a_stream_equals_the_direct_one(llamacpp: Running, through: Running, label: str, usage: object) -> None:
    direct = chat(llamacpp, **ASKS[label], stream=True, stream_options=usage)
    assert direct.body.endswith(b"data: [DONE]\n\n")
    assert (b'"usage":' in direct.body) == (usage == {"include_usage": True})
    assert_same(direct, chat(through, **ASKS[label], stream=True, stream_options=usage), label)


def test_the_answers_compared_are_what_their_labels_say(llamacpp: Running) -> None:
    """Otherwise equal answers would be equal for want of content, and the comparison would show little."""
    answers = {label: chat(llamacpp, **ask).json()["choices"] for label, ask in ASKS.items()}

    def finish(label: str) -> str:
        return str(answers[label][0]["finish_reason"])

    def calls(label: str) -> list[Any]:
        return list(answers[label][0]["message"]["tool_calls"])

    assert finish("plain") == "length"
    stopped = ("end of turn", "empty answer", "stop", "JSON schema")
    assert {label: finish(label) for label in stopped} == dict.fromkeys(stopped, "stop")
    assert answers["empty answer"][0]["message"]["content"] == ""
    assert [choice["index"] for choice in answers["n = 2, sampled by seed"]] == [0, 1]
    assert len(answers["logprobs"][0]["logprobs"]["content"][0]["top_logprobs"]) == 3
    ticket = json.loads(answers["JSON schema"][0]["message"]["content"])
    assert sorted(ticket) == ["kg", "passed", "plate"]
    assert finish("one tool call") == "tool_calls"
    assert json.loads(calls("one tool call")[0]["function"]["arguments"])["unit"] in ("kg", "t")
    assert len(calls("parallel tool calls")) > 1
    assert any(ord(letter) > 127 for letter in answers["end of turn"][0]["message"]["content"])


def test_two_direct_answers_differ_in_nothing_else(llamacpp: Running) -> None:
    first, second = chat(llamacpp), chat(llamacpp)
    assert first.body != second.body
    assert settled(first.body) == settled(second.body)
    assert settled(first.body) != settled(chat(llamacpp, max_tokens=31).body)


def test_a_route_under_another_name_sends_the_model_of_its_target(llamacpp: Running, through: Running) -> None:
    direct, proxied = chat(llamacpp), chat(through, model="weighed")
    assert proxied.json()["model"] == "tiny"
    assert_same(direct, proxied, "route")


def test_a_model_can_be_asked_without_a_route(llamacpp: Running, through: Running) -> None:
    assert_same(chat(llamacpp), chat(through, model="local/tiny"), "direct")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_the_clients_fault(llamacpp: Running, through: Running, stream: bool) -> None:
    ask = {"messages": [{"role": "user", "content": "abcdefgh" * (CONTEXT // 5)}], "stream": stream}
    direct, proxied = chat(llamacpp, **ask), chat(through, **ask)
    assert direct.status == proxied.status == 400
    error = proxied.json()["error"]
    assert error["message"] == direct.json()["error"]["message"]
    assert error["code"] == "context_length_exceeded"
    assert {"message", "type", "param", "code"} <= error.keys()


@pytest.mark.parametrize("fault", [{"n": 3}, {"response_format": {"type": "nonsense"}}, {"messages": [{"role": 1}]}])
def test_a_bad_request_keeps_its_status_and_message(llamacpp: Running, through: Running, fault: dict[str, Any]) -> None:
    direct, proxied = chat(llamacpp, **fault), chat(through, **fault)
    assert direct.status == proxied.status == 400
    assert {"message", "type", "param", "code"} <= proxied.json()["error"].keys()


def test_an_upstream_that_closes_after_a_hundred_requests_is_asked_again(through: Running) -> None:
    """llama.cpp ends a kept connection after its hundredth request; on ours that must never show."""
    with closing(http.client.HTTPConnection("127.0.0.1", through.port, timeout=60)) as connection:
        for _ in range(230):
            body = json.dumps({**ASK, "max_tokens": 1})
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            with connection.getresponse() as response:
                assert response.status == 200, response.read()
                response.read()


def test_the_record_holds_the_tokens_that_llamacpp_counted(llamacpp: Running, tmp_path: Path) -> None:
    """Also for a stream whose client did not ask for usage, and for a request that was refused."""
    usage = chat(llamacpp).json()["usage"]
    with processes.proxy(config(llamacpp), tmp_path) as running:
        assert chat(running).status == 200
        assert b'"usage"' not in chat(running, stream=True).body
        assert chat(running, n=3).status == 400
    query = "SELECT outcome, stream, target, input_tokens, output_tokens FROM v_exchanges"
    rows = processes.rows(tmp_path, query)
    counted = {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}
    served = [row for row in rows if row["outcome"] == "ok"]
    assert sorted(served, key=lambda row: int(row["stream"])) == [
        {"outcome": "ok", "stream": stream, "target": "local/tiny", **counted} for stream in (0, 1)
    ]
    assert [row["outcome"] for row in rows if row not in served] == ["client_error"]
