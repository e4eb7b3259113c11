"""One route over OpenAI, Anthropic, Gemini and Bedrock: each fails in turn, in its own dialect's way, and no client
sees more than a normal answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import openai
import pytest
from openai.types.chat import ChatCompletion

from proxy.simulated import FAULTS
from proxy.simulated.faults import Takes
from tests import processes

MODELS = {
    "openai": "gpt-5-mini",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-3.5-flash",
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
}
KEY = "secret"
WAITS = {"hang_before_headers", "stall_mid_stream", "slow_body", "wrong_content_length", "refuse"}
"""They show only when a deadline passes, or close the port for all."""
CLIENTS_FAULT = {"http_400", "http_422", "http_413", "context_length", "content_filter"}
"""Another target would say the same, as far as the proxy can know."""
AFTER_CONTENT = {"missing_finish", "wrong_content_length_short"}
"""Streams that say something before they fail: no other target can answer."""
FAILS = [name for name, one in FAULTS.items() if not one.harmless and name not in WAITS | CLIENTS_FAULT | AFTER_CONTENT]
OWN = {
    "openai": "http_503",
    "anthropic": "http_529",
    "gemini": "http_429",
    "bedrock": "error_event",
}
"""The failure each is known for: overloaded, 529, RESOURCE_EXHAUSTED, an exception in the event stream."""


class World(NamedTuple):
    proxy: processes.Running
    upstreams: dict[str, processes.Upstream]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("mixed")
    with ExitStack() as stack:
        providers: dict[str, Any] = {}
        upstreams = {}
        for name in MODELS:
            served = stack.enter_context(processes.upstream(folder / name, "--dialect", name, "--api-key", KEY))
            upstreams[name] = served
            base = served.base_url + ("/v1" if name == "openai" else "")
            providers[name] = {"like": name, "dialect": name, "base_url": base, "api_key": KEY}
            providers[name] |= {"region": "us-east-1"} if name == "bedrock" else {}
            for fault in FAILS:
                providers[f"{name}-{fault}"] = {**providers[name], "headers": {"x-sim-fault": _told(fault)}}
        routes = {
            f"{name}.{fault}": _route(f"{name}-{fault}/{MODELS[name]}", *_good(but=name))
            for name in MODELS
            for fault in FAILS
        }
        for name in MODELS:
            failing = [f"{one}-{OWN[one]}/{MODELS[one]}" for one in MODELS if one != name]
            routes[f"only.{name}"] = _route(*failing, f"{name}/{MODELS[name]}")
        config = {"providers": providers, "routes": routes}
        yield World(stack.enter_context(processes.proxy(config, folder)), upstreams)


def _told(fault: str) -> str:
    """Faults amid the answer show before the first content, so that another target can still answer."""
    return fault + ("=after:0" if FAULTS[fault].takes is Takes.AFTER else "")


def _good(but: str) -> list[str]:
    return [f"{name}/{model}" for name, model in MODELS.items() if name != but]


def _route(*targets: str) -> dict[str, Any]:
    return {"targets": list(targets), "retries": {"per_target": 1, "per_request": 4}}


def _ask(client: openai.OpenAI, model: str, *, stream: bool) -> Any:
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    if not stream:
        return client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
        return events.get_final_completion()


def _is_normal(answer: ChatCompletion) -> None:
    [choice] = answer.choices
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_each_fails_in_turn_in_its_own_way(world: World, name: str, stream: bool) -> None:
    before = world.upstreams[name].stats()["requests"]
    with openai.OpenAI(base_url=f"{world.proxy.base_url}/v1", api_key="none", max_retries=0) as client:
        for fault in FAILS:
            try:
                _is_normal(_ask(client, f"{name}.{fault}", stream=stream))
            except (openai.OpenAIError, AssertionError) as error:
                raise AssertionError(f"{name} with {fault}") from error
    assert world.upstreams[name].stats()["requests"] > before  # the failing one was asked


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_three_fail_and_the_last_answers(world: World, name: str, stream: bool) -> None:
    with openai.OpenAI(base_url=f"{world.proxy.base_url}/v1", api_key="none", max_retries=0) as client:
        _is_normal(_ask(client, f"only.{name}", stream=stream))


def test_names_that_a_client_makes_up_cannot_break_the_answers_head(world: World) -> None:
    asked = {"model": "only.anthropic", "messages": [{"role": "user", "content": "Hello"}]}
    hostile = ["a\r\nx-evil: 1", "b\0", "\u65e5\u672c", "c" * 70_000, *[f"n{at}" for at in range(200)]]
    for stream in (False, True):
        answer = world.proxy.ask("/v1/chat/completions", {**asked, "stream": stream, **dict.fromkeys(hostile, 1)})
        assert answer.status == 200
        assert "x-evil" not in answer.headers
        told = answer.headers["x-weighbridge-dropped"].split(",")
        assert told[:4] == [r"a\r\nx-evil: 1", r"b\x00", r"\u65e5\u672c", "c" * 64]
        assert len(told) == 50
