"""What goes on the wire, and what must never get there."""

from __future__ import annotations

import pytest

from proxy.transport.base import Head, Headers, Origin, UpstreamRequest
from proxy.transport.request import authority, serialise
from tests.transport.byteserver import answers
from tests.transport.rig import OK, Rig, Way, every_way, play


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (Origin("https", "api.example.test", 443), b"api.example.test"),
        (Origin("http", "api.example.test", 80), b"api.example.test"),
        (Origin("https", "api.example.test", 80), b"api.example.test:80"),
        (Origin("http", "::1", 8000), b"[::1]:8000"),
        (Origin("http", "bücher.test", 80), b"xn--bcher-kva.test"),
    ],
)
def test_host(origin: Origin, host: bytes) -> None:
    assert authority(origin) == host


def test_a_head_is_serialised_once_for_any_origin() -> None:
    head = Head("POST", "/v1/x?y=%20", [(b"A", b"b"), (b"a", b"")])
    assert serialise(UpstreamRequest(head, b"{}"), b"one.test") == (
        b"POST /v1/x?y=%20 HTTP/1.1\r\nhost: one.test\r\nA: b\r\na: \r\ncontent-length: 2\r\n\r\n{}"
    )
    kept = head.wire
    assert serialise(UpstreamRequest(head, b"", [(b"c", b"d")]), b"two.test:81") == (
        b"POST /v1/x?y=%20 HTTP/1.1\r\nhost: two.test:81\r\nc: d\r\nA: b\r\na: \r\ncontent-length: 0\r\n\r\n"
    )
    assert head.wire is kept


def test_a_body_is_not_invented() -> None:
    assert serialise(UpstreamRequest(Head("GET", "/", ()), b""), b"a") == b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    assert serialise(UpstreamRequest(Head("GET", "/", ()), b"x"), b"a").endswith(b"content-length: 1\r\n\r\nx")


BAD_HEADERS = [
    (b"a", b"b\r\nevil: 1"),
    (b"a", b"b\nevil"),
    (b"a", b"b\r"),
    (b"a", b"b\0"),
    (b"a b", b"c"),
    (b"a:", b"c"),
    (b"", b"c"),
    (b"a\r\n", b"c"),
    ("ä".encode(), b"c"),
    (b"Host", b"evil.test"),
    (b"Content-Length", b"3"),
    (b"transfer-encoding", b"chunked"),
]


@every_way
def test_nothing_is_smuggled(way: Way) -> None:
    """A refused request leaves nothing behind, and the next one is well."""

    async def act(rig: Rig) -> None:
        for bad in BAD_HEADERS:
            with pytest.raises(ValueError, match="header"):
                await _send(rig, Head("POST", "/", [bad]))
            with pytest.raises(ValueError, match="header") as caught:
                await _send(rig, Head("POST", "/", ()), [bad])
            assert "evil" not in str(caught.value)
        for path in ("/a b", "/a\r\nb", "", "no-slash", "/ä", "/\x7f", "http://evil.test/"):
            with pytest.raises(ValueError, match="path"):
                await _send(rig, Head("POST", path, ()))
        for method in ("", "A B", "GET\r\n"):
            with pytest.raises(ValueError, match="method"):
                await _send(rig, Head(method, "/", ()))
        assert not rig.server.requests
        assert (await rig.answer())[1] == b"ok"
        if way.native:
            assert rig.pool.taken == 1

    play(way, answers(OK), act)


async def _send(rig: Rig, head: Head, extra: Headers = ()) -> None:
    connection = rig.transport.idle(rig.origin) or await rig.transport.connect(rig.origin)
    await connection.send(UpstreamRequest(head, b"{}", extra))
