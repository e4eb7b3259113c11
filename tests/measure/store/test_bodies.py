"""What is kept of prompts and answers: redacted before it is written, found by id, gone when it has expired."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from proxy.capture import Capture, Rule
from proxy.measure.store import bodies, upkeep, writer
from proxy.measure.store.bodies import Bodies, Body, redact
from proxy.wire.chat import ChatRequest
from proxy.wire.controls import NONE

SECRETS = (
    "sk-proj-abcdefghij0123456789ABCDEFGHIJ",
    "gsk_abcdefghijklmnop0123456789",
    "Bearer abc.def-ghi_jkl0123",
    "AKIAIOSFODNN7EXAMPLE00",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk",
    "jane.doe+x@mail.example.org",
    "data:image/png;base64," + "iVBORw0KGgo" * 20,
)


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_taken_out_and_the_rest_stays(secret: str) -> None:
    found = redact(f'{{"content": "before {secret} after"}}')
    assert secret not in found
    assert re.fullmatch(r'\{"content": "before \[(key|e-mail|data)\] after"\}', found)


@pytest.mark.parametrize("plain", ["a sketch of sk-8", "2 @ 3", "bearer of news", "data: base64", "keyboard"])
def test_plain_words_stay(plain: str) -> None:
    assert redact(plain) == plain


def test_own_patterns() -> None:
    assert redact("CUST-123456 and 7", [re.compile(r"CUST-\d{6}")]) == "[redacted] and 7"


def _rows(path: Path) -> list[tuple[str, str, str | None]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT id, request, answer FROM bodies ORDER BY n").fetchall()


def _body(id: str, redacted: bool = False, keep: float = 60.0) -> Body:
    text = f"ask {SECRETS[0]}".encode()
    return Body(id, time.time(), keep, text, None if id == "c" else b"answer \xff", redacted)


def test_kept_by_a_thread_of_its_own_and_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    kept = Bodies(path)
    kept.keep(_body("a", redacted=True))
    kept.keep(_body("b"))
    kept.keep(_body("c", keep=-10.0))
    assert kept.close()
    assert _rows(path) == [
        ("a", "ask [key]", "answer \ufffd"),
        ("b", f"ask {SECRETS[0]}", "answer \ufffd"),
        ("c", f"ask {SECRETS[0]}", None),
    ]
    assert kept.losses() == {"queue_full": 0, "write_error": 0}
    with closing(writer.connect(path)) as connection:
        while upkeep.step(connection, time.time(), upkeep.Retention()):
            pass
    assert [id for id, _, _ in _rows(path)] == ["a", "b"]
    with closing(writer.connect(path)) as connection:
        while upkeep.step(connection, time.time() + 120, upkeep.Retention()):
            pass
    assert _rows(path) == []


def test_what_cannot_be_kept_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Bodies(tmp_path / "missing" / "store.db")
    nowhere.keep(_body("a"))
    assert nowhere.close()
    assert nowhere.losses()["write_error"] == 1
    monkeypatch.setattr(bodies.Bodies, "_run", lambda self: None)
    full = Bodies(tmp_path / "store.db")
    for number in range(bodies.CAPACITY + 3):
        full.keep(_body(str(number)))
    assert full.losses()["queue_full"] == 3


@pytest.mark.parametrize(
    ("route", "key", "expected"),
    [
        ("open", "", "full"), ("closed", "", None), (None, "", "redacted"), ("other", "app", "redacted"),
        ("open", "shy", None), ("closed", "bold", "full"),
    ],
)  # fmt: skip
def test_a_key_comes_before_its_route_and_that_before_all(route: str | None, key: str, expected: str | None) -> None:
    kept: list[Body] = []
    capture = Capture(
        kept.append,
        Rule("redacted", 9.0),
        {"open": Rule("full", 9.0), "closed": None},
        {"shy": None, "bold": Rule("full", 9.0)},
    )
    ask = ChatRequest.parse(b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}')
    assert (capture.wants(ask, route, key, (), NONE) is not None) is (expected is not None)
    assert not capture.idle
    assert Capture(kept.append, None, {"a": None}, {}).idle
