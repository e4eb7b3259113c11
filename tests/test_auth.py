from __future__ import annotations

import hashlib

import pytest

from proxy.auth import Gate, Key
from proxy.errors import Refusal


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def gate(
    *keys: Key, direct: str = "auto", admin: str | None = None, metrics_open: bool = True, loopback: bool = True
) -> Gate:
    return Gate(
        keys,
        direct=direct,
        admin_digest=digest(admin) if admin else None,
        metrics_open=metrics_open,
        loopback=loopback,
    )


APP = Key("app", digest("sk-app"), False)
OPS = Key("ops", digest("sk-ops"), True)


def bearer(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"localhost:8080"), (b"authorization", text.encode())]


def test_without_keys_everybody_may_call() -> None:
    assert gate().client(bearer("Bearer anything")) is None
    assert gate().may_go_direct(None)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "x"])
def test_without_keys_a_web_page_from_elsewhere_may_not(origin: str) -> None:
    with pytest.raises(Refusal) as caught:
        gate().client([(b"origin", origin.encode())])
    assert caught.value.status == 403
    assert gate(APP).client([(b"origin", origin.encode()), *bearer("Bearer sk-app")]) is APP


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080"])
def test_without_keys_a_local_web_page_may(origin: str) -> None:
    assert gate().client([(b"origin", origin.encode())]) is None


@pytest.mark.parametrize("text", ["Bearer sk-app", "bearer sk-app", "Bearer  sk-app "])
def test_a_known_key(text: str) -> None:
    assert gate(APP, OPS).client(bearer(text)) is APP


@pytest.mark.parametrize("text", ["", "Bearer", "Bearer ", "Bearer sk-ap", "Basic sk-app", "sk-app", "Bearer sk-app2"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        gate(APP).client(bearer(text))
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert "sk-app" not in caught.value.message


@pytest.mark.parametrize(
    ("rule", "key", "allowed"),
    [
        ("auto", None, True),
        ("auto", APP, False),
        ("auto", OPS, True),
        ("always", APP, True),
        ("never", OPS, False),
        ("never", None, False),
    ],
)
def test_who_may_name_a_provider(rule: str, key: Key | None, allowed: bool) -> None:
    assert gate(APP, OPS, direct=rule).may_go_direct(key) is allowed


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "LOCALHOST"]
)
def test_a_loopback_bind_is_open_to_local_names(host: str) -> None:
    gate(APP).admin([(b"host", host.encode())])


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]:1"]
)
def test_a_loopback_bind_is_closed_to_other_names(host: str) -> None:
    with pytest.raises(Refusal) as caught:
        gate().admin([(b"host", host.encode())])
    assert caught.value.status == 403


def test_a_public_bind_needs_the_admin_token() -> None:
    public = gate(APP, admin="t0ken", loopback=False, metrics_open=False)
    public.admin(bearer("Bearer t0ken"))
    public.metrics(bearer("Bearer t0ken"))
    for text in ("", "Bearer sk-app", "Bearer t0ke"):
        with pytest.raises(Refusal):
            public.admin(bearer(text))
        with pytest.raises(Refusal):
            public.metrics(bearer(text))
    gate(APP, loopback=False).metrics(bearer(""))
