"""Keys made by command: good in a running proxy soon after, refused after they were revoked, never opening the door."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests import processes

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


def keys(folder: Path, *args: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "proxy", "keys", args[0], "--storage", str(folder / "exchanges.db"), *args[1:]]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == status, made.stderr
    return (made.stdout if status == 0 else made.stderr).strip()


def test_created_used_and_revoked(tmp_path: Path) -> None:
    with processes.upstream(tmp_path / "up", "--tokens", "3") as upstream:
        config = {
            "providers": {"local": {"base_url": f"{upstream.base_url}/v1", "api_key": None}},
            "routes": {"chat": {"targets": ["local/m"]}, "other": {"targets": ["local/m"]}},
        }
        with processes.proxy(config, tmp_path) as proxy:

            def status(secret: str | None, model: str = "chat") -> int:
                headers = {"authorization": f"Bearer {secret}"} if secret else {}
                return proxy.ask("/v1/chat/completions", {**CHAT, "model": model}, headers=headers).status

            def soon(secret: str | None, expected: int) -> None:
                processes._await(proxy, lambda: status(secret) == expected)

            assert status(None) == 200
            secret = keys(tmp_path, "create", "app", "--route", "chat", "--tag", "team-a")
            soon(None, 401)
            assert status(secret) == 200
            assert status(secret, "other") in (403, 404)
            assert status("wb-something-else") == 401
            assert "app" in keys(tmp_path, "list")
            assert secret not in keys(tmp_path, "list")
            assert "there is a key named 'app'" in keys(tmp_path, "create", "app", status=2)
            keys(tmp_path, "revoke", "app")
            soon(secret, 401)
            assert status(None) == 401
            assert "no key named" in keys(tmp_path, "revoke", "app", status=2)
        recorded = processes.rows(tmp_path, "SELECT DISTINCT key, tags FROM v_exchanges WHERE outcome = 'ok'")
        assert {"key": "app", "tags": "team-a"} in recorded
        held = b"".join(path.read_bytes() for path in tmp_path.glob("exchanges.db*"))
        assert secret.encode() not in held
        assert hashlib.sha256(secret.encode()).digest() in held
        with processes.proxy(config, tmp_path) as again:
            assert again.ask("/v1/chat/completions", CHAT).status == 401
