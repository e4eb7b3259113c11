"""Answers of every shape, priced to the cent and far below, against amounts computed by hand from published prices."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from proxy.prices.book import Book
from proxy.prices.tariff import Tariff, charge, plain_usd
from proxy.wire.usage import Parts, Usage
from tests.usages import counted

NOW = 1_795_680_000.0  # 2026-11-26


def priced(provider: str, model: str, usage: Any, **more: Any) -> float | None:
    found = counted(provider, usage, **more)
    assert found is not None
    return Book({}, now=lambda: NOW).price(provider, model, name="t").charge(found).usd


# developers.openai.com/api/docs/pricing, USD per million: gpt-5.4 2.50 in, 0.25 cached, 15 out; a prompt of more than
# 272,000 tokens 5.00, 0.50, 22.50 for the whole request; flex 1.25, 0.13, 7.50; priority is twice.
OPENAI = {
    "prompt_tokens": 10_000,
    "completion_tokens": 1_000,
    "prompt_tokens_details": {"cached_tokens": 4_000},
    "completion_tokens_details": {"reasoning_tokens": 600},
}
# platform.claude.com/docs/en/about-claude/pricing: Haiku 4.5 1 in, 1.25 written for 5 minutes, 2 for an hour, 0.10
# read, 5 out; a web search 0.01; the US alone 1.1 times. Haiku 5.5: 0.10 and 0.50, over 100,000 tokens 0.50 and 2.50.
ANTHROPIC = {
    "input_tokens": 1_000,
    "cache_read_input_tokens": 50_000,
    "cache_creation_input_tokens": 8_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 5_000, "ephemeral_1h_input_tokens": 3_000},
    "output_tokens": 700,
    "output_tokens_details": {"thinking_tokens": 300},
}
# ai.google.dev/gemini-api/docs/pricing: 2.5 Pro 1.25 in, 0.125 cached, 10 out (thoughts included), prompts over 200,000
# tokens 2.50, 0.25, 15. 2.5 Flash 0.30 in, sound 1.00, cached 0.03, cached sound 0.10, 2.50 out.
GEMINI_LONG = {
    "promptTokenCount": 250_000,
    "cachedContentTokenCount": 50_000,
    "candidatesTokenCount": 1_000,
    "thoughtsTokenCount": 3_000,
}
GEMINI_SOUND = {
    "promptTokenCount": 1_000,
    "cachedContentTokenCount": 300,
    "candidatesTokenCount": 100,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 200}, {"modality": "AUDIO", "tokenCount": 800}],
    "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 300}],
}


@pytest.mark.parametrize(
    ("provider", "model", "usage", "more", "by_hand"),
    [
        # 6,000 x 2.50 + 4,000 x 0.25 + 1,000 x 15 = 15,000 + 1,000 + 15,000 millionths
        ("openai", "gpt-5.4", OPENAI, {}, "0.031"),
        ("openai", "gpt-5.4", OPENAI, {"service_tier": "default"}, "0.031"),
        ("openai", "gpt-5.4", OPENAI, {"service_tier": "flex"}, "0.01552"),
        ("openai", "gpt-5.4", OPENAI, {"service_tier": "priority"}, "0.062"),
        ("openai", "gpt-5.4", OPENAI, {"service_tier": "some_new_one"}, None),
        # exactly at the step: the lower price; 272,000 x 2.50
        ("openai", "gpt-5.4", {"prompt_tokens": 272_000, "completion_tokens": 0}, {}, "0.68"),
        # 172,001 x 5 + 100,000 x 0.50 + 2,000 x 22.50 = 860,005 + 50,000 + 45,000
        (
            "openai",
            "gpt-5.4",
            {
                "prompt_tokens": 272_001,
                "completion_tokens": 2_000,
                "prompt_tokens_details": {"cached_tokens": 100_000},
            },
            {},
            "0.955005",
        ),
        ("azure", "gpt-5.4", OPENAI, {}, "0.031"),
        # 1,000 x 1 + 50,000 x 0.10 + 5,000 x 1.25 + 3,000 x 2 + 700 x 5 = 1,000 + 5,000 + 6,250 + 6,000 + 3,500
        ("anthropic", "claude-haiku-4-5", ANTHROPIC, {}, "0.02175"),
        ("anthropic", "claude-haiku-4-5-20251001", {**ANTHROPIC, "service_tier": "batch"}, {}, "0.010875"),
        ("anthropic", "claude-haiku-4-5", {**ANTHROPIC, "inference_geo": "us"}, {}, "0.023925"),
        ("anthropic", "claude-haiku-4-5", {**ANTHROPIC, "server_tool_use": {"web_search_requests": 2}}, {}, "0.04175"),
        # what is read from the cache counts for the step, too: 20,000 x 0.50 + 90,000 x 0.05 + 1,000 x 2.50
        (
            "anthropic",
            "claude-haiku-5-5",
            {"input_tokens": 20_000, "cache_read_input_tokens": 90_000, "output_tokens": 1_000},
            {},
            "0.017",
        ),
        # 1,200 x 1.25 + 150 x 10
        (
            "gemini",
            "gemini-2.5-pro",
            {
                "promptTokenCount": 1_000,
                "toolUsePromptTokenCount": 200,
                "candidatesTokenCount": 100,
                "thoughtsTokenCount": 50,
            },
            {},
            "0.003",
        ),
        # 200,000 x 2.50 + 50,000 x 0.25 + 4,000 x 15
        ("gemini", "gemini-2.5-pro", GEMINI_LONG, {}, "0.5725"),
        ("vertex", "gemini-2.5-pro", GEMINI_LONG, {}, "0.5725"),
        # 200 x 0.30 + 500 x 1.00 + 300 x 0.10 + 100 x 2.50
        ("gemini", "gemini-2.5-flash", GEMINI_SOUND, {}, "0.00084"),
        # what a provider says counts, whatever the table says
        ("openrouter", "openai/gpt-4o", {"prompt_tokens": 9, "completion_tokens": 1, "cost": 0.125}, {}, "0.125"),
        ("openrouter", "openai/gpt-4o", {"prompt_tokens": 9, "completion_tokens": 1, "cost": 0}, {}, "0"),
        ("xai", "grok-4.3", {"prompt_tokens": 199, "cost_in_usd_ticks": 3_546_500}, {}, "0.00035465"),
        # no price is known
        ("vllm", "my-model", {"prompt_tokens": 9, "completion_tokens": 1}, {}, None),
        # sound without a price of its own at a provider where it has one
        (
            "openai",
            "gpt-5.4",
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"audio_tokens": 4}},
            {},
            None,
        ),
    ],
)  # fmt: skip
def test_priced_as_by_hand(provider: str, model: str, usage: Any, more: dict[str, Any], by_hand: str | None) -> None:
    found = priced(provider, model, usage, **more)
    if by_hand is None:
        assert found is None
    else:
        assert found == pytest.approx(float(Decimal(by_hand)), rel=1e-12, abs=1e-15)


def test_own_prices_come_before_the_tables_and_the_nearest_name_wins() -> None:
    def own(amount: float) -> Tariff:
        return Tariff({"input": amount, "output": amount}, source="config", version=f"v{amount:g}")

    book = Book({"openai/*": own(1), "openai/gpt-5.4": own(2), "near": own(3)}, now=lambda: NOW)
    million = Usage(1_000_000, 0, 0, 0, 0)
    for model, name, usd in (("gpt-5.4", "near", 3), ("gpt-5.4", "other", 2), ("gpt-4o", "other", 1)):
        assert book.price("openai", model, name=name).charge(million) == (usd, "config", f"v{usd}")
    assert book.price("anthropic", "claude-haiku-4-5", name="other").charge(million) == (1, "table", book.version)


def test_a_second_account_costs_what_the_first_does() -> None:
    book = Book({}, now=lambda: NOW)
    one = book.price("eu-openai", "gpt-5.4", name="x", like="openai").charge(Usage(100_000, 0, 0, 0, 0))
    assert one.usd == 0.25


def test_a_deployments_name_is_priced_by_the_model_that_answered() -> None:
    price = Book({}, now=lambda: NOW).price("azure", "our-deployment", name="x")
    million = Usage(1_000_000, 0, 0, 0, 0)
    assert price.charge(million).usd is None
    assert price.charge(million, "gpt-4o-2024-11-20").usd == 2.5
    assert price.charge(million, "nobody-knows").usd is None


def test_what_has_no_price_of_its_own_costs_what_stands_before_it() -> None:
    tariff = Tariff({"input": 1, "output": 4, "cache_write": 2}, source="config", version="v")
    usage = Usage(10, 20, 30, 40, 50, Parts(cache_write_1h=30, audio_input=5, audio_output=7))
    assert charge(tariff, usage).usd == pytest.approx((10 + 20 + 60 + 160 + 200) / 1e6)
    assert tariff.rates.request == tariff.rates.search == 0.0


def test_a_step_keeps_what_it_does_not_name() -> None:
    tariff = Tariff(
        {"input": 1, "output": 4}, [(200, {"output": 8}), (100, {"input": 2})], source="config", version="v"
    )
    assert charge(tariff, Usage(100, 0, 0, 10, 0)).usd == pytest.approx((100 + 40) / 1e6)
    assert charge(tariff, Usage(101, 0, 0, 10, 0)).usd == pytest.approx((202 + 40) / 1e6)
    assert charge(tariff, Usage(201, 0, 0, 10, 0)).usd == pytest.approx((201 + 80) / 1e6)


def test_amounts_are_shown_without_an_exponent() -> None:
    shown = [plain_usd(usd) for usd in (0.0, 1e-9, 0.000123, 1.5, 12.0, 100.0)]
    assert shown == ["0", "0.000000001", "0.000123", "1.5", "12", "100"]


def test_nothing_is_ever_not_a_number() -> None:
    sound = Usage(9, 0, 0, 1, 0, Parts(audio_output=1))
    tariff = Tariff({"input": 1, "output": 1, "audio_output": math.nan}, source="table", version="v")
    assert charge(tariff, sound) == (None, None, None)
    assert charge(tariff, sound._replace(parts=Parts(searches=1))).usd == pytest.approx(10 / 1e6)
