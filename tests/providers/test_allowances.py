"""Rate-limit headers as providers send them."""

from __future__ import annotations

import pytest

from policies.limits import Key, Told, What
from proxy.providers.allowances import allowances

WALL = 1_790_000_000.0
REQ, TOK = (What.REQUESTS, 60.0), (What.TOKENS, 60.0)

CASES: dict[str, tuple[dict[str, str], dict[Key, Told]]] = {
    "openai": (
        {
            "x-ratelimit-limit-requests": "10000", "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "6ms", "x-ratelimit-limit-tokens": "200000",
            "x-ratelimit-remaining-tokens": "199000", "x-ratelimit-reset-tokens": "6m0s",
        },
        {REQ: Told(10000, 9999, 0.006), TOK: Told(200000, 199000, 360)},
    ),
    "groq": (
        {"x-ratelimit-remaining-tokens": "17997", "x-ratelimit-reset-tokens": "7.66s",
         "x-ratelimit-limit-tokens": "18000", "retry-after": "2"},
        {TOK: Told(18000, 17997, 7.66)},
    ),
    "azure": (
        {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-remaining-tokens": "119982"},
        {TOK: Told(None, 119982, None)},
    ),
    "anthropic": (
        {
            "anthropic-ratelimit-input-tokens-limit": "40000", "anthropic-ratelimit-input-tokens-remaining": "39000",
            "anthropic-ratelimit-input-tokens-reset": "2026-09-21T14:13:25Z",
            "anthropic-ratelimit-output-tokens-limit": "8000", "anthropic-ratelimit-output-tokens-remaining": "0",
            "anthropic-ratelimit-output-tokens-reset": "2026-09-21T16:13:50.5+02:00",
            "anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "49",
        },
        {(What.INPUT, 60.0): Told(40000, 39000, 5), (What.OUTPUT, 60.0): Told(8000, 0, 30.5), REQ: Told(50, 49, None)},
    ),
    "cerebras": (
        {
            "x-ratelimit-limit-requests-day": "14400", "x-ratelimit-remaining-requests-day": "14399",
            "x-ratelimit-reset-requests-day": "33011.382867", "x-ratelimit-limit-tokens-minute": "60000",
            "x-ratelimit-remaining-tokens-minute": "60000", "x-ratelimit-reset-tokens-minute": "11.38",
        },
        {(What.REQUESTS, 86400.0): Told(14400, 14399, 33011.382867), TOK: Told(60000, 60000, 11.38)},
    ),
    "mistral": (
        {"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "58",
         "x-ratelimit-limit-tokens-minute": "500000", "x-ratelimit-tokens-query-cost": "32"},
        {REQ: Told(60, 58, None), TOK: Told(500000, None, None)},
    ),
    "openrouter": (
        {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000012000"},
        {REQ: Told(20, 0, 12)},
    ),
    "together": (
        {"x-ratelimit-limit": "3000", "x-ratelimit-remaining": "2999", "x-ratelimit-reset": "1",
         "x-tokenlimit-limit": "500000", "x-tokenlimit-remaining": "499000"},
        {REQ: Told(3000, 2999, 1), TOK: Told(500000, 499000, None)},
    ),
    "fireworks": (
        {"x-ratelimit-limit-tokens-prompt": "60000", "x-ratelimit-remaining-tokens-prompt": "59000",
         "x-ratelimit-limit-tokens-generated": "6000", "x-ratelimit-over-limit": "no"},
        {(What.INPUT, 60.0): Told(60000, 59000, None), (What.OUTPUT, 60.0): Told(6000, None, None)},
    ),
    "draft": (
        {"ratelimit-limit": "100", "ratelimit-remaining": "50", "ratelimit-reset": "50"}, {REQ: Told(100, 50, 50)}
    ),
    "an hour and some": (
        {"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": "1h2m3.5s"}, {REQ: Told(5, None, 3723.5)}
    ),
    "seconds since the epoch": (
        {"x-ratelimit-limit": "5", "x-ratelimit-reset": "1790000007"}, {REQ: Told(5, None, 7)}
    ),
    "nothing that makes sense": (
        {"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-tokens": "nan",
         "x-ratelimit-reset-tokens": "soon",
         "x-ratelimit-limit-tokens": "0", "x-my-ratelimit-limit": "5", "x-ratelimit": "5", "x-request-id": "a"},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_headers_in_one_form(name: str) -> None:
    headers, expected = CASES[name]
    found = allowances([(one.encode(), value.encode()) for one, value in headers.items()], WALL)
    assert found.keys() == expected.keys()
    for key, told in expected.items():
        assert found[key] == pytest.approx(told)
