"""`GET /api/stats` of a real proxy before simulated upstreams, against what these were told to do."""

from __future__ import annotations

from pathlib import Path

from tests import processes

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


def test_it_tells_what_the_providers_did_and_what_the_clients_saw(tmp_path: Path) -> None:
    with (
        processes.upstream(tmp_path / "bad", "--fault", "http_503", "--tokens", "5") as bad,
        processes.upstream(tmp_path / "good", "--tokens", "5") as good,
    ):
        config = {
            "storage": "none",
            "providers": {
                name: {"dialect": "openai", "base_url": f"{one.base_url}/v1", "api_key": None}
                for name, one in (("bad", bad), ("good", good))
            },
            "routes": {"chat": {"targets": ["bad/m", "good/m"], "retries": {"per_target": 1, "per_request": 2}}},
        }
        with processes.proxy(config, tmp_path) as proxy:
            assert proxy.ask("/api/stats").json()["totals"]["requests"] == 0
            for number in range(12):
                assert proxy.ask("/v1/chat/completions", {**CHAT, "stream": number % 2 == 0}).status == 200
            found = proxy.ask("/api/stats?window=1h").json()
            rows = {row["target"]: row for row in found["targets"]}
            assert [*rows] == ["bad/m", "good/m"]
            assert rows["good/m"]["attempts"] == good.stats()["requests"] == 12
            assert (rows["good/m"]["requests"], rows["good/m"]["share"], rows["good/m"]["streams"]) == (12, 1.0, 6)
            assert rows["bad/m"]["attempts"] == bad.stats()["requests"] == rows["bad/m"]["failovers"]
            assert rows["bad/m"]["errors_before_failover"]["failed"] == rows["bad/m"]["attempts"] > 0
            assert rows["bad/m"]["error_kinds"] == {"server_error": rows["bad/m"]["attempts"]}
            assert (rows["good/m"]["in_flight"], found["in_flight"], found["losses"]) == (0, 0, [])
            assert (rows["bad/m"]["breaker"], rows["good/m"]["breaker"]) == ("open", "closed")
            assert found["degraded"] == ["target bad/m: breaker open (last error: server error)"]
            assert found["totals"]["errors_after_failover"]["failed"] == 0
            assert found["totals"]["ttft_ms"]["n"] == 6
            assert found["totals"]["e2e_ms"]["n"] == 12
            assert sum(found["series"]["targets"]["good/m"]["requests"]) == 12

            page = proxy.ask("/")
            assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert proxy.ask("/page/page.js").headers["content-type"].startswith("text/javascript")
            for path in ("/page/", "/page/livepage.py", "/page/..%2flivepage.py", "/page/uplot-LICENSE.txt"):
                assert proxy.ask(path).status == 404, path

            for window in ("0", "5", "soon", "25h", "400d", "-1s"):
                refused = proxy.ask(f"/api/stats?window={window}")
                assert refused.status == 400, window
                assert refused.json()["error"]["param"] == "window"
