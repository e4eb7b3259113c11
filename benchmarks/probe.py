"""One caller on one raw socket: how long its answers take, and what happens upstream when it goes away."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from load import chat_body, http_request

_CONTENT = b'"content":'
_GIVE_UP_S = 60.0


class Timing(NamedTuple):
    first_ns: int
    """Request handed to the socket -> first content event (streams), else as `whole_ns`."""
    whole_ns: int


class Socket:
    """A kept connection that asks one thing at a time."""

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self.address = (at.hostname or "127.0.0.1", at.port or 80)
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(self.address, _GIVE_UP_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self.socket.close()

    def ask(self, request: bytes) -> Timing:
        """Raises RuntimeError on a status other than 200 or a broken answer."""
        began = time.perf_counter_ns()
        self.socket.sendall(request)
        answer = b""
        first = 0
        while not _whole(answer):
            piece = self.socket.recv(65536)
            if not piece:
                raise RuntimeError(f"the connection ended within an answer: {answer[:200]!r}")
            answer += piece
            if not first and _CONTENT in answer:
                first = time.perf_counter_ns()
        ended = time.perf_counter_ns()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"not answered: {answer[:300]!r}")
        if b"\r\nconnection: close" in answer[: answer.find(b"\r\n\r\n")].lower():
            self.close()
            self.open()
        return Timing((first or ended) - began, ended - began)


def _whole(answer: bytes) -> bool:
    head = answer.find(b"\r\n\r\n") + 4
    if head < 4:
        return False
    low = answer[:head].lower()
    at = low.find(b"\r\ncontent-length:")
    if at < 0:
        return answer.endswith(b"0\r\n\r\n")
    return len(answer) >= head + int(low[at + 17 : low.index(b"\r\n", at + 2)])


def timings(url: str, request: bytes, count: int, seconds: float) -> list[Timing]:
    """Up to `count` answers within `seconds`, one after the other, after a twentieth more to warm up."""
    until = time.monotonic() + seconds
    warm = max(1, count // 20)
    connection = Socket(url)
    try:
        seen: list[Timing] = []
        while len(seen) < count + warm and (len(seen) <= warm or time.monotonic() < until):
            seen.append(connection.ask(request))
        return seen[warm:]
    finally:
        connection.close()


def get_json(port: int, path: str) -> dict[str, int | str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer: dict[str, int | str] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def check_answer(url: str, model: str, stream: bool, headers: Mapping[str, str], seconds: float = _GIVE_UP_S) -> None:
    """One answer through `url`, which must be the mock's, whole: its text and usage, or all 20 chunks and [DONE].

    Raises RuntimeError with what is wrong, OSError if nobody answers.
    """
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "127.0.0.1", at.port, timeout=seconds)
    try:
        sent = {"content-type": "application/json", **headers}
        connection.request("POST", at.path, chat_body(model, stream), sent)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise RuntimeError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {body[:300]!r}")
    if not stream:
        if b"Trucks are weighed" not in body or b'"prompt_tokens"' not in body:
            raise RuntimeError(f"not the mock's answer: {body[:300]!r}")
    elif not all(b" w%d" % n in body for n in range(1, 20)) or b"[DONE]" not in body:
        raise RuntimeError(f"not the mock's whole stream: {body[-300:]!r}")


def leave(url: str, model: str, stream: bool, headers: Mapping[str, str], ticket: int, mock_port: int) -> float | None:
    """Asks, goes away in the middle, and waits for the mock to see its own connection closed.

    A model that answers at once is left after three content events, one that waits (`-w` in its name) while it is
    still silent; both a random 1 to 30 ms later. Returns the ms from the close here to the close seen there; None if
    the mock was never left and wrote its answer to the end, or was never asked.
    """
    request = http_request(url, chat_body(model, stream, note=f" ticket-{ticket}"), headers)
    connection = Socket(url)
    try:
        connection.socket.sendall(request)
        if "-w" in model:
            if _ticket(mock_port, ticket, until={"running"}, seconds=10.0) is None:
                return None
        else:
            answer = b""
            while answer.count(_CONTENT) < 3:
                piece = connection.socket.recv(65536)
                if not piece:
                    raise RuntimeError(f"the stream ended too soon: {answer[:300]!r}")
                answer += piece
        time.sleep(random.uniform(0.001, 0.03))
    finally:
        left_ns = time.monotonic_ns()
        connection.close()
    seen_ns = _ticket(mock_port, ticket, until={"left", "finished"}, seconds=10.0)
    state = get_json(mock_port, f"/ticket/{ticket}")["state"]
    return None if seen_ns is None or state != "left" else (seen_ns - left_ns) / 1e6


def _ticket(port: int, ticket: int, until: set[str], seconds: float) -> int | None:
    """The time (monotonic ns) at which the ticket came into one of the states; None if it did not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        entry = get_json(port, f"/ticket/{ticket}")
        if entry["state"] in until:
            return int(entry["at_ns"])
        time.sleep(0.01)
    return None
