"""`GET /v1/models`: routes, and what the providers list, over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import processes
from tests.e2e.everyone import everyone


def names(answer: Any) -> list[str]:
    assert answer.status == 200, answer.body
    return [model["id"] for model in answer.json()["data"]]


def test_what_the_providers_list_is_there_and_kept(tmp_path: Path) -> None:
    with everyone(tmp_path) as world:
        told = names(world.proxy.ask("/v1/models"))
        assert told[:2] == ["anthropic", "bedrock"]
        listing = [name for name in world.upstreams if name != "bedrock"]
        assert sorted(name for name in told if "/" in name) == sorted(f"{name}/simulated" for name in listing)
        asked = {name: len(upstream.requests) for name, upstream in world.upstreams.items()}
        assert names(world.proxy.ask("/v1/models")) == told
        assert asked == {name: len(upstream.requests) for name, upstream in world.upstreams.items()}, "asked again"
        assert world.proxy.ask("/v1/models/openai/simulated").json()["id"] == "openai/simulated"
        assert world.proxy.ask("/v1/models/openai/nothing").status == 404


def test_keys_that_may_not_name_providers_see_routes_alone(tmp_path: Path) -> None:
    keys = [{"name": "app", "key": "app-key"}, {"name": "free", "key": "free-key", "direct": True}]
    with everyone(tmp_path, keys=keys) as world:
        routes = names(world.proxy.ask("/v1/models", headers={"authorization": "Bearer app-key"}))
        assert not any("/" in name for name in routes)
        every = names(world.proxy.ask("/v1/models", headers={"x-api-key": "free-key"}))
        assert "openai/simulated" in every


def test_a_provider_that_is_down_is_left_out(tmp_path: Path) -> None:
    down = {"down": {"base_url": "http://127.0.0.1:9/v1", "api_key": None}}
    with everyone(tmp_path, providers=down) as world:
        told = names(world.proxy.ask("/v1/models"))
    assert "openai/simulated" in told
    assert not any(name.startswith("down/") for name in told)


def test_how_ready_it_is_tells_nothing_of_what_clients_named(tmp_path: Path) -> None:
    """Anybody may ask for it, and a name that a client made up would make the proxy look degraded."""
    asked = {"messages": [{"role": "user", "content": "x"}]}
    with processes.upstream(tmp_path / "up", "--model", "known") as up:
        config = {
            "providers": {"up": {"base_url": up.base_url, "api_key": None}},
            "routes": {"chat": {"targets": ["up/gone"]}},
        }
        with processes.proxy(config, tmp_path) as proxy:
            assert proxy.ask("/v1/chat/completions", {**asked, "model": "up/made-up"}).status == 404
            assert proxy.ask("/readyz").json()["degraded"] == []
            assert proxy.ask("/v1/chat/completions", {**asked, "model": "chat"}).status == 404
            (told,) = proxy.ask("/readyz").json()["degraded"]
    assert told.startswith("target up/gone: model missing")
