"""Spoilt answers: refused where nothing whole came, read where only the writing differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.assemble import DIALECTS
from tests.replay.__main__ import main
from tests.replay.harm import harmed
from tests.replay.judge import Mark, judge
from tests.replay.recording import Recording, read

LINES = Path(__file__).with_name("lines.jsonl")
READ = {"crlf", "cr", "comments", "spaceless", "trimmed", "endless"}
"""The same answer, written otherwise."""


def line(id: str) -> Recording:
    return next(recording for recording in read(LINES) if recording.id == id)


@pytest.mark.parametrize(
    "id", ["openai-text", "openai-tools", "anthropic-stream", "bedrock-stream", "cohere-stream", "mistral-thinking"]
)
def test_every_harm_is_seen(id: str) -> None:
    recording = line(id)
    if recording.dialect not in DIALECTS:
        pytest.skip(f"no dialect {recording.dialect}")
    for spoilt in harmed(recording):
        verdict = judge(spoilt)
        assert verdict.mark in (Mark.PASSED, Mark.REFUSED), (spoilt.id, verdict.reasons)
        if spoilt.kinds[0] in READ:
            assert verdict.mark is Mark.PASSED, spoilt.id
        elif spoilt.kinds[0] != "cut":
            assert verdict.mark is Mark.REFUSED, spoilt.id


def test_harms_differ_and_stay_the_same() -> None:
    recording = line("openai-tools")
    spoilt = list(harmed(recording))
    assert recording.body not in [one.body for one in spoilt]
    assert spoilt == list(harmed(recording))
    assert {one.kinds[0] for one in spoilt} >= {*READ, "cut", "garbage", "error"}


def test_a_stream_without_a_whole_answer_is_refused() -> None:
    spoilt = {one.id.partition("#")[2]: one for one in harmed(line("openai-tools"))}
    assert judge(spoilt["cut-1"]).mark is Mark.REFUSED
    assert judge(spoilt["cut-in-1"]).mark is Mark.REFUSED
    assert judge(spoilt["cut-6"]).mark is Mark.PASSED  # all but the end marker


def test_the_command_judges_harm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(LINES), "--provider", "openai", "--kind", "text", "--harm"]) == 0
    assert "html" in capsys.readouterr().out
