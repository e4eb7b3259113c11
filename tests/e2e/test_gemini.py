"""A real proxy before the simulated Gemini and Vertex, over real sockets: an agent's loop with the official SDK, and a
target with each fault beside a good one."""

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

KEY = "secret"
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
        gemini = await start(Simulated("gemini", seed=3, tokens=5, api_key=KEY, keep=10_000))
        vertex = await start(Simulated("vertex", seed=3, tokens=5, api_key=KEY, keep=10_000))
        address = vertex.base_url
        providers: dict[str, Any] = {
            "gemini": {"base_url": gemini.base_url, "api_key": KEY},
            "vertex": {"base_url": address, "api_key": KEY},
        }
        routes: dict[str, Any] = {name: {"targets": [f"{name}/gemini-3.5-flash"]} for name in ("gemini", "vertex")}
        for name in BROKEN:
            # Faults in mid-stream show before the first content, so that another target can still answer.
            told = name + ("=after:0" if FAULTS[name].takes is Takes.AFTER else "")
            providers[f"x-{name}"] = {"like": "gemini", **providers["gemini"], "headers": {"x-sim-fault": told}}
            routes[name] = {"targets": [f"x-{name}/gemini-3.5-flash", "vertex/gemini-3.5-flash"]}
        timeouts = {"connect": "2s", "ttft": "2s", "answer": "2s", "stall": "2s", "total": "60s"}
        config = {"providers": providers, "routes": routes, "defaults": {"timeouts": timeouts}}
        with processes.proxy(config, folder) as proxy:
            yield proxy.port


async def loop(client: openai.AsyncOpenAI, model: str) -> str:
    """Three turns, streamed: calls, calls, then words. The SDK's own assembler makes the messages that go back."""
    messages: list[Any] = [{"role": "user", "content": "Do it"}]
    for turn in range(3):
        choice: Any = "required" if turn < 2 else "auto"
        asked = {"model": model, "messages": messages, "tools": TOOLS, "tool_choice": choice}
        async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            answer = await stream.get_final_completion()
        assert answer.usage is not None
        assert answer.usage.total_tokens > 0
        message = answer.choices[0].message
        if turn == 2:
            assert answer.choices[0].finish_reason == "stop"
            return message.content or ""
        assert answer.choices[0].finish_reason == "tool_calls"
        assert [call.function.name for call in message.tool_calls or ()] == ["f", "g"]
        messages.append(message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "1"} for call in message.tool_calls or ()]
    raise AssertionError


def test_an_agents_loop(tmp_path: Path) -> None:
    async def main() -> list[str]:
        async with running(tmp_path) as port:
            url = f"http://127.0.0.1:{port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
                return [await loop(client, model) for model in ("gemini", "vertex")]

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
        async with running(tmp_path_factory.mktemp("gemini")) as port:
            cases = [(name, stream) for name in ("vertex", *BROKEN) for stream in (True, False)]
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
    good = answers["vertex", stream]
    assert good[0] == 200
    assert good[1]
    if name in CLIENTS_FAULT:
        assert status in (400, 422)
    elif stream and name in AFTER_CONTENT:
        assert (status, whole) == (200, False)
    else:
        assert (status, text, whole) == good
