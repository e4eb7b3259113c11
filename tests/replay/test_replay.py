"""The replay itself: it reads what recordings say, passes what is right and fails what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from policies.verdict import Kind
from proxy.assemble import DIALECTS
from proxy.errors import UpstreamError
from tests.replay import drive
from tests.replay.__main__ import main, table
from tests.replay.answer import Answer, Call, Choice, Tokens, differences
from tests.replay.extract import extract
from tests.replay.extract.openai import read_stream
from tests.replay.frames import Broken, Event, events, json_array, messages
from tests.replay.judge import Mark, judge
from tests.replay.recording import Recording, parse, read

LINES = Path(__file__).parent / "lines.jsonl"
WEIGH = Call("weigh", '{"kg": 7}')
TARE = Call("tare", "")

SAY = {
    "openai-text": Answer({0: Choice("Grüß dich", finish="stop")}, Tokens(9, 4, 2, 0, 1)),
    "openai-tools": Answer({0: Choice(calls=[WEIGH, TARE], finish="tool_calls")}, Tokens(9, 4, 2, 0, 1)),
    "anthropic-stream": Answer(
        {0: Choice(reasoning="Weigh it.", calls=[WEIGH, TARE], finish="tool_calls")}, Tokens(28, 30, 20, 3, 8)
    ),
    "gemini-stream": Answer(
        {0: Choice("I weigh.", "Hm.", calls=[WEIGH, TARE], finish="tool_calls")}, Tokens(12, 10, 10, 0, 6)
    ),
    "bedrock-stream": Answer({0: Choice("On it.", calls=[WEIGH], finish="tool_calls")}, Tokens(16, 6, 10, 2, 0)),
    "cohere-stream": Answer({0: Choice(calls=[WEIGH], finish="tool_calls")}, Tokens(40, 9, 16, 0, 0)),
    "mistral-thinking": Answer({0: Choice("Four.", "Two and two.", finish="length")}, Tokens(8, 6)),
}


def line(id: str) -> Recording:
    return next(recording for recording in read(LINES) if recording.id == id)


@pytest.mark.parametrize("id", SAY)
def test_a_recording_is_read_rightly(id: str) -> None:
    said = extract(line(id), verbatim=False)
    assert list(differences(SAY[id], said)) == []


@pytest.mark.parametrize("id", [*SAY, "openai-error"])
def test_a_dialect_passes(id: str) -> None:
    recording = line(id)
    if recording.dialect not in DIALECTS:
        pytest.skip(f"no dialect {recording.dialect}")
    verdict = judge(recording)
    assert (verdict.mark, verdict.reasons) == (Mark.PASSED, ())


def test_a_cut_recording_must_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = line("openai-cut")
    with pytest.raises(Broken):
        extract(recording, verbatim=False)
    assert judge(recording).mark is Mark.REFUSED
    monkeypatch.setattr(drive, "decode", lambda *_: None)
    assert judge(recording).mark is Mark.FAILED


def _told(recording: Recording) -> drive.Told:
    return drive.decode(recording, [recording.body])


def _replaced(old: bytes, new: bytes, count: int = -1) -> Callable[[drive.Told], drive.Told]:
    def change(told: drive.Told) -> drive.Told:
        assert old in told.with_usage
        changed = told.with_usage.replace(old, new, count)
        return told._replace(with_usage=changed, without_usage=changed)

    return change


CALL_1 = b'{"index":1,"id":"call_b","type":"function","function":{"name":"tare","arguments":"{}"}}'
SPOILT = {
    "a call lost": ("openai-tools", _replaced(b'"tool_calls":[' + CALL_1 + b"]", b"")),
    "arguments changed": ("openai-tools", _replaced(b"7}", b"8}")),
    "a gap in the numbers": ("openai-tools", _replaced(b'"index":1', b'"index":2')),
    "no role": ("openai-tools", _replaced(b'"role":"assistant",', b"")),
    "no finish reason": ("openai-tools", _replaced(b'"finish_reason":"tool_calls"', b'"finish_reason":null')),
    "a wrong finish reason": ("openai-tools", _replaced(b'"finish_reason":"tool_calls"', b'"finish_reason":"stop"')),
    "no such finish reason": ("openai-text", _replaced(b'"finish_reason":"stop"', b'"finish_reason":"eos"')),
    "another id": ("openai-tools", _replaced(b"chatcmpl-1", b"chatcmpl-2", 1)),
    "two ends": ("openai-tools", _replaced(b"data: [DONE]\n\n", b"data: [DONE]\n\ndata: [DONE]\n\n")),
    "no end": ("openai-tools", _replaced(b"data: [DONE]\n\n", b"")),
    "text changed": ("openai-text", _replaced("ü".encode(), b"u")),
    "a wrong total": ("openai-text", _replaced(b'"total_tokens":13', b'"total_tokens":14')),
    "more cached than sent": ("openai-text", _replaced(b'"cached_tokens":2', b'"cached_tokens":20')),
    "usage not taken out": ("openai-tools", lambda told: told._replace(without_usage=told.with_usage)),
    "a fact not recorded": ("openai-text", lambda told: told._replace(finish_reason=None)),
    "usage not recorded": ("openai-text", lambda told: told._replace(usage=None)),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_answer_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    id, spoil = SPOILT[name]
    recording = line(id)
    spoilt = spoil(_told(recording))
    monkeypatch.setattr(drive, "decode", lambda *_: spoilt)
    assert judge(recording).mark is Mark.FAILED


def test_a_result_that_depends_on_the_cuts_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = line("openai-tools")
    whole = _told(recording)

    def decode(_: Recording, pieces: list[bytes]) -> drive.Told:
        return whole if len(pieces) == 1 else whole._replace(with_usage=whole.with_usage[:-1])

    monkeypatch.setattr(drive, "decode", decode)
    verdict = judge(recording)
    assert verdict.reasons[0] == "byte by byte: another result than whole"


def test_a_refused_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise UpstreamError(Kind.MALFORMED, "decoder", "no")

    monkeypatch.setattr(drive, "decode", decode)
    assert judge(line("openai-text")).mark is Mark.FAILED


def test_the_pieces_are_the_bytes() -> None:
    recording = line("openai-tools")
    ways = dict(drive.cuts(recording))
    assert len(ways) == 4
    assert all(b"".join(pieces) == recording.body for pieces in ways.values())
    assert ways == dict(drive.cuts(recording))


def test_frames_are_checked() -> None:
    raw = line("bedrock-stream").body
    assert messages(raw)[0][0][":event-type"] == "messageStart"
    with pytest.raises(Broken, match="cut"):
        messages(raw[:-1])
    with pytest.raises(Broken, match="sum"):
        messages(raw[:40] + b"\x00" + raw[41:])


def test_events_are_read_by_the_standard() -> None:
    raw = b": hello\r\n\r\nevent: a\r\ndata:1\r\ndata: 2\r\n\r\ndata: 3\n\nid: 9\n\ndata: cut"
    assert events(raw) == [Event("a", "1\n2"), Event("", "3"), Event("", "cut", terminated=False)]
    assert json_array('[{"a": 1}, {"b": 2}]') == [{"a": 1}, {"b": 2}]
    assert json_array('data: {"a": 1}\n\n') is None


def test_calls_that_share_an_index_are_told_apart_by_id() -> None:
    def piece(**call: object) -> bytes:
        chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}
        return b"data: %s\n\n" % json.dumps(chunk).encode()

    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    raw = (
        piece(index=0, id="a", function={"name": "weigh", "arguments": '{"kg": 7}'})
        + piece(index=0, id="b", function={"name": "tare", "arguments": ""})
        + piece(index=0, function={"arguments": "{}"})
        + end
    )
    choice = read_stream(raw).choices[0]
    assert [(call.name, call.parsed) for call in choice.calls] == [("weigh", {"kg": 7}), ("tare", {})]
    assert choice.finish == "tool_calls"


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(LINES), "--provider", "openai"]) == 0
    shown = capsys.readouterr().out
    assert "openai    4/4" in shown
    assert "refused rightly  openai-cut: a stream without a finish reason" in shown
    assert "not chats: embeddings 1" in shown
    assert main([str(LINES), "--show", "openai-text"]) == 0
    assert "Grüß dich" in capsys.readouterr().out
    assert main([str(LINES), "--kind", "nothing"]) == 2
    (tmp_path / "bad.jsonl").write_text('{"id": "x"}\n')
    assert main([str(tmp_path)]) == 2
    assert "bad.jsonl line 1" in capsys.readouterr().err


def test_a_failure_is_told_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.providers.passing.is_sound_body", lambda body: True)
    spoilt = json.loads(LINES.read_text(encoding="utf-8").splitlines()[0])
    spoilt["response"]["body"]["service_tier"] = "secret"
    (tmp_path / "one.jsonl").write_text(json.dumps(spoilt))
    assert main([str(tmp_path), "--failures"]) == 1
    shown = capsys.readouterr().out
    assert "0/1" in shown
    assert "FAILED  openai-text [text]: service_tier" in shown


def test_a_dialect_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(DIALECTS, "openai")
    verdict = judge(line("openai-text"))
    assert verdict.mark is Mark.ABSENT
    assert "openai: not there (1 recordings)" in table([verdict])


def test_a_line_needs_an_answer() -> None:
    with pytest.raises(KeyError):
        parse({"id": "x", "provider": "openai", "api": "chat"})
