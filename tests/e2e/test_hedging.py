"""A hedge over real sockets: the late first is closed, the second answers, and both are in the record."""

from __future__ import annotations

import time
from pathlib import Path

from policies.hedge import SAMPLES
from tests import processes

CHAT = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Say hello."}]}


def test_a_late_first_is_hedged_and_closed(tmp_path: Path) -> None:
    with (
        processes.upstream(tmp_path / "first", "--tokens", "3") as first,
        processes.upstream(tmp_path / "second", "--dialect", "anthropic", "--tokens", "3") as second,
    ):
        providers = {
            "first": {"dialect": "openai", "base_url": f"{first.base_url}/v1", "api_key": None},
            "second": {"dialect": "anthropic", "base_url": second.base_url, "api_key": None},
        }
        route = {"targets": ["first/m", "second/m"], "hedge": {"after": "p95", "budget": "5%"}}
        with processes.proxy({"providers": providers, "routes": {"chat": route}}, tmp_path) as proxy:
            for _ in range(SAMPLES):
                assert proxy.ask("/v1/chat/completions", CHAT).body.rstrip().endswith(b"[DONE]")
            first.change(faults=["slow_ttft=20s"])
            answer = proxy.ask("/v1/chat/completions", CHAT)
            assert answer.body.rstrip().endswith(b"[DONE]")
            assert answer.headers["x-weighbridge-target"] == "second/m"
            assert answer.headers["x-weighbridge-attempts"] == "2"
            end = time.monotonic() + 30
            while first.stats()["cancelled"] != 1:
                assert time.monotonic() < end, first.stats()
                time.sleep(0.02)
            record = proxy.ask(f"/api/exchanges/{answer.headers['x-request-id']}").json()
            seen = [(one["target"], one["error_kind"], one["winner"]) for one in record["attempts"]]
            assert seen == [("first/m", "superseded", False), ("second/m", None, True)]
            assert (record["outcome"], record["status"]) == ("ok", 200)
