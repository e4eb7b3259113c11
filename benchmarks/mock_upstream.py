"""An OpenAI upstream made for load: canned bytes, requests read by hand, one process on one event loop.

    python benchmarks/mock_upstream.py [--port 0]        # prints {"port": N} once it listens

`POST …/chat/completions` answers a completion of about 500 bytes, or (with `"stream": true`) 20 content chunks, a
usage chunk and `[DONE]`: 22 events, each written in a turn of the loop of its own, as a model would send them. The
model name may carry knobs, because it passes every gateway unchanged:

    mock            at once
    mock-d5         5 ms before each event
    mock-n400-d5    400 chunks
    mock-w5000      5,000 ms before the first byte of the answer

A prompt that contains `ticket-N` (N a number) is followed by that number: `GET /ticket/N` tells whether its answer
is still running, was finished, or was left by the caller, and when (ns of the machine's monotonic clock, which all
processes share). `GET /stats` gives the counts, any other GET the list of models.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from typing import NamedTuple

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_MODEL = re.compile(rb'"model"\s*:\s*"([^"]*)"')
_KNOB = re.compile(rb"-([dnw])(\d+)")
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_TICKET = re.compile(rb"ticket-(\d+)")

_USAGE = b'"usage":{"prompt_tokens":96,"completion_tokens":20,"total_tokens":116}'
_CHUNK = b'{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"mock",'
COMPLETION = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1790000000,"model":"mock","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"'
    + b"Trucks are weighed empty, then full; the load is the rest. " * 3
    + b'","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],'
    + _USAGE
    + b',"service_tier":"default","system_fingerprint":"fp_bench"}'
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


class Script(NamedTuple):
    """What is written in answer to one request."""

    parts: tuple[bytes, ...]
    wait_s: float
    """Before the first part."""
    pause_s: float
    """Before each further part; 0 is the next turn of the loop."""
    stream: bool


def plain(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


_PLAIN = (plain(COMPLETION),)
_MODELS = plain(b'{"object":"list","data":[{"id":"mock","object":"model","created":1790000000,"owned_by":"bench"}]}')


def stream_events(chunks: int) -> list[bytes]:
    """`chunks` content events, one with the usage, and `[DONE]`."""
    events = []
    for number in range(chunks):
        delta = b'{"content":" w%d"}' % number if number else b'{"role":"assistant","content":"Hello"}'
        reason = b'"stop"' if number == chunks - 1 else b"null"
        choice = b'"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}' % (delta, reason)
        events.append(b"data: " + _CHUNK + choice + b"\n\n")
    events.append(b"data: " + _CHUNK + b'"choices":[],' + _USAGE + b"}\n\n")
    events.append(b"data: [DONE]\n\n")
    return events


def stream_parts(chunks: int) -> tuple[bytes, ...]:
    """The events as HTTP chunks, the first with the head of the answer, the last with the end of its body."""
    parts = [b"%x\r\n%s\r\n" % (len(event), event) for event in stream_events(chunks)]
    parts[0] = _STREAM_HEAD + parts[0]
    parts[-1] += b"0\r\n\r\n"
    return tuple(parts)


def script_for(body: bytes) -> Script:
    model = _MODEL.search(body)
    knobs = {name: int(value) for name, value in _KNOB.findall(model[1])} if model else {}
    pause_s = knobs.get(b"d", 0) / 1000
    wait_s = knobs[b"w"] / 1000 if b"w" in knobs else pause_s
    if _STREAM.search(body):
        return Script(stream_parts(knobs.get(b"n", 20)), wait_s, pause_s, True)
    return Script(_PLAIN, wait_s, pause_s, False)


def request_span(buffer: bytes) -> tuple[int, int] | None:
    """Where the body of the first request starts and ends; None while it is incomplete.

    A chunked body is taken up to its last chunk with the sizes left in: what is looked for is found all the same.
    """
    start = buffer.find(b"\r\n\r\n") + 4
    if start < 4:
        return None
    length = _LENGTH.search(buffer, 0, start)
    if length:
        end = start + int(length[1])
    elif _CHUNKED.search(buffer, 0, start):
        end = buffer.find(b"\r\n0\r\n\r\n", start - 2) + 7
        if end < 7:
            return None
    else:
        end = start
    return (start, end) if len(buffer) >= end else None


class Ledger:
    """What all connections have seen."""

    __slots__ = ("finished", "requests", "scripts", "streams", "tickets")

    def __init__(self) -> None:
        self.requests = 0
        self.streams = 0
        self.finished = 0
        self.tickets: dict[int, tuple[str, int]] = {}
        self.scripts: dict[bytes, Script] = {}
        """By request body: the load sends the same body over and over, so it is understood once."""

    def script(self, body: bytes) -> Script:
        script = self.scripts.get(body)
        if script is None:
            if len(self.scripts) >= 256:  # a gateway that makes every body unique
                self.scripts.clear()
            script = self.scripts[body] = script_for(body)
        return script

    def get(self, path: bytes) -> bytes:
        if path == b"/stats":
            counts = {"requests": self.requests, "streams": self.streams, "finished": self.finished}
            return plain(json.dumps(counts).encode())
        if path.startswith(b"/ticket/"):
            state, at_ns = self.tickets.get(int(path[8:]), ("unseen", 0))
            return plain(json.dumps({"state": state, "at_ns": at_ns}).encode())
        return _MODELS


class Caller(asyncio.Protocol):
    """One connection. Requests are answered one after the other; pipelining is not supported and ends it."""

    __slots__ = ("buffer", "ledger", "loop", "next", "script", "ticket", "timer", "transport")
    transport: asyncio.Transport

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.script: Script | None = None
        self.next = 0
        self.ticket: int | None = None
        self.timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.script is not None and self.ticket is not None:
            self.ledger.tickets[self.ticket] = ("left", time.monotonic_ns())
        self.script = None

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        while buffer:
            span = request_span(buffer)
            if span is None:
                break
            if self.script is not None:
                self.transport.abort()
                return
            start, end = span
            if buffer.startswith(b"GET "):
                self.transport.write(self.ledger.get(buffer[4 : buffer.index(b" ", 4)]))
            else:
                self.answer(buffer[start:end])
            buffer = buffer[end:]
        self.buffer = buffer

    def answer(self, body: bytes) -> None:
        ledger = self.ledger
        ledger.requests += 1
        ticket = _TICKET.search(body)
        if ticket:
            self.ticket = int(ticket[1])
            ledger.tickets[self.ticket] = ("running", time.monotonic_ns())
            script = script_for(body)
        else:
            self.ticket = None
            script = ledger.script(body)
        ledger.streams += script.stream
        self.script = script
        self.next = 0
        if script.wait_s:
            self.timer = self.loop.call_later(script.wait_s, self.write)
        else:
            self.write()

    def write(self) -> None:
        script = self.script
        if script is None:
            return
        self.transport.write(script.parts[self.next])
        self.next += 1
        if self.next < len(script.parts):
            if script.pause_s:
                self.timer = self.loop.call_later(script.pause_s, self.write)
            else:
                self.timer = self.loop.call_soon(self.write)
            return
        self.script = self.timer = None
        self.ledger.finished += 1
        if self.ticket is not None:
            self.ledger.tickets[self.ticket] = ("finished", time.monotonic_ns())


async def serve(port: int) -> None:
    ledger = Ledger()
    server = await asyncio.get_running_loop().create_server(lambda: Caller(ledger), "127.0.0.1", port, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A fast OpenAI upstream for load on the loopback interface.")
    parser.add_argument("--port", type=int, default=0, help="0 (default): any free one")
    uvloop.run(serve(parser.parse_args().port))
