"""Recordings through the other doors: what is right passes, what is spoilt does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.replay.forms import FORMS, main, native, translated
from tests.replay.recording import Recording, read

HERE = Path(__file__).parent
OTHERS = {recording.id: recording for recording in read(HERE / "forms.jsonl")}
CHATS = {recording.id: recording for recording in read(HERE / "lines.jsonl")}


@pytest.mark.parametrize("id", OTHERS)
def test_native_recordings_pass(id: str) -> None:
    assert native(OTHERS[id]) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("id", CHATS)
def test_chats_keep_their_meaning_in_other_forms(id: str, form: str) -> None:
    assert not translated(CHATS[id], FORMS[form])


def test_messages_pass_natively() -> None:
    recording = CHATS["anthropic-stream"]
    asked = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    assert native(replace(recording, request=asked)) == []


def _spoilt(recording: Recording, old: bytes, new: bytes) -> Recording:
    assert old in recording.body
    return replace(recording, body=recording.body.replace(old, new))


@pytest.mark.parametrize(
    ("id", "old", "new"),
    [
        ("responses-stream", b'"sequence_number": 5', b"garbage"),
        ("responses-stream", b"event: response.completed", b": no end\n\nevent: response.completely"),
        ("responses-text", b'"error":null', b'"error":{"code":"server_error","message":"no"}'),
    ],
)
def test_what_is_no_answer_is_refused(id: str, old: bytes, new: bytes) -> None:
    spoilt = _spoilt(OTHERS[id], old, new)
    if b"no end" in new:
        spoilt = replace(spoilt, body=spoilt.body[: spoilt.body.index(b": no end")])
    assert native(spoilt) == [], "broken, and refused"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(HERE / "forms.jsonl")]) == 0
    shown = capsys.readouterr().out
    assert "native responses     4/4" in shown
    assert main([str(HERE / "lines.jsonl")]) == 0
    assert "as messages" in capsys.readouterr().out


def test_a_lost_call_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.forms.in_order.InOrder._piece", lambda self, piece: None)
    for form in FORMS.values():
        assert any("calls" in fault for fault in translated(CHATS["openai-tools"], form) or ())
