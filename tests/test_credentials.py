"""Tokens that expire: renewed in time and once, read from whatever gives them; a clear word where there are none."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from policies.verdict import Kind
from proxy.config import ConfigError, parse
from proxy.credentials import PAUSE, SourceError, Token, Told, from_command, from_file, from_google, read
from proxy.errors import UpstreamError
from tests import processes


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Well:
    """A source that counts, and fails when told to."""

    def __init__(self, clock: Clock, lasts: float | None = 3600.0) -> None:
        self.clock = clock
        self.lasts = lasts
        self.drawn = 0
        self.failure: str | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> Told:
        self.gate.wait(10)
        self.drawn += 1
        if self.failure:
            raise SourceError(self.failure)
        return Told(f"t{self.drawn}", None if self.lasts is None else self.clock.now + self.lasts)


async def _value(token: Token) -> bytes:
    [(name, value)] = await token.header()
    assert name == b"authorization"
    return value


async def _settled(token: Token) -> None:
    renewing = token._renewing
    if renewing is not None:
        await renewing


def test_a_token_is_drawn_once_and_renewed_before_its_end() -> None:
    async def main() -> None:
        clock = Clock()
        well = Well(clock)
        token = Token(well, 60.0, clock)
        assert set(await asyncio.gather(*(_value(token) for _ in range(20)))) == {b"Bearer t1"}
        clock.now += 3000
        assert await _value(token) == b"Bearer t1"
        assert well.drawn == 1
        clock.now += 320  # within five minutes of the end: the old one still serves, a new one is under way
        well.gate.clear()
        assert set(await asyncio.gather(*(_value(token) for _ in range(20)))) == {b"Bearer t1"}
        well.gate.set()
        await _settled(token)
        assert await _value(token) == b"Bearer t2"
        assert well.drawn == 2
        clock.now += 4000  # it has ended: who comes waits
        assert set(await asyncio.gather(*(_value(token) for _ in range(20)))) == {b"Bearer t3"}
        assert well.drawn == 3

    asyncio.run(main())


def test_a_failure_is_told_and_not_repeated_at_once() -> None:
    async def main() -> None:
        clock = Clock()
        well = Well(clock)
        well.failure = "no login"
        token = Token(well, 60.0, clock)
        for _ in range(3):
            with pytest.raises(UpstreamError, match="no token: no login") as told:
                await token.header()
            assert told.value.kind is Kind.AUTH
        assert well.drawn == 1
        clock.now += PAUSE
        well.failure = None
        assert await _value(token) == b"Bearer t2"
        clock.now += 3400
        well.failure = "gone"
        for _ in range(3):  # a renewal that fails does no harm while the token is good
            assert await _value(token) == b"Bearer t2"
            await _settled(token)
        clock.now += 1000
        with pytest.raises(UpstreamError, match="gone"):
            await token.header()

    asyncio.run(main())


def test_one_that_names_no_end_is_believed_for_a_while_and_an_old_one_never() -> None:
    async def main() -> None:
        clock = Clock()
        well = Well(clock, None)
        token = Token(well, 60.0, clock)
        assert await _value(token) == b"Bearer t1"
        clock.now += 61
        assert await _value(token) == b"Bearer t2"
        well.lasts = -1.0
        clock.now += 61
        with pytest.raises(UpstreamError, match="already expired"):
            await token.header()

    asyncio.run(main())


def _jwt(**claims: Any) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{middle}.x"


@pytest.mark.parametrize(
    ("raw", "token", "expires"),
    [
        (b"ya29.secret\n", "ya29.secret", None),
        (_jwt(exp=1234).encode(), _jwt(exp=1234), 1234.0),
        (_jwt(iat=1).encode(), _jwt(iat=1), None),
        (b"a.b.c", "a.b.c", None),
        (b'{"accessToken": "t", "expiresOn": "2026-11-26 10:00:00.000000", "expires_on": 17641512}', "t", 17641512.0),
        (b'{"token": "t", "expirationTimestamp": "2026-11-26T10:00:00Z"}', "t", 1795687200.0),
        (b'{"access_token": "t"}', "t", None),
    ],
)  # fmt: skip
def test_what_programs_print(raw: bytes, token: str, expires: float | None) -> None:
    assert read(raw, "it") == Told(token, expires)


@pytest.mark.parametrize("raw", [b"", b"{", b"{}", b'{"token": 5}', b"two words", "tökén".encode(), b"[1]\n\n2"])
def test_what_is_no_token(raw: bytes) -> None:
    with pytest.raises(SourceError):
        read(raw, "it")


def test_a_command_and_a_file(tmp_path: Path) -> None:
    assert from_command([sys.executable, "-c", "print('abc')"])().token == "abc"
    with pytest.raises(SourceError, match="status 3: please log in"):
        from_command([sys.executable, "-c", "import sys; print('please log in', file=sys.stderr); sys.exit(3)"])()
    with pytest.raises(OSError, match="nothing"):
        from_command([str(tmp_path / "nothing")])()
    (tmp_path / "token").write_text("xyz\n")
    assert from_file(str(tmp_path / "token"))().token == "xyz"


@contextmanager
def _google() -> Iterator[tuple[str, list[bytes]]]:
    """Google's token endpoint, as far as a service account asks it."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps({"access_token": "ya29.x", "expires_in": 3600, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_google_service_account(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = tmp_path / "key.json"
    with _google() as (address, asked):
        told = {"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": pem}
        path.write_text(json.dumps({**told, "client_email": "a@p.example", "token_uri": address}))
        source = from_google(str(path))
        found = source()
        assert source().token == found.token == "ya29.x"
    assert len(asked) == 2
    assert b"grant_type=urn" in asked[0]
    assert found.expires is not None
    path.write_text("{}")
    with pytest.raises(SourceError, match="Google"):
        from_google(str(path))()
    with pytest.raises((SourceError, OSError)):
        from_google(str(tmp_path / "none.json"))()


def test_two_sources_are_one_too_many() -> None:
    config = "providers: {vertex: {project: p, api_key: x, token_command: [echo, t]}}"
    with pytest.raises(ConfigError, match="keep one of the two"):
        parse(config, source="c", env={})


def test_through_the_proxy(tmp_path: Path) -> None:
    with processes.upstream(tmp_path / "up", "--api-key", "fresh") as served:
        providers = {
            name: {"dialect": "openai", "base_url": f"{served.base_url}/v1", "token_command": command}
            for name, command in (("good", ["echo", "fresh"]), ("bad", [sys.executable, "-c", "raise SystemExit(1)"]))
        }
        config = {
            "providers": providers,
            "routes": {"both": {"targets": ["bad/m", "good/m"]}},
        }
        with processes.proxy(config, tmp_path) as proxy:
            ask = {"messages": [{"role": "user", "content": "x"}]}
            good = proxy.ask("/v1/chat/completions", {"model": "good/m", **ask})
            bad = proxy.ask("/v1/chat/completions", {"model": "bad/m", **ask})
            both = proxy.ask("/v1/chat/completions", {"model": "both", **ask})
        assert (good.status, bad.status, both.status) == (200, 502, 200)
        assert bad.json()["error"]["code"] == "upstream_auth"
    [row] = processes.rows(tmp_path, "SELECT detail FROM v_attempts WHERE error_kind = 'auth' LIMIT 1")
    assert row["detail"].startswith("no token: ")
