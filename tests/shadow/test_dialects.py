"""Every form in which a client may ask, streamed or not, with text, tools and JSON schemas: asked of an OpenAI target,
mirrored to candidates that speak Anthropic's and Google's dialects, and compared."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path
from typing import Any

import orjson

from proxy.measure.store.ledger import Ledger
from proxy.simulated import Simulated
from tests.shadow.rig import adds_up, experiment, rig

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
         "additionalProperties": False}  # fmt: skip
TOOL = {"name": "weigh", "description": "Weighs a truck."}
SCHEMA = {"name": "place", "schema": PLACE, "strict": True}
SAID = [{"role": "user", "content": "How heavy is it?"}]
ASKS: dict[tuple[str, str], dict[str, Any]] = {
    ("/v1/chat/completions", "text"): {"messages": SAID},
    ("/v1/chat/completions", "tools"): {
        "messages": SAID,
        "tools": [{"type": "function", "function": {**TOOL, "parameters": PLACE}}],
        "tool_choice": "required",
    },
    ("/v1/chat/completions", "schema"): {
        "messages": SAID,
        "response_format": {"type": "json_schema", "json_schema": SCHEMA},
    },
    ("/v1/messages", "text"): {"messages": SAID, "max_tokens": 100},
    ("/v1/messages", "tools"): {
        "messages": SAID,
        "max_tokens": 100,
        "tools": [{**TOOL, "input_schema": PLACE}],
        "tool_choice": {"type": "any"},
    },
    ("/v1/responses", "text"): {"input": "How heavy is it?", "store": True},
    ("/v1/responses", "tools"): {
        "input": "How heavy is it?",
        "tools": [{"type": "function", **TOOL, "parameters": PLACE, "strict": True}],
        "tool_choice": "required",
    },
    ("/v1/completions", "text"): {"prompt": "How heavy is it?", "max_tokens": 40, "temperature": 0.5},
    ("/v1/responses", "schema"): {"input": "How heavy is it?", "text": {"format": {"type": "json_schema", **SCHEMA}}},
}


def test_what_is_asked_in_any_form_is_mirrored_to_any_dialect(tmp_path: Path) -> None:
    asyncio.run(_mirrored(tmp_path))


async def _mirrored(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        upstreams = {
            dialect: await stack.enter_async_context(Simulated(dialect, seed=number, keep=1000))
            for number, dialect in enumerate(("openai", "anthropic", "gemini"))
        }
        candidates = {"anthropic": "anthropic/claude-haiku-4-5", "gemini": "gemini/gemini-3.5-flash"}
        told = {
            "storage": f"sqlite:///{folder / 'exchanges.db'}",
            "providers": {name: {"base_url": one.base_url, "api_key": "unused"} for name, one in upstreams.items()},
            "routes": {"chat": {"targets": ["openai/gpt-5-mini"]}},
            "shadow": {name: experiment() | {"candidate": target} for name, target in candidates.items()},
        }
        proxy = await stack.enter_async_context(rig(told))
        asked = 0
        for ((path, kind), body), stream in product(ASKS.items(), (False, True)):
            unit = {"x-weighbridge-unit": f"{path} {kind} {stream}"}
            answer = await proxy.client.post(path, json={"model": "chat", **body, "stream": stream}, headers=unit)
            assert answer.status_code == 200, (path, kind, stream, answer.text)
            asked += 1
            await proxy.idle()
        for one in proxy.app.mirror.experiments.values():
            assert (one.counts["sampled"], one.counts.get("completed")) == (asked, asked), one.counts
            assert adds_up(one)
    ledger = Ledger(folder / "exchanges.db")
    pairs = ledger.rows("SELECT * FROM v_shadow_pairs")
    assert len(pairs) == 2 * asked
    for pair in pairs:
        assert (pair["primary_outcome"], pair["candidate_outcome"]) == ("ok", "ok")
        for arm in ("primary", "candidate"):
            assert (pair[f"{arm}_ttft_ms"] is not None) == bool(pair["stream"]), pair
            assert pair[f"{arm}_output_tokens"] > 0
            assert pair[f"{arm}_cost_usd"] > 0
    assert {pair["operation"] for pair in pairs} == {"chat", "completions", "messages", "responses"}
    for pair in pairs:
        # Anthropic wants a limit where the request names none; what was asked alike is no difference.
        told = orjson.loads(pair["differences"])
        names = {one.partition(":")[0] for one in told if not one.startswith("dropped")}
        needed = {"max_tokens"} if pair["candidate_target"].startswith("anthropic/") else set()
        assert names - {"store"} <= needed, told
    stored = [pair for pair in pairs if "store" in pair["differences"]]
    assert len(stored) == 4, "nothing is stored with a candidate"
    valid = ledger.rows("SELECT primary_score, candidate_score FROM v_shadow_scores WHERE metric = 'validity'")
    assert len(valid) == 2 * sum(2 for _, kind in ASKS if kind != "text")
    assert all(one == {"primary_score": 1.0, "candidate_score": 1.0} for one in valid)
    calls = ledger.rows("SELECT candidate_score FROM v_shadow_scores WHERE metric = 'same_calls'")
    assert len(calls) == 2 * sum(2 for _, kind in ASKS if kind == "tools")
    assert all(one["candidate_score"] >= 0.5 for one in calls), "the same tool at least"
