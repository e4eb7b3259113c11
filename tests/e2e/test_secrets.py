"""The proxy's own keys are told nowhere, even by an upstream that tells them back: not to clients, logs or records."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests import processes

KEY = "sk-proj-abcdefghij0123456789ABCDEFGHIJ"
TOKEN = "0123456789abcdefghijklmnopqrst"
CLIENTS = "wb-client-0123456789abcdef"
STATUSES = ("400", "401", "403", "404", "413", "422", "429", "500", "503", "200", "event")


@contextmanager
def echo() -> Iterator[str]:
    """Answers as the model's name says, with all that it was sent in the message."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            ask = json.loads(self.rfile.read(int(self.headers["content-length"])))
            told = f"Incorrect API key provided: {self.headers['authorization']} {self.headers['x-token']}"
            body = json.dumps({"error": {"message": told, "type": "t", "param": None, "code": "c"}}).encode()
            if event := ask["model"] == "event":
                chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
                choice = {"index": 0, "delta": {"role": "assistant", "content": "x"}, "finish_reason": None}
                body = b"data: %s\n\ndata: %s\n\n" % (json.dumps({**chunk, "choices": [choice]}).encode(), body)
            self.send_response(200 if event else int(ask["model"]))
            self.send_header("content-type", "text/event-stream" if event else "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def test_an_upstream_that_tells_keys_back(tmp_path: Path) -> None:
    told: list[bytes] = []
    with echo() as base_url:
        provider = {"base_url": base_url, "api_key": KEY, "headers": {"x-token": TOKEN}}
        config = {
            "providers": {"up": provider},
            "keys": [{"name": "app", "key": CLIENTS, "direct": True}],
            "defaults": {"breaker": False},
        }
        with processes.proxy(config, tmp_path) as proxy:
            sent = {"authorization": f"Bearer {CLIENTS}"}
            for model in STATUSES:
                for stream in {False, True} if model != "event" else {True}:
                    ask = {"model": f"up/{model}", "stream": stream, "messages": [{"role": "user", "content": "x"}]}
                    answer = proxy.ask("/v1/chat/completions", ask, headers=sent)
                    told += [answer.body, str(answer.headers).encode()]
                    shown = proxy.ask(f"/api/exchanges/{answer.headers['x-request-id']}")
                    assert b"[secret]" in shown.body, shown.body
                    told.append(shown.body)
            told += [proxy.ask(path).body for path in ("/api/stats", "/readyz", "/metrics", "/api/exchanges")]
    told += [(tmp_path / "proxy.log").read_bytes(), (tmp_path / "exchanges.db").read_bytes()]
    assert any(b"Incorrect API key provided: Bearer [secret] [secret]" in one for one in told)
    for secret in (KEY, TOKEN, CLIENTS):
        assert not [one for one in told if secret.encode() in one]
