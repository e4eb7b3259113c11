"""An upstream whose every answer is written down beforehand: the truth that measurements are held against."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Scene(NamedTuple):
    """What becomes of one request, by the number in its last message."""

    status: int = 200
    ttft_s: float = 0.0
    gaps_s: tuple[float, ...] = (0.0,) * 5
    usage: dict[str, Any] | None = None
    tier: str = "default"


class Scripted(NamedTuple):
    base_url: str
    served: list[tuple[int, Scene]]
    """(number, scene) of every request, in the order in which they came."""
    heard: list[dict[str, str]]
    """Their headers, names in lower case."""


@contextmanager
def scripted(scenes: list[Scene]) -> Iterator[Scripted]:
    served: list[tuple[int, Scene]] = []
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            ask = json.loads(self.rfile.read(int(self.headers["content-length"])))
            number = int(ask["messages"][-1]["content"])
            scene = scenes[number]
            served.append((number, scene))
            heard.append({name.lower(): value for name, value in self.headers.items()})
            if scene.status != 200:
                time.sleep(scene.ttft_s)
                self._whole(scene.status, {"error": {"message": "scripted", "type": "server_error"}})
            elif ask.get("stream"):
                self._stream(scene)
            else:
                choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
                self._whole(200, {**_HEAD, "object": "chat.completion", "choices": [choice], **_told(scene)})

        def _whole(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, scene: Scene) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            time.sleep(scene.ttft_s)
            self._event(choices=[_choice({"role": "assistant", "content": "a"})])
            for gap in scene.gaps_s:
                time.sleep(gap)
                self._event(choices=[_choice({"content": "b"})])
            self._event(choices=[_choice({}, "stop")])
            if scene.usage is not None:
                self._event(choices=[], **_told(scene))
            self._chunk(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")

        def _event(self, **body: Any) -> None:
            self._chunk(b"data: " + json.dumps({**_HEAD, "object": "chat.completion.chunk", **body}).encode() + b"\n\n")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Scripted(f"http://127.0.0.1:{server.server_address[1]}/v1", served, heard)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_HEAD = {"id": "chatcmpl-1", "created": 1, "model": "m-1"}


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _told(scene: Scene) -> dict[str, Any]:
    return {"service_tier": scene.tier, "usage": scene.usage} if scene.usage is not None else {}
