"""Certificates are verified, sessions are used again, and nothing else differs from plain TCP."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
import trustme

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport import tls
from proxy.transport.http1 import Http1Connection
from proxy.transport.pool import Pool
from tests.transport.byteserver import Peer, answers, once
from tests.transport.rig import OK, Rig, Way, every_way, native_ways, play, until, whole


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA) -> Iterator[str]:
    with authority.cert_pem.tempfile() as path:
        yield path


def server(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@every_way
@pytest.mark.parametrize("given", ["ca_file", "SSL_CERT_FILE"])
def test_a_known_authority(
    way: Way, given: str, authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(rig: Rig) -> None:
        for _ in range(3):
            assert (await rig.answer())[1] == b"ok"
        assert rig.server.connections == 1

    if given == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    play(
        way,
        answers(OK),
        act,
        tls=server(authority),
        host="localhost",
        ca_file=ca_file if given == "ca_file" else None,
    )


async def _refused(rig: Rig, words: str) -> None:
    with pytest.raises(TransportError, match=words) as caught:
        await rig.ask()
    assert (caught.value.kind, caught.value.sent) == (Kind.CONNECT, False)
    assert not rig.server.requests


@every_way
def test_an_unknown_authority(way: Way, ca_file: str) -> None:
    async def act(rig: Rig) -> None:
        await _refused(rig, "certificate refused: unable to get local issuer")

    play(way, answers(OK), act, tls=server(trustme.CA()), host="localhost", ca_file=ca_file)


@every_way
def test_no_authority_but_the_systems(way: Way, authority: trustme.CA) -> None:
    async def act(rig: Rig) -> None:
        await _refused(rig, "certificate refused")

    play(way, answers(OK), act, tls=server(authority), host="localhost")


@every_way
def test_another_hosts_certificate(way: Way, authority: trustme.CA, ca_file: str) -> None:
    async def act(rig: Rig) -> None:
        await _refused(rig, "certificate refused: Hostname mismatch")

    play(way, answers(OK), act, tls=server(authority, "other.test"), host="localhost", ca_file=ca_file)


@every_way
def test_a_server_without_tls(way: Way) -> None:
    async def act(rig: Rig) -> None:
        rig.origin = rig.origin._replace(scheme="https")
        await _refused(rig, "TLS failed")

    async def plain(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    play(way, plain, act)


@native_ways
def test_a_handshake_nobody_answers(way: Way) -> None:
    """Cancelled in the middle of it, the connection is closed at once."""

    async def silent(peer: Peer) -> None:
        hello.append(await peer.gone())

    async def act(rig: Rig) -> None:
        rig.origin = rig.origin._replace(scheme="https")
        task = asyncio.create_task(rig.ask())
        await until(lambda: rig.server.connections == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await rig.server.quiet()
        await until(lambda: not rig.transport.sockets)
        assert rig.pool.taken == 0
        assert hello[0].startswith(b"\x16\x03\x01")

    hello: list[bytes] = []
    play(way, silent, act)


@native_ways
def test_plain_bytes_before_the_handshake(way: Way) -> None:
    """Somebody on the way puts an answer in front of the handshake: it must never pass for the server's."""

    async def inject(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await peer.gone()

    async def slowly(self: Pool, connection: Http1Connection) -> None:
        await until(lambda: connection.last_ns > 0)
        await secure(self, connection)

    async def act(rig: Rig) -> None:
        rig.origin = rig.origin._replace(scheme="https")
        await _refused(rig, "TLS failed: the server closed or spoke")
        assert rig.pool.taken == 0

    secure = Pool._secure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "_secure", slowly)
        play(way, inject, act)


@native_ways
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def test_sessions_are_used_again(way: Way, version: ssl.TLSVersion, authority: trustme.CA, ca_file: str) -> None:
    reused: list[bool] = []

    async def act(rig: Rig) -> None:
        for _ in range(3):
            reply = await rig.ask()
            (connection,) = rig.transport.sockets
            reused.append(connection.transport.get_extra_info("ssl_object").session_reused)
            await whole(reply)
            reply.release()
            await rig.server.quiet()
            await asyncio.sleep(0)
        assert rig.server.connections == 3

    context = server(authority)
    context.maximum_version = version
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    play(way, once(closing, then="wait"), act, tls=context, host="localhost", ca_file=ca_file)
    assert reused == [False, True, True]


@every_way
def test_old_versions_are_refused(way: Way, authority: trustme.CA, ca_file: str) -> None:
    async def act(rig: Rig) -> None:
        await _refused(rig, "TLS failed|Connection reset")  # the server may be gone before its alert was read

    context = server(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    play(way, answers(OK), act, tls=context, host="localhost", ca_file=ca_file)


@every_way
def test_abort_is_seen_at_once(way: Way, authority: trustme.CA, ca_file: str) -> None:
    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        assert (await reply.read())[0] == b"abc"
        reply.abort()
        await rig.server.quiet()

    endless = once(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", then="wait")
    play(way, endless, act, tls=server(authority), host="localhost", ca_file=ca_file)


@every_way
def test_large_bodies_both_ways(way: Way, authority: trustme.CA, ca_file: str) -> None:
    body = os.urandom(1 << 20) * 8

    async def echo(peer: Peer) -> None:
        while True:
            got = (await peer.request()).partition(b"\r\n\r\n")[2]
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(got) + got)

    async def act(rig: Rig) -> None:
        for _ in range(2):
            reply = await rig.ask(body)
            assert 0 < reply.sent_ns <= reply.first_byte_ns
            assert await whole(reply) == body
            reply.release()

    play(way, echo, act, tls=server(authority), host="localhost", ca_file=ca_file)


@every_way
def test_cut_within_the_body(way: Way, authority: trustme.CA, ca_file: str) -> None:
    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        with pytest.raises(TransportError) as caught:
            await whole(reply)
        assert caught.value.kind is Kind.TRUNCATED
        reply.release()

    cut = once(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
    play(way, cut, act, tls=server(authority), host="localhost", ca_file=ca_file)


def test_what_is_trusted(ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = tls.trust(ca_file)
    assert [one["subject"] for one in context.get_ca_certs()] == [one["issuer"] for one in context.get_ca_certs()]
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2

    empty = tmp_path / "certificates"
    empty.mkdir()
    nothing = ssl.DefaultVerifyPaths(None, str(empty), "", "", "", "")  # type: ignore[attr-defined]
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)
    monkeypatch.setenv("SSL_CERT_DIR", str(empty))
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda self: None)
    listed = Path(certifi.where()).read_text().count("BEGIN CERTIFICATE")
    assert tls.trust().cert_store_stats()["x509"] == listed
    (empty / "0123abcd.0").touch()
    assert tls.trust().cert_store_stats()["x509"] == 0  # OpenSSL will look there when it needs one


def test_a_certificate_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tls.trust(str(tmp_path / "nothing.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    with pytest.raises(FileNotFoundError, match="SSL_CERT_FILE names"):
        tls.trust()


@every_way
def test_a_bad_ca_file_is_told(way: Way, authority: trustme.CA) -> None:
    async def act(rig: Rig) -> None:
        await _refused(rig, "TLS failed" if bad == __file__ else "No such file")

    for bad in ("/nowhere/ca.pem", __file__):
        play(way, answers(OK), act, tls=server(authority), host="localhost", ca_file=bad)
