"""Prompts and answers of a real proxy: kept where the config says so, redacted, shown by id, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import processes

SECRET = "sk-proj-abcdefghij0123456789ABCDEFGHIJ"


def test_kept_redacted_and_shown_for_one_route_alone(tmp_path: Path) -> None:
    with processes.upstream(tmp_path / "up", "--tokens", "5") as upstream:
        config = {
            "providers": {"local": {"base_url": f"{upstream.base_url}/v1", "api_key": None}},
            "routes": {
                "kept": {"targets": ["local/m"], "capture": {"bodies": "redacted"}},
                "silent": {"targets": ["local/m"]},
            },
        }
        with processes.proxy(config, tmp_path) as proxy:

            def shown(model: str, stream: bool) -> dict[str, Any]:
                ask = {"model": model, "stream": stream, "messages": [{"role": "user", "content": f"my key {SECRET}"}]}
                answer = proxy.ask("/v1/chat/completions", ask, headers={"x-weighbridge-tags": "b, a"})
                assert answer.status == 200
                answers.append(answer)
                found: dict[str, Any] = proxy.ask(f"/api/exchanges/{answer.headers['x-request-id']}").json()
                return found

            answers: list[processes.Answer] = []
            ids = [shown(model, stream)["id"] for model in ("kept", "silent") for stream in (False, True)]
            # Kept by a thread of its own: closing waits for it, so that what is read afterwards is whole.
        rows = {row["id"]: row for row in processes.rows(tmp_path, "SELECT * FROM bodies")}
        assert set(rows) == set(ids[:2])
        for id, answer in zip(ids[:2], answers, strict=False):
            assert "my key [key]" in rows[id]["request"]
            assert rows[id]["answer"] == answer.body.decode()
        tags = processes.rows(tmp_path, "SELECT DISTINCT tags FROM v_exchanges")
        assert tags == [{"tags": "a b"}]
        whole = (tmp_path / "exchanges.db").read_bytes()
        assert SECRET.encode() not in whole
        assert b"my key" not in (tmp_path / "proxy.log").read_bytes()
        with processes.proxy(config, tmp_path) as proxy:
            again = [proxy.ask(f"/api/exchanges/{id}").json()["bodies"] for id in ids]
            assert [one is not None for one in again] == [True, True, False, False]
            assert "my key [key]" in again[0]["request"]
