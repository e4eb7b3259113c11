"""A real proxy before the simulated Bedrock, over real sockets: an agent's loop with the official SDK, by API key and
with signed requests, and a target with each fault beside a good one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.simulated import FAULTS, Simulated
from proxy.simulated.faults import Takes
from tests import processes
from tests.e2e.raw import chat, post

KEY = "ABSK-key"
PAIR = "AKIAIOSFODNN7EXAMPLE:secret/x:to=ken"
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOTHING = {"type": "object", "properties": {}}
TOOLS: list[Any] = [{"type": "function", "function": {"name": name, "parameters": NOTHING}} for name in "fg"]
BROKEN = [name for name, fault in FAULTS.items() if not fault.harmless]
CLIENTS_FAULT = {"http_400", "http_422", "content_filter"}
AFTER_CONTENT = {"missing_finish", "slow_body", "wrong_content_length_short"}
"""Streams that say something before they fail: no other target can answer, so the client must be told."""


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[int]:
    async with AsyncExitStack() as stack:
        start = stack.enter_async_context
        keyed = await start(Simulated("bedrock", seed=3, tokens=5, api_key=KEY, keep=10_000))
        signed = await start(Simulated("bedrock", seed=3, tokens=5, api_key=PAIR, keep=10_000))
        providers: dict[str, Any] = {
            "keyed": {"base_url": keyed.base_url, "api_key": KEY},
            "signed": {"base_url": signed.base_url, "api_key": PAIR},
            "wrong": {"base_url": signed.base_url, "api_key": PAIR.replace("secret", "other")},
        }
        for name in BROKEN:
            # Faults in mid-stream show before the first content, so that another target can still answer.
            told = name + ("=after:0" if FAULTS[name].takes is Takes.AFTER else "")
            providers[name] = {**providers["signed"], "headers": {"x-sim-fault": told}}
        routes: dict[str, Any] = {name: {"targets": [f"{name}/{MODEL}"]} for name in ("keyed", "signed", "wrong")}
        routes |= {name: {"targets": [f"{name}/{MODEL}", f"keyed/{MODEL}"]} for name in BROKEN}
        bedrock = {"like": "bedrock", "region": "eu-central-1"}
        timeouts = {"connect": "2s", "ttft": "2s", "answer": "2s", "stall": "2s", "total": "60s"}
        config = {
            "providers": {name: bedrock | provider for name, provider in providers.items()},
            "routes": routes,
            "defaults": {"timeouts": timeouts},
        }
        with processes.proxy(config, folder) as proxy:
            yield proxy.port


async def loop(client: openai.AsyncOpenAI, model: str) -> str:
    """Two turns, streamed, with thinking whose signature must come back: calls, then words. The SDK's own assembler
    makes the messages that go back."""
    messages: list[Any] = [{"role": "user", "content": "Do it"}]
    for turn in range(2):
        asked: Any = {"model": model, "messages": messages, "tools": TOOLS, "reasoning_effort": "low"}
        async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            answer = await stream.get_final_completion()
        assert answer.usage is not None
        assert answer.usage.total_tokens > 0
        message = answer.choices[0].message
        assert message.model_dump()["reasoning_details"][0]["signature"]
        if turn == 1:
            assert answer.choices[0].finish_reason == "stop"
            return message.content or ""
        assert answer.choices[0].finish_reason == "tool_calls"
        assert [call.function.name for call in message.tool_calls or ()] == ["f", "g"]
        messages.append(message.model_dump(exclude_none=True))
        results = [{"role": "tool", "tool_call_id": call.id, "content": "1"} for call in message.tool_calls or ()]
        messages += reversed(results)
    raise AssertionError


def test_an_agents_loop(tmp_path: Path) -> None:
    async def main() -> list[str]:
        async with running(tmp_path) as port:
            url = f"http://127.0.0.1:{port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
                texts = [await loop(client, model) for model in ("keyed", "signed")]
                with pytest.raises(openai.InternalServerError) as caught:
                    await loop(client, "wrong")
                assert caught.value.code == "upstream_auth"
                return texts

    assert all(asyncio.run(main()))


async def ask(port: int, name: str, stream: bool) -> tuple[int, str, bool]:
    """Status, text, and whether the answer is whole."""
    answer = await post(port, chat(name, stream))
    if answer.status != 200 or not stream:
        content = answer.json()["choices"][0]["message"]["content"] if answer.status == 200 else ""
        return answer.status, content, answer.status == 200
    events = answer.events
    chunks = [event for event in events if event != "[DONE]"]
    text = "".join(one["delta"].get("content") or "" for chunk in chunks for one in chunk.get("choices", ()))
    return answer.status, text, events[-1] == "[DONE]"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], tuple[int, str, bool]]:
    async def main() -> dict[tuple[str, bool], tuple[int, str, bool]]:
        async with running(tmp_path_factory.mktemp("bedrock")) as port:
            cases = [(name, stream) for name in ("keyed", *BROKEN) for stream in (True, False)]
            gate = asyncio.Semaphore(16)

            async def one(case: tuple[str, bool]) -> tuple[int, str, bool]:
                async with gate:
                    return await ask(port, *case)

            return dict(zip(cases, await asyncio.gather(*map(one, cases)), strict=True))

    return asyncio.run(main())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_target_beside_a_good_one(
    name: str, stream: bool, answers: dict[tuple[str, bool], tuple[int, str, bool]]
) -> None:
    status, text, whole = answers[name, stream]
    good = answers["keyed", stream]
    assert good[0] == 200
    assert good[1]
    if name in CLIENTS_FAULT:
        assert status in (400, 422)
    elif stream and name in AFTER_CONTENT:
        assert (status, whole) == (200, False)
    else:
        assert (status, text, whole) == good
