"""Limits of keys, with the official SDK over real sockets: refused in its words, counted, and kept over a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from proxy.app import App
from proxy.config import load
from tests import processes
from tests.e2e.test_keys import keys as command

ASK: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "How much does the truck weigh?"}]}
PRICE = {"input": 0, "output": 100_000}  # 0.10 USD a token of output
TOKENS = 3
ADMIN = {"authorization": "Bearer admin"}


def config(base_url: str) -> dict[str, Any]:
    return {
        "server": {"admin_token": "admin"},
        "providers": {"local": {"base_url": f"{base_url}/v1", "api_key": None}},
        "routes": {"chat": {"targets": ["local/priced"]}, "free": {"targets": ["local/unknown"]}},
        "prices": {"local/priced": PRICE},
        "keys": [
            {"name": "slow", "key": "k-slow", "rpm": 2},
            {"name": "small", "key": "k-small", "tpm": 60},
            {"name": "poor", "key": "k-poor", "budget": {"per_day": "0.50 USD", "per_month": 9}},
            {"name": "once", "key": "k-once", "budget": 0.0001},
            {"name": "free", "key": "k-free"},
        ],
    }


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Upstream]:
    with processes.upstream(tmp_path_factory.mktemp("up"), "--tokens", str(TOKENS)) as one:
        yield one


@pytest.fixture(scope="module")
def proxy(upstream: processes.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Running]:
    with processes.proxy(config(upstream.base_url), tmp_path_factory.mktemp("proxy")) as one:
        yield one


def client(proxy: processes.Running, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{proxy.base_url}/v1", api_key=key, max_retries=0)


def error(refused: pytest.ExceptionInfo[openai.RateLimitError]) -> dict[str, Any]:
    body = refused.value.body
    assert isinstance(body, dict)
    assert body.keys() >= {"message", "type", "param", "code"}
    return body


def metric(proxy: processes.Running, line: str) -> float:
    text = proxy.ask("/metrics").body.decode()
    (found,) = [one for one in text.splitlines() if one.startswith(f"{line} ")]
    return float(found.rpartition(" ")[2])


def shown(proxy: processes.Running, name: str) -> dict[str, Any]:
    listed = proxy.ask("/api/keys", headers=ADMIN).json()["keys"]
    return {one["key"]: one for one in listed}[name]


def test_requests_a_minute(proxy: processes.Running, upstream: processes.Upstream) -> None:
    with client(proxy, "k-slow") as slow:
        for _ in range(3):  # a plan asks nobody and takes nothing
            slow.chat.completions.with_raw_response.create(**ASK, extra_headers={"x-weighbridge-dry-run": "1"})
        for _ in range(2):
            slow.chat.completions.create(**ASK)
        asked = upstream.stats()["requests"]
        with pytest.raises(openai.RateLimitError) as refused:
            slow.chat.completions.create(**ASK, stream=True)
    body, headers = error(refused), refused.value.response.headers
    assert (body["code"], body["type"]) == ("key_rpm_exceeded", "rate_limit_error")
    assert "`slow` may use 2 requests a minute" in body["message"]
    assert 20 < int(headers["retry-after"]) <= 30
    assert "x-should-retry" not in headers
    assert upstream.stats()["requests"] == asked
    assert metric(proxy, 'weighbridge_over_limit_requests_total{limit="rpm"}') == 1
    assert metric(proxy, 'weighbridge_operations_total{operation="chat",outcome="client_error"}') >= 1
    one = shown(proxy, "slow")
    assert one["rpm"]["limit"] == 2
    assert one["rpm"]["left"] < 1
    assert (one["tpm"], one["budget"], one["refused"]) == (None, [], {"rpm": 1, "tpm": 0, "budget": 0})


def test_the_anthropic_form_says_it_in_its_own_words(proxy: processes.Running) -> None:
    told = {"x-api-key": "k-slow", "anthropic-version": "2023-06-01"}
    answer = proxy.ask("/v1/messages", {**ASK, "max_tokens": 9}, headers=told)
    assert answer.status == 429
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "rate_limit_error"


def test_tokens_a_minute(proxy: processes.Running) -> None:
    with client(proxy, "k-small") as small:
        first = small.chat.completions.create(**ASK, max_tokens=20)
        assert first.usage is not None
        with pytest.raises(openai.RateLimitError) as refused:
            small.chat.completions.create(**ASK, max_tokens=60)
    assert error(refused)["code"] == "key_tpm_exceeded"
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 60
    # Settled: what is missing is what was used, and not what was estimated.
    left = shown(proxy, "small")["tpm"]["left"]
    assert 60 - first.usage.total_tokens <= left < 60


def test_a_budget_is_spent_and_stays_spent_over_a_restart(upstream: processes.Upstream, tmp_path: Path) -> None:
    with processes.proxy(config(upstream.base_url), tmp_path) as first, client(first, "k-poor") as poor:
        for _ in range(2):  # 0.30 USD each: the second is begun with money left
            poor.chat.completions.create(**ASK)
        with pytest.raises(openai.RateLimitError) as refused:
            poor.chat.completions.create(**ASK)
        body, headers = error(refused), refused.value.response.headers
        assert (body["code"], body["type"]) == ("key_budget_exceeded", "insufficient_quota")
        assert "0.6000 of 0.5 USD a day (UTC); it renews at 20" in body["message"]
        assert headers["x-should-retry"] == "false"
        assert 0 < int(headers["retry-after"]) <= 86400
        assert [one["spent_usd"] for one in shown(first, "poor")["budget"]] == [pytest.approx(0.6)] * 2
        wanted = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = first.ask("/v1/batches", wanted, headers={"authorization": "Bearer k-poor"})
        assert (batch.status, batch.json()["error"]["code"]) == (429, "key_budget_exceeded")
        asked = upstream.stats()["requests"]
    with processes.proxy(config(upstream.base_url), tmp_path) as second, client(second, "k-poor") as poor:
        with pytest.raises(openai.RateLimitError) as refused:
            poor.chat.completions.create(**ASK)
        assert "0.6000 of 0.5 USD" in error(refused)["message"]
        assert upstream.stats()["requests"] == asked
        with client(second, "k-free") as free:
            free.chat.completions.create(**ASK)
    (row,) = processes.rows(
        tmp_path, "SELECT DISTINCT outcome, error_kind, status, attempts FROM v_exchanges WHERE outcome <> 'ok'"
    )
    assert row == {"outcome": "client_error", "error_kind": "over_limit", "status": 429, "attempts": 0}


def test_what_has_no_price_passes_no_budget(proxy: processes.Running) -> None:
    with client(proxy, "k-once") as once:
        once.chat.completions.create(**{**ASK, "model": "free"})
        with pytest.raises(openai.RateLimitError) as refused:
            once.chat.completions.create(**{**ASK, "model": "free"})
    assert "it does not renew" in error(refused)["message"]
    assert "retry-after" not in refused.value.response.headers


def test_who_leaves_before_the_usage_pays_all_the_same(upstream: processes.Upstream, tmp_path: Path) -> None:
    slow = {"providers": {"local": {"base_url": f"{upstream.base_url}/v1", "api_key": None}},
            "routes": {"chat": {"targets": ["local/priced"]}}, "prices": {"local/priced": PRICE},
            "keys": [{"name": "poor", "key": "k-poor", "budget": 0.0001}]}  # fmt: skip
    upstream.change(tokens="50", itl="50ms")
    try:
        with processes.proxy(slow, tmp_path) as running, client(running, "k-poor") as poor:
            with poor.chat.completions.create(**ASK, stream=True) as stream:
                next(iter(stream))

            def spent() -> bool:
                try:
                    with poor.chat.completions.create(**ASK, stream=True) as again:
                        next(iter(again))
                except openai.RateLimitError:
                    return True
                return False

            processes._await(running, spent)
    finally:
        upstream.reset()


def test_keys_made_by_command_have_limits_too(upstream: processes.Upstream, tmp_path: Path) -> None:
    secret = command(tmp_path, "create", "app", "--rpm", "1", "--per-day", "5 USD")
    assert "1 requests a minute, 5 USD a day" in command(tmp_path, "list")
    assert "--tpm must be more than 0" in command(tmp_path, "create", "other", "--tpm", "0", status=2)
    told = config(upstream.base_url) | {"keys": []}
    with processes.proxy(told, tmp_path) as running, client(running, secret) as app:
        app.chat.completions.create(**ASK)
        with pytest.raises(openai.RateLimitError) as refused:
            app.chat.completions.create(**ASK)
        assert error(refused)["code"] == "key_rpm_exceeded"


def test_sdks_wait_for_the_rate(upstream: processes.Upstream, tmp_path: Path) -> None:
    fast = config(upstream.base_url) | {"keys": [{"name": "fast", "key": "k-fast", "rpm": 120}]}
    with processes.proxy(fast, tmp_path) as running:
        with httpx.Client(base_url=running.base_url, headers={"authorization": "Bearer k-fast"}) as raw:
            statuses = [raw.post("/v1/chat/completions", json=ASK).status_code for _ in range(125)]
        assert statuses[:120] == [200] * 120
        assert 429 in statuses[120:]
        with openai.OpenAI(base_url=f"{running.base_url}/v1", api_key="k-fast", max_retries=5) as patient:
            assert patient.chat.completions.create(**ASK).choices


def test_keys_without_limits_pay_nothing_for_those_that_have_some(tmp_path: Path) -> None:
    """No allowance, and no sink that charges budgets before there is one."""
    told = config("http://127.0.0.1:9")
    told["keys"] = [one for one in told["keys"] if "budget" not in one]
    path = tmp_path / "weighbridge.json"
    path.write_text(json.dumps(told | {"storage": f"sqlite:///{tmp_path}/one.db"}))
    app = App(load(path))
    try:
        by_name = {key.name: key for key in app.gate._keys.values()}
        assert by_name["free"].allowance is None
        assert by_name["slow"].allowance is not None
        assert "allowances" not in [name for name, *_ in app.bus._sinks]
        told["keys"].append({"name": "poor", "key": "k-poor", "budget": 5})
        path.write_text(json.dumps(told | {"storage": f"sqlite:///{tmp_path}/one.db"}))
        app.load(load(path))
        assert [name for name, *_ in app.bus._sinks].count("allowances") == 1
        app.load(load(path))
        assert [name for name, *_ in app.bus._sinks].count("allowances") == 1
        again = {key.name: key for key in app.gate._keys.values()}
        assert again["slow"].allowance is by_name["slow"].allowance
    finally:
        assert app.store is not None
        app.store.close()
