"""Latencies and lengths, as people write them and as they are drawn."""

from __future__ import annotations

from random import Random
from statistics import median

import pytest

from proxy.simulated import Latency, Tokens


@pytest.mark.parametrize(
    ("given", "latency", "shown"),
    [
        ("0", Latency(0, 0), "0ms"),
        ("200ms", Latency(0.2, 0.2), "200ms"),
        ("1.5s", Latency(1.5, 1.5), "1500ms"),
        (0.25, Latency(0.25, 0.25), "250ms"),
        ("100ms..300ms", Latency(0.1, 0.3), "100ms..300ms"),
        ("0..1m", Latency(0, 60), "0ms..60000ms"),
        ("lognormal(200ms, 0.4)", Latency(0.2, 0.2, 0.4), "lognormal(200ms,0.4)"),
    ],
)
def test_latencies(given: str | float, latency: Latency, shown: str) -> None:
    assert Latency.of(given) == latency
    assert str(latency) == shown
    assert Latency.of(shown) == latency


@pytest.mark.parametrize(
    "given", ["", "200", "fast", "-1s", "3s..1s", "lognormal(200ms)", "lognormal(1,2)", "1s..", -1, True, None, [1]]
)
def test_latencies_that_cannot_be_read(given: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Latency.of(given)  # type: ignore[arg-type]


def test_draws() -> None:
    rng = Random(3)
    assert {Latency.of("200ms").draw(rng) for _ in range(5)} == {0.2}
    uniform = [Latency.of("100ms..300ms").draw(rng) for _ in range(2000)]
    assert 0.1 <= min(uniform) < 0.11
    assert 0.29 < max(uniform) <= 0.3
    logs = [Latency.of("lognormal(200ms,0.4)").draw(rng) for _ in range(4000)]
    # The standard error of a median here is 0.4 * 1.2533 / sqrt(4000) = 0.8 % of it; five of them are 4 %.
    assert 0.192 < median(logs) < 0.208
    assert sum(one > 0.2 * 2.71828**0.4 for one in logs) / 4000 == pytest.approx(0.1587, abs=0.03)


@pytest.mark.parametrize(("given", "tokens"), [(5, Tokens(5, 5)), ("50", Tokens(50, 50)), ("2..4", Tokens(2, 4))])
def test_tokens(given: str | int, tokens: Tokens) -> None:
    assert Tokens.of(given) == tokens
    assert Tokens.of(str(tokens)) == tokens
    rng = Random(1)
    assert {tokens.draw(rng) for _ in range(100)} == set(range(tokens.low, tokens.high + 1))


@pytest.mark.parametrize("given", ["", "0", "5..2", "many", 0, 10**9, True, 1.5])
def test_tokens_that_cannot_be_read(given: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Tokens.of(given)  # type: ignore[arg-type]
