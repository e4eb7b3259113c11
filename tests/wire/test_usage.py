"""Tokens of every dialect: classes that do not overlap, are never negative and add up to the provider's totals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.usage import CLASSES, Parts, Usage, reported_cost, split
from tests.usages import counted

COST = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
ANTHROPIC = {"input_tokens": 10, "output_tokens": 20}
GEMINI = {"promptTokenCount": 100, "candidatesTokenCount": 20}


@pytest.mark.parametrize(
    ("provider", "usage", "more", "expected"),
    [
        (
            "openai",
            {
                "prompt_tokens": 100,
                "completion_tokens": 40,
                "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 30},
                "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 12},
            },
            {"service_tier": "default"},
            Usage(40, 60, 0, 32, 8, Parts(audio_input=30, audio_output=12)),
        ),
        ("openai", COST, {"service_tier": "flex"}, Usage(10, 0, 0, 2, 0, Parts(tier="flex"))),
        ("openai", COST, {"service_tier": "default"}, Usage(10, 0, 0, 2, 0)),
        ("openai", COST, {"service_tier": None}, Usage(10, 0, 0, 2, 0)),
        ("groq", COST, {"service_tier": "on_demand"}, Usage(10, 0, 0, 2, 0)),
        ("openrouter", {**COST, "cost": 0.0125}, {}, Usage(10, 0, 0, 2, 0, Parts(cost_usd=0.0125))),
        (
            "openrouter",
            {**COST, "cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.25}},
            {},
            Usage(10, 0, 0, 2, 0, Parts(cost_usd=0.251)),
        ),
        (
            "perplexity",
            {**COST, "cost": {"input_tokens_cost": 1e-05, "total_cost": 0.00519, "currency": "USD"}},
            {},
            Usage(10, 0, 0, 2, 0, Parts(cost_usd=0.00519)),
        ),
        ("xai", {**COST, "cost_in_usd_ticks": 37_756_000}, {}, Usage(10, 0, 0, 2, 0, Parts(cost_usd=0.0037756))),
        (
            "anthropic",
            {
                **ANTHROPIC,
                "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 9,
                "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 7},
                "server_tool_use": {"web_search_requests": 3},
                "service_tier": "standard",
            },
            {},
            Usage(10, 5, 9, 20, 0, Parts(cache_write_1h=7, searches=3)),
        ),
        (
            "anthropic",
            {**ANTHROPIC, "service_tier": "standard", "inference_geo": "global", "speed": "standard"},
            {},
            Usage(10, 0, 0, 20, 0),
        ),
        (
            "anthropic",
            {**ANTHROPIC, "inference_geo": "us", "speed": "fast"},
            {},
            Usage(10, 0, 0, 20, 0, Parts(tier="fast+us")),
        ),
        (
            "gemini",
            {
                **GEMINI,
                "cachedContentTokenCount": 40,
                "thoughtsTokenCount": 7,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 40},
                    {"modality": "AUDIO", "tokenCount": 50},
                    {"modality": "IMAGE", "tokenCount": 10},
                ],
                "cacheTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 30},
                    {"modality": "TEXT", "tokenCount": 10},
                ],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 15}],
                "serviceTier": "standard",
            },
            {},
            Usage(60, 40, 0, 20, 7, Parts(audio_input=20, image_input=10, audio_cache_read=30, image_output=15)),
        ),
        ("vertex", {**GEMINI, "trafficType": "ON_DEMAND"}, {}, Usage(100, 0, 0, 20, 0)),
        (
            "vertex",
            {**GEMINI, "trafficType": "ON_DEMAND_FLEX"},
            {},
            Usage(100, 0, 0, 20, 0, Parts(tier="flex")),
        ),
        (
            "bedrock",
            {
                "inputTokens": 4,
                "outputTokens": 6,
                "totalTokens": 25,
                "cacheReadInputTokens": 5,
                "cacheWriteInputTokens": 10,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 8}, {"ttl": "5m", "inputTokens": 2}],
            },
            {},
            Usage(4, 5, 10, 6, 0, Parts(cache_write_1h=8)),
        ),
    ],
)
def test_classes_and_their_parts(provider: str, usage: Any, more: dict[str, Any], expected: Usage) -> None:
    found = counted(provider, usage, **more)
    assert found == expected
    _is_disjoint(found)


def _is_disjoint(usage: Usage) -> None:
    assert min(usage[:5]) >= 0
    fine = split(usage)
    assert min(fine.values()) >= 0
    assert sum(fine.values()) == sum(usage[:5]) == usage.input + usage.output
    assert sum(fine[name] for name in ("uncached_input", "audio_input", "image_input")) == usage.uncached_input
    assert fine["cache_write_5m"] + fine["cache_write_1h"] == usage.cache_write
    assert fine["output_text"] + fine["audio_output"] + fine["image_output"] == usage.output_text


junk = st.none() | st.booleans() | st.integers(-9, 10**6) | st.floats() | st.text(max_size=3)
modalities = st.lists(
    st.fixed_dictionaries({"modality": st.sampled_from(("TEXT", "AUDIO", "IMAGE")), "tokenCount": junk})
)
SHAPES: dict[str, dict[str, Any]] = {
    "openai": {
        "prompt_tokens": junk,
        "completion_tokens": junk,
        "cost": junk,
        "prompt_tokens_details": st.dictionaries(
            st.sampled_from(("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens")), junk
        ),
        "completion_tokens_details": st.dictionaries(
            st.sampled_from(("reasoning_tokens", "audio_tokens", "image_tokens")), junk
        ),
    },
    "anthropic": {
        "input_tokens": junk,
        "output_tokens": junk,
        "cache_read_input_tokens": junk,
        "cache_creation_input_tokens": junk,
        "cache_creation": st.dictionaries(
            st.sampled_from(("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")), junk
        ),
        "server_tool_use": st.dictionaries(st.just("web_search_requests"), junk),
        "service_tier": junk,
    },
    "gemini": {
        "promptTokenCount": junk,
        "candidatesTokenCount": junk,
        "thoughtsTokenCount": junk,
        "cachedContentTokenCount": junk,
        "promptTokensDetails": modalities,
        "cacheTokensDetails": modalities,
        "candidatesTokensDetails": modalities,
    },
    "bedrock": {
        "inputTokens": junk,
        "outputTokens": junk,
        "cacheReadInputTokens": junk,
        "cacheWriteInputTokens": junk,
        "cacheDetails": st.lists(st.fixed_dictionaries({"ttl": st.sampled_from(("5m", "1h")), "inputTokens": junk})),
    },
}


@pytest.mark.parametrize("provider", SHAPES)
@given(data=st.data())
def test_whatever_is_told_classes_are_disjoint_and_not_negative(provider: str, data: st.DataObject) -> None:
    usage = data.draw(st.fixed_dictionaries({}, optional=SHAPES[provider]))
    found = counted(provider, usage)
    if found is not None:
        _is_disjoint(found)


@pytest.mark.parametrize(
    "usage",
    [
        {},
        *({"cost": cost} for cost in (None, -1, float("nan"), True, "1", {"total_cost": 1, "currency": "EUR"})),
    ],
)
def test_no_cost_is_made_up(usage: dict[str, Any]) -> None:
    assert reported_cost(usage) is None


def test_the_classes_are_those_of_the_views() -> None:
    assert CLASSES == ("uncached_input", "cache_read", "cache_write", "output_text", "reasoning")
