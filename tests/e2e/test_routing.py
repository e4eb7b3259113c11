"""Routing of a real proxy before simulated upstreams: wishes, dry runs, explanations, what was learned, a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import processes

MESSAGES = [{"role": "user", "content": "hello"}]
PATH = "/v1/chat/completions"


def test_from_a_wish_to_its_explanation_and_over_a_restart(tmp_path: Path) -> None:
    with (
        processes.upstream(tmp_path / "one", "--tokens", "3") as one,
        processes.upstream(tmp_path / "two", "--tokens", "3", "--fault", "http_500") as two,
    ):
        config: dict[str, Any] = {
            "providers": {
                name: {"dialect": "openai", "base_url": f"{each.base_url}/v1", "api_key": None}
                for name, each in (("one", one), ("two", two))
            },
            "defaults": {"breaker": False},
            "prices": {"one/m": {"input": 1, "output": 4}, "two/m": {"input": 0.1, "output": 0.4}},
            "routes": {
                "chat": {"targets": ["one/m", "two/m"]},
                "first": {
                    "policy": {"kind": "conditional", "rules": [{"when": {"tag": "cheap"}, "use": ["two/m"]}]},
                    "targets": ["one/m", "two/m"],
                },
                "learns": {"policy": "bandit", "targets": ["one/m", "two/m"]},
            },
        }
        with processes.proxy(config, tmp_path) as proxy:

            def ask(headers: dict[str, str] | None = None, **more: Any) -> Any:
                return proxy.ask(PATH, {"model": "chat", "messages": MESSAGES, **more}, headers=headers)

            plan = ask({"x-weighbridge-dry-run": "1"}, provider={"sort": "price"}).json()
            assert [each["target"] for each in plan["targets"]] == ["two/m", "one/m"]
            assert (one.stats()["requests"], two.stats()["requests"]) == (0, 0)

            answer = ask(provider={"order": ["two"]})
            assert answer.status == 200
            shown = proxy.ask(f"/api/exchanges/{answer.headers['x-request-id']}").json()["explained"]
            said = {each["target"]: each["said"].split(" after")[0] for each in shown["targets"]}
            assert said == {"two/m": "attempt 1 failed", "one/m": "attempt 2 answered"}

            refused = ask({"x-weighbridge-tags": "cheap"}, model="first")
            assert refused.status == 500
            fallen = ask({"x-weighbridge-tags": "cheap"}, model="first", models=["chat"])
            assert fallen.status == 200
            shown = proxy.ask(f"/api/exchanges/{fallen.headers['x-request-id']}").json()["explained"]
            assert (shown["policy"], shown["why"]) == ("conditional", "rule 1")

            for _ in range(30):
                assert ask(model="learns").status == 200
            rewards = proxy.ask("/api/policies").json()["routes"]["learns"]["rewards"]
            assert rewards["one/m"][0] > 20
            assert rewards["two/m"][1] > 0.9
        with processes.proxy(config, tmp_path) as proxy:
            kept = proxy.ask("/api/policies").json()["routes"]["learns"]["rewards"]
            assert kept == rewards
