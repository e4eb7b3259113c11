"""What is no answer of Gemini's, its errors by table, and where its requests go."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from policies.verdict import Kind
from proxy.assemble import DIALECTS
from proxy.errors import UpstreamError
from proxy.wire.chunk import CONTENT, DONE, FINISH, META
from tests.providers.google import (
    GEMINI,
    TO,
    Json,
    events,
    response,
    run,
    stream_decoder,
    usage,
    whole,
)

QUOTA = {
    "error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Slow.", "details": [{"retryDelay": "3.5s"}]}
}


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", Kind.MALFORMED),
        (events(response({"text": "a"})), Kind.TRUNCATED),
        (events(response({"text": "a"}, reason="FINISH_REASON_UNSPECIFIED")), Kind.TRUNCATED),
        (events(usage(promptTokenCount=3)), Kind.MALFORMED),
        (events(response(reason="MALFORMED_FUNCTION_CALL")), Kind.MALFORMED),
        (events(response({"functionCall": {"name": "f", "willContinue": True}}, reason="STOP")), Kind.MALFORMED),
        (events(response({"functionCall": {"args": {}}}, reason="STOP")), Kind.MALFORMED),
        (events(response({"functionCall": {"name": "f", "args": "{}"}}, reason="STOP")), Kind.MALFORMED),
        (events(response({"text": "a"}), QUOTA), Kind.RATE_LIMIT),
        (events({"error": {"code": 500, "status": "INTERNAL", "message": "Oh."}}), Kind.MALFORMED),
        (orjson.dumps(QUOTA), Kind.RATE_LIMIT),
        (orjson.dumps([QUOTA]), Kind.RATE_LIMIT),
        (orjson.dumps(response({"text": "a"}, reason="STOP")), Kind.MALFORMED),
        (b"data: {\n\n", Kind.MALFORMED),
        (b"data: 5\n\n", Kind.MALFORMED),
        (b'data: {"candidates": [5]}\n\n', Kind.MALFORMED),
        (b"<html></html>", Kind.MALFORMED),
        (b"[{", Kind.MALFORMED),
    ],
)
def test_what_is_no_stream(raw: bytes, kind: Kind) -> None:
    for pieces in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        with pytest.raises(UpstreamError) as caught:
            run(pieces)
        assert caught.value.kind is kind


def test_what_came_before_an_error_is_pending() -> None:
    decoder = stream_decoder()
    with pytest.raises(UpstreamError) as caught:
        decoder.feed(events(response({"text": "a"}), response({"text": "b"}), QUOTA))
    assert caught.value.retry_after == 3.5
    assert [chunk.kind for chunk in decoder.pending] == [META, CONTENT, CONTENT]


def test_a_cut_stream_is_whole_only_with_its_reason() -> None:
    decoder = stream_decoder()
    decoder.feed(events(response({"text": "a"}, reason="STOP")) + b"data: {")
    assert [chunk.kind for chunk in decoder.close(cut=True)] == [FINISH, DONE]
    decoder = stream_decoder()
    decoder.feed(events(response({"text": "a"})))
    with pytest.raises(UpstreamError):
        decoder.close(cut=True)


@pytest.mark.parametrize(
    "body", [{}, [], 5, {"candidates": []}, response({"text": "a"}), QUOTA, [QUOTA], {"candidates": 5}]
)
def test_what_is_no_whole_answer(body: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        whole(body)
    assert caught.value.kind is (Kind.RATE_LIMIT if body in (QUOTA, [QUOTA]) else Kind.MALFORMED)


def google(code: int, status: str, message: str = "Words.", **detail: Any) -> Json:
    return {"error": {"code": code, "status": status, "message": message, "details": [detail] if detail else []}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "wait"),
    [
        (400, google(400, "INVALID_ARGUMENT", reason="API_KEY_INVALID"), Kind.AUTH, None),
        (400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), Kind.AUTH, None),
        (401, google(401, "UNAUTHENTICATED", reason="ACCESS_TOKEN_EXPIRED"), Kind.AUTH, None),
        (403, google(403, "PERMISSION_DENIED"), Kind.AUTH, None),
        (400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), Kind.AUTH, None),
        (400, google(400, "FAILED_PRECONDITION", "The file is not active."), Kind.BAD_REQUEST, None),
        (400, google(400, "INVALID_ARGUMENT"), Kind.BAD_REQUEST, None),
        (
            400,
            google(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens (8)."),
            Kind.CONTEXT_LENGTH,
            None,
        ),
        (404, google(404, "NOT_FOUND"), Kind.UNKNOWN_MODEL, None),
        (429, google(429, "RESOURCE_EXHAUSTED", "Over your current quota.", retryDelay="48s"), Kind.RATE_LIMIT, 48.0),
        (429, google(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."), Kind.QUOTA, None),
        (500, google(500, "INTERNAL"), Kind.SERVER_ERROR, None),
        (503, google(503, "UNAVAILABLE"), Kind.SERVER_ERROR, None),
        (504, google(504, "DEADLINE_EXCEEDED"), Kind.SERVER_ERROR, None),
        (429, [google(429, "RESOURCE_EXHAUSTED", retryDelay="0.25s")], Kind.RATE_LIMIT, 0.25),
        (502, "<html>", Kind.SERVER_ERROR, None),
    ],
)  # fmt: skip
def test_errors(status: int, body: Any, kind: Kind, wait: float | None) -> None:
    error = GEMINI.error(status, [], orjson.dumps(body) if not isinstance(body, str) else body.encode())
    assert (error.kind, error.status, error.retry_after) == (kind, status, wait)
    if error.body is not None:
        told = orjson.loads(error.body)["error"]
        assert told.keys() == {"message", "type", "param", "code"}
        assert isinstance(told["code"], str)


def test_the_longer_wait_wins_and_the_field_at_fault_is_named() -> None:
    body = orjson.dumps(google(429, "RESOURCE_EXHAUSTED", retryDelay="2s"))
    assert GEMINI.error(429, [(b"retry-after", b"5")], body).retry_after == 5.0
    fields = [{"field": "tools[0].name", "description": "Bad."}]
    error = GEMINI.error(400, [], orjson.dumps(google(400, "INVALID_ARGUMENT", fieldViolations=fields)))
    assert orjson.loads(error.body or b"")["error"]["param"] == "tools[0].name"


def test_where_the_credential_goes() -> None:
    for name, header in (("gemini", (b"x-goog-api-key", b"secret")), ("vertex", (b"authorization", b"Bearer secret"))):
        provider = DIALECTS[name]
        assert header in provider.headers(TO, "secret", True)
        assert "secret" not in provider.path(TO, True)
        assert not any(b"secret" in value for _, value in provider.headers(TO, None, True))


@pytest.mark.parametrize(
    ("name", "model", "path"),
    [
        ("gemini", "gemini-x", "/v1beta/models/gemini-x:generateContent"),
        ("gemini", "models/gemini-x", "/v1beta/models/gemini-x:generateContent"),
        ("gemini", "tunedModels/mine", "/v1beta/tunedModels/mine:generateContent"),
        ("gemini", "../../x?y#z", "/v1beta/models/..%2F..%2Fx%3Fy%23z:generateContent"),
        ("vertex", "gemini-x", "/publishers/google/models/gemini-x:generateContent"),
        ("vertex", "endpoints/123", "/endpoints/123:generateContent"),
    ],
)
def test_paths(name: str, model: str, path: str) -> None:
    to = TO._replace(model=model)
    assert DIALECTS[name].path(to, False) == path
    assert DIALECTS[name].path(to, True) == path.replace(":generateContent", ":streamGenerateContent?alt=sse")
