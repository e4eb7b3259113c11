"""Two proxies, one behind the other: the client's deadline holds for both, and the last upstream hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import processes
from tests.e2e.scripted import Scene, scripted

SLOW = Scene(ttft_s=0.3, status=503)
WAITS_MS = 20_000


def ask(number: int) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": str(number)}]}


def test_the_deadline_goes_through_both(tmp_path: Path) -> None:
    scenes = [Scene(), Scene()]
    with scripted([SLOW, SLOW]) as failing, scripted(scenes) as last:
        behind = {
            "providers": {
                "bad": {"base_url": failing.base_url, "api_key": None},
                "good": {"base_url": last.base_url, "api_key": None},
            },
            "routes": {"chat": {"targets": ["bad/m", "good/m"]}},
        }
        with processes.proxy(behind, tmp_path / "behind") as inner:
            before = {
                "providers": {"inner": {"base_url": f"{inner.base_url}/v1", "api_key": None}},
                "routes": {"chat": {"targets": ["inner/chat"]}},
            }
            with processes.proxy(before, tmp_path / "before") as outer:
                path = "/v1/chat/completions"
                timed = outer.ask(path, ask(0), headers={"x-weighbridge-timeout": f"{WAITS_MS / 1000}s"})
                untimed = outer.ask(path, ask(1))
    assert (timed.status, untimed.status) == (200, 200)
    first, second = (one.heard[0].get("x-weighbridge-timeout", "") for one in (failing, last))
    waited = int(SLOW.ttft_s * 1000)
    assert first.endswith("ms")
    assert second.endswith("ms")
    assert int(second[:-2]) <= int(first[:-2]) - waited, "what the first try took is not there for the second"
    assert int(first[:-2]) <= WAITS_MS
    assert "x-weighbridge-timeout" not in last.heard[1]


def test_the_proxy_behind_stops_when_the_client_s_time_is_over(tmp_path: Path) -> None:
    with processes.upstream(tmp_path / "upstream", "--dialect", "openai", "--ttft", "50s") as slow:
        behind = {
            "providers": {"slow": {"base_url": f"{slow.base_url}/v1", "api_key": None}},
            "routes": {"chat": {"targets": ["slow/m"], "retries": {"per_request": 1}}},
        }
        with processes.proxy(behind, tmp_path / "behind") as inner:
            before = {
                "providers": {"inner": {"base_url": f"{inner.base_url}/v1", "api_key": None}},
                "routes": {"chat": {"targets": ["inner/chat"], "retries": {"per_request": 1}}},
            }
            with processes.proxy(before, tmp_path / "before") as outer:
                answer = outer.ask("/v1/chat/completions", ask(0), headers={"x-weighbridge-timeout": "1s"})
        assert answer.status == 504
    (row,) = processes.rows(tmp_path / "behind", "SELECT outcome, e2e_ms FROM v_exchanges")
    assert row["outcome"] in ("timeout", "client_closed"), "whichever clock is first"
    assert row["e2e_ms"] < 25_000, "not the upstream's 50 s"
