"""Faults that show before any content, by the bytes on the wire and by what becomes of the connection."""

from __future__ import annotations

import json
import re

import pytest

from proxy.simulated import FAULTS, Simulated
from proxy.simulated import connection as connection_module
from proxy.simulated.reply import Reply, Script
from proxy.simulated.spoil import EDITS
from tests.simulated.faulty import BOTH, told, under
from tests.simulated.wire import (
    answer,
    ask,
    chunks,
    connected,
    parse,
    request,
    run,
    text,
    until,
)


def test_every_kind_has_an_edit() -> None:
    assert set(EDITS) == set(FAULTS)


@BOTH
@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_shows(kind: str, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever kinds are added: each changes what is written, when, or how the connection ends."""
    scripts: list[Script] = []
    real = connection_module.script

    def script(reply: Reply, *, close: bool) -> Script:
        scripts.append(real(reply, close=close))
        return scripts[-1]

    async def scenario(simulated: Simulated) -> None:
        monkeypatch.setattr(connection_module, "script", script)
        await answer(simulated, ask(stream=stream))
        async with connected(simulated) as client:
            client.transport.write(request(ask(stream=stream), connection="close", **told(kind)))
            await until(lambda: len(scripts) == 2)

    run(scenario)
    clean, spoilt = (
        Script([step._replace(data=_same(step.data)) for step in made.steps], made.end) for made in scripts
    )
    if (kind, stream) == ("missing_done", False):
        assert spoilt == clean, "there is no end marker to leave out"
    else:
        assert spoilt != clean


def _same(data: bytes) -> bytes:
    """Without the ids and times, in which two answers differ anyway."""
    return re.sub(rb'(req_|chatcmpl-)[0-9a-f]{24}|"created":\d+', b"", data)


@BOTH
@pytest.mark.parametrize(
    ("fault", "raw", "ended"),
    [
        ("refuse", b"", "reset"),
        ("reset_before_headers", b"", "reset"),
        ("close_before_headers", b"", "fin"),
        ("garbage", b"\x15\x03\x01\x00\x02\x02\x46 this is no HTTP\r\n\r\n", "fin"),
    ],
)
def test_no_answer_at_all(fault: str, raw: bytes, ended: str, stream: bool) -> None:
    client, _ = under(fault, stream=stream)
    assert client.raw == raw
    assert client.ended == ended


@BOTH
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("http_400", 400, "invalid_value"),
        ("context_length", 400, "context_length_exceeded"),
        ("content_filter", 400, "content_filter"),
        ("http_401", 401, "invalid_api_key"),
        ("http_402", 402, "credit_balance_exhausted"),
        ("http_403", 403, "unsupported_country_region_territory"),
        ("http_404", 404, "model_not_found"),
        ("http_408", 408, "request_timeout"),
        ("http_413", 413, "request_too_large"),
        ("http_422", 422, "unprocessable_entity"),
        ("http_429", 429, "rate_limit_exceeded"),
        ("http_429_quota", 429, "insufficient_quota"),
        ("http_500", 500, None),
        ("http_502", 502, None),
        ("http_503", 503, "server_is_overloaded"),
        ("http_504", 504, None),
        ("http_529", 529, "overloaded"),
    ],
)
def test_error_statuses(fault: str, status: int, code: str | None, stream: bool) -> None:
    message = parse(under(fault, stream=stream)[0].raw)
    assert (message.status, message.complete, message.rest) == (status, True, b"")
    assert message.headers["content-type"] == "application/json"
    assert "retry-after" not in message.headers
    error = json.loads(message.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]


def test_retry_after() -> None:
    message = parse(under("http_429=retry_after:2", stream=False)[0].raw)
    assert (message.status, message.headers["retry-after"]) == (429, "2")
    message = parse(under("http_503=retry_after:0.5", stream=True)[0].raw)
    assert (message.status, message.headers["retry-after"]) == (503, "0.5")


@BOTH
@pytest.mark.parametrize(("fault", "status"), [("html_200", 200), ("html_502", 502)])
def test_html(fault: str, status: int, stream: bool) -> None:
    message = parse(under(fault, stream=stream)[0].raw)
    assert (message.status, message.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert message.complete
    assert message.body.startswith(b"<!DOCTYPE html>")


@BOTH
def test_redirect(stream: bool) -> None:
    message = parse(under("redirect_302", stream=stream)[0].raw)
    assert (message.status, message.headers["location"], message.body) == (302, "/redirected", b"")


@BOTH
def test_empty(stream: bool) -> None:
    message = parse(under("empty_200", stream=stream)[0].raw)
    assert (message.status, message.body, message.complete) == (200, b"", True)


@BOTH
def test_error_with_a_success_status(stream: bool) -> None:
    message = parse(under("error_in_200", stream=stream)[0].raw)
    assert (message.status, message.complete) == (200, True)
    assert list(json.loads(message.body)) == ["error"]


@pytest.mark.parametrize("fault", ["sse_for_json", "json_for_sse"])
def test_the_other_kind_of_answer(fault: str) -> None:
    streamed, whole = under(fault, stream=False)
    message = parse(streamed.raw)
    assert message.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert text(message.body) == text(whole)
    single, stream = under(fault, stream=True)
    message = parse(single.raw)
    assert message.headers["content-type"] == "application/json"
    assert json.loads(message.body)["object"] == "chat.completion"
    assert text(message.body) == text(stream)


@BOTH
def test_empty_choices(stream: bool) -> None:
    message = parse(under("empty_choices", stream=stream)[0].raw)
    assert message.complete
    bodies = chunks(message.body) if stream else [json.loads(message.body)]
    assert bodies
    assert all(body["choices"] == [] for body in bodies)


def test_done_only() -> None:
    assert parse(under("done_only", stream=True)[0].raw).body == b"data: [DONE]\n\n"
    assert parse(under("done_only", stream=False)[0].raw).body == b"{}"


def test_role_then_error() -> None:
    message = parse(under("role_then_error", stream=True)[0].raw)
    first, second = chunks(message.body)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert list(second) == ["error"]
    assert message.complete
    assert list(json.loads(parse(under("role_then_error", stream=False)[0].raw).body)) == ["error"]
