"""Faults in the middle of an answer, by the bytes on the wire and by what becomes of the connection."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from proxy.simulated import Simulated
from proxy.simulated.spoil import BIG_LINE
from tests.simulated.faulty import BOTH, told, under
from tests.simulated.wire import (
    Broken,
    Client,
    ask,
    chunks,
    connected,
    dechunked,
    finishes,
    parse,
    payloads,
    request,
    run,
    text,
    until,
)


@pytest.mark.parametrize("after", [0, 2, 5])
@pytest.mark.parametrize(
    ("fault", "ended", "complete"),
    [("cut_mid_stream", "fin", False), ("cut_reset", "reset", False), ("cut_clean", "fin", True)],
)
def test_cut_streams(fault: str, ended: str, complete: bool, after: int) -> None:
    client, clean = under(f"{fault}=after:{after}", stream=True)
    message = parse(client.raw)
    assert (client.ended, message.complete) == (ended, complete)
    assert len(payloads(message.body)) == 1 + after, "the role chunk and the content before the cut"
    assert text(clean).startswith(text(message.body))
    assert finishes(message.body) == []
    assert b"[DONE]" not in message.body


@pytest.mark.parametrize(("fault", "ended"), [("cut_mid_stream", "fin"), ("cut_reset", "reset")])
def test_cut_bodies(fault: str, ended: str) -> None:
    client, clean = under(fault, stream=False)
    message = parse(client.raw)
    assert (client.ended, message.complete) == (ended, False)
    assert int(message.headers["content-length"]) == len(clean)
    assert len(message.body) == len(clean) // 2


@BOTH
@pytest.mark.parametrize("fault", ["cut_clean", "missing_finish"])
def test_whole_messages_without_a_finish_reason(fault: str, stream: bool) -> None:
    client, clean = under(fault, stream=stream)
    message = parse(client.raw)
    assert message.complete
    if stream:
        assert finishes(message.body) == []
        assert (payloads(message.body)[-1] == b"[DONE]") is (fault == "missing_finish")
        assert (text(message.body) == text(clean)) is (fault == "missing_finish")
    else:
        assert json.loads(message.body)["choices"][0]["finish_reason"] is None


def _hanging(fault: str, body: object, check: Callable[[Client], None]) -> None:
    """Under a fault that ends in silence: reads what is sent, leaves, and sees the simulator count it."""

    async def scenario(simulated: Simulated) -> None:
        async with connected(simulated) as client:
            client.transport.write(request(body, connection="close", **told(fault)))
            await until(lambda: simulated.stats.running == 1)
            # The script has been played to its end in the turn in which the request was read.
            await client.until(lambda seen: len(seen.raw) == simulated.stats.bytes_out)
            check(client)
            assert client.ended == ""
            assert (simulated.stats.open, simulated.stats.cancelled) == (1, 0)
        await until(lambda: simulated.stats.open == 0)
        assert (simulated.stats.cancelled, simulated.stats.broken, simulated.stats.running) == (1, 0, 0)
        assert len(simulated.stats.cancelled_at) == 1

    run(scenario)


@BOTH
def test_silence_before_headers(stream: bool) -> None:
    def check(client: Client) -> None:
        assert client.raw == b""

    _hanging("hang_before_headers", ask(stream=stream), check)


@pytest.mark.parametrize("after", [0, 3])
def test_stalled_streams(after: int) -> None:
    def check(client: Client) -> None:
        message = parse(client.raw)
        assert not message.complete
        assert len(payloads(message.body)) == 1 + after

    _hanging(f"stall_mid_stream=after:{after}", ask(stream=True), check)


@pytest.mark.parametrize("fault", ["stall_mid_stream", "slow_body"])
def test_stalled_bodies(fault: str) -> None:
    def check(client: Client) -> None:
        message = parse(client.raw)
        assert len(message.body) == int(message.headers["content-length"]) // 2

    _hanging(fault, ask(), check)


def test_stalled_amid_an_event() -> None:
    def check(client: Client) -> None:
        message = parse(client.raw)
        assert not message.complete
        assert not message.body.endswith(b"\n")
        assert message.body.count(b"\n\n") == 7, "the role chunk and six of twelve content chunks"

    _hanging("slow_body", ask(stream=True), check)


@pytest.mark.parametrize("after", [0, 2])
def test_truncated_json_in_a_stream(after: int) -> None:
    message = parse(under(f"truncated_json=after:{after}", stream=True)[0].raw)
    assert message.complete
    *whole, last = message.body.split(b"\n\n")
    assert len(whole) == 1 + after
    assert last.startswith(b"data: {")
    with pytest.raises(json.JSONDecodeError):
        json.loads(last[6:])


def test_truncated_json() -> None:
    client, clean = under("truncated_json", stream=False)
    message = parse(client.raw)
    assert message.complete
    assert clean.split(b'"created"')[0].split(b"chatcmpl-")[0] in message.body
    with pytest.raises(json.JSONDecodeError):
        json.loads(message.body)


@BOTH
def test_content_length_too_large(stream: bool) -> None:
    client, clean = under("wrong_content_length", stream=stream)
    message = parse(client.raw)
    assert (client.ended, message.complete) == ("fin", False)
    assert "transfer-encoding" not in message.headers
    if stream:
        assert int(message.headers["content-length"]) == len(clean)
        assert len(payloads(message.body)) == 3
    else:
        assert int(message.headers["content-length"]) == len(message.body) + 100
        assert text(message.body) == text(clean)


@BOTH
def test_content_length_too_small(stream: bool) -> None:
    client, clean = under("wrong_content_length_short", stream=stream)
    message = parse(client.raw)
    assert (client.ended, int(message.headers["content-length"])) == ("fin", len(clean) // 2)
    assert len(message.body + message.rest) == len(clean)


@BOTH
def test_bad_chunk(stream: bool) -> None:
    client, clean = under("bad_chunk", stream=stream)
    with pytest.raises(Broken, match="no chunk size: b'no size'"):
        parse(client.raw)
    before = client.raw.split(b"\r\n\r\n", 1)[1].split(b"no size\r\n")[0]
    sent = b"".join(dechunked(before)[0])
    assert len(payloads(sent)) == 3 if stream else len(sent) == len(clean) // 2


@pytest.mark.parametrize(("after", "place"), [(0, 0), (2, 3)])
def test_malformed_event(after: int, place: int) -> None:
    client, clean = under(f"malformed_sse=after:{after}", stream=True)
    message = parse(client.raw)
    events = payloads(message.body)
    assert len(events) == len(payloads(clean)), "one event is damaged, none is missing"
    assert events[-1] == b"[DONE]"
    for at, event in enumerate(events[:-1]):
        if at == place:
            with pytest.raises(json.JSONDecodeError):
                json.loads(event)
        else:
            json.loads(event)
    intact = b"".join(b"data: " + event + b"\n\n" for at, event in enumerate(events) if at != place)
    assert text(intact) != text(clean), "a reader who skips the event loses content"


@pytest.mark.parametrize("after", [0, 2])
def test_malformed_body(after: int) -> None:
    message = parse(under(f"malformed_sse=after:{after}", stream=False)[0].raw)
    assert message.complete
    with pytest.raises(json.JSONDecodeError):
        json.loads(message.body)


@pytest.mark.parametrize(("after", "events"), [(0, 1), (1, 3), (4, 6)])
def test_error_event(after: int, events: int) -> None:
    message = parse(under(f"error_event=after:{after}", stream=True)[0].raw)
    seen = chunks(message.body)
    assert (message.status, message.complete, len(seen)) == (200, True, events)
    assert list(seen[-1]) == ["error"]
    assert b"[DONE]" not in message.body
    assert list(json.loads(parse(under("error_event", stream=False)[0].raw).body)) == ["error"]


def test_big_line() -> None:
    client, clean = under("big_line=after:0", stream=True)
    message = parse(client.raw)
    assert text(message.body) == "x" * BIG_LINE + text(clean)
    assert max(map(len, message.body.split(b"\n"))) > BIG_LINE
    whole = parse(under("big_line", stream=False)[0].raw)
    assert (whole.body, whole.complete) == (b"x" * BIG_LINE, True)
