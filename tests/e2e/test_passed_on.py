"""Sound, pictures, moderations and rerank: what is asked reaches the upstream, and its answer the client, untouched."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import openai
import pytest

from tests import processes

SOUND = bytes(range(256)) * 200
IMAGE = {"created": 1, "data": [{"b64_json": "aGk="}],
         "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}}  # fmt: skip
MODERATION = {"id": "modr-1", "model": "omni-moderation", "results": [
    {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}]}  # fmt: skip
RANKED = {"id": "r", "results": [{"index": 0, "relevance_score": 0.5}]}
HEARD = {"text": "Grüß dich", "usage": {"type": "tokens", "input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}
EVENTS = (
    b'event: transcript.text.delta\ndata: {"type":"transcript.text.delta","delta":"Hi"}\n\n'
    b'event: transcript.text.done\ndata: {"type":"transcript.text.done","text":"Hi",'
    b'"usage":{"type":"tokens","input_tokens":3,"output_tokens":1,"total_tokens":4}}\n\n'
)
ANSWERS: dict[str, tuple[str, bytes]] = {
    "/v1/images/generations": ("application/json", json.dumps(IMAGE).encode()),
    "/v1/moderations": ("application/json", json.dumps(MODERATION).encode()),
    "/v1/rerank": ("application/json", json.dumps(RANKED).encode()),
    "/v1/audio/speech": ("audio/mpeg", SOUND),
    "/v1/audio/transcriptions": ("application/json", json.dumps(HEARD).encode()),
}


class Upstream(BaseHTTPRequestHandler):
    """Says what `ANSWERS` has; `fails` makes it fail that often, `cut` breaks off in the middle."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []
    fails: ClassVar[int] = 0
    cut: ClassVar[bool] = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        kind, answer = ANSWERS[self.path]
        if b'name="stream"' in body:
            kind, answer = "text/event-stream", EVENTS
        status = 200
        if type(self).fails:
            type(self).fails -= 1
            status, kind, answer = 503, "application/json", b'{"error": {"message": "no"}}'
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if type(self).cut else answer)
        self.close_connection = type(self).cut

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Running]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    providers = {name: {"base_url": url, "api_key": "up-key"} for name in ("one", "two")}
    routes = {"any": {"targets": ["one/m-1", "two/m-2"]}}
    config = {"providers": providers, "routes": routes, "defaults": {"breaker": False}}
    try:
        with processes.proxy(config, tmp_path_factory.mktemp("passed")) as proxy:
            yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def client(running: processes.Running) -> Iterator[openai.OpenAI]:
    Upstream.seen.clear()
    Upstream.fails, Upstream.cut = 0, False
    with openai.OpenAI(base_url=f"{running.base_url}/v1", api_key="unused", max_retries=0) as made:
        yield made


def test_each_is_passed_on(client: openai.OpenAI, running: processes.Running) -> None:
    picture = client.images.generate(model="any", prompt="a truck", n=1)
    assert picture.data is not None
    assert picture.data[0].b64_json == "aGk="
    assert client.moderations.create(model="any", input="a").results[0].flagged is False
    ranked = running.ask("/v1/rerank", {"model": "any", "query": "a", "documents": ["b"]})
    assert ranked.json() == RANKED
    assert [path for path, _, _ in Upstream.seen] == ["/v1/images/generations", "/v1/moderations", "/v1/rerank"]
    for _, headers, body in Upstream.seen:
        assert headers["authorization"] == "Bearer up-key"
        assert json.loads(body)["model"] == "m-1"


def test_speech_is_the_bytes_that_came(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(model="any", voice="alloy", input="Hi") as speech:
        assert speech.headers["content-type"] == "audio/mpeg"
        assert b"".join(speech.iter_bytes()) == SOUND
    assert json.loads(Upstream.seen[0][2]) == {"model": "m-1", "voice": "alloy", "input": "Hi"}


def test_a_transcription_goes_through_with_another_model(client: openai.OpenAI, tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    sound.write_bytes(SOUND + b"\r\n--not-the-boundary\r\n")
    with sound.open("rb") as file:
        told = client.audio.transcriptions.create(model="any", file=file, language="de")
    assert told.text == "Grüß dich"
    _, headers, body = Upstream.seen[0]
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert sound.read_bytes() in body
    assert b'name="model"\r\n\r\nm-1\r\n' in body
    assert b'name="language"\r\n\r\nde\r\n' in body
    with sound.open("rb") as file:
        events = list(client.audio.transcriptions.create(model="any", file=file, stream=True))
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]


def test_a_picture_that_was_begun_is_not_asked_for_again(client: openai.OpenAI) -> None:
    Upstream.fails = 1
    with pytest.raises(openai.InternalServerError):
        client.images.generate(model="any", prompt="a truck")
    assert len(Upstream.seen) == 1
    Upstream.fails = 1
    assert client.moderations.create(model="any", input="a").results
    assert len(Upstream.seen) == 3, "what leaves nothing behind is asked of the next target"


def test_cut_sound_does_not_look_whole(client: openai.OpenAI) -> None:
    Upstream.cut = True
    with (
        pytest.raises(Exception, match=r"peer closed|incomplete"),  # of whichever HTTP client the SDK has
        client.audio.speech.with_streaming_response.create(model="any", voice="alloy", input="Hi") as speech,
    ):
        b"".join(speech.iter_bytes())


def test_a_form_that_is_none_is_refused(running: processes.Running) -> None:
    answer = running.ask("/v1/audio/transcriptions", b"x", headers={"content-type": "application/json"})
    assert answer.status == 415
    sent = {"content-type": "multipart/form-data; boundary=b"}
    answer = running.ask("/v1/audio/transcriptions", b"--b\r\n", headers=sent)
    assert answer.status == 400
