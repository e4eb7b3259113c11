"""One member of an answer taken out or replaced by junk: the answer is refused, or what is sent keeps OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from proxy.errors import UpstreamError
from tests.replay import drive, output
from tests.replay.recording import Recording, read

LINES = [one for one in read(Path(__file__).parent / "lines.jsonl") if one.mapped and one.status == 200]
JUNK: list[Any] = [None, "", 0, -1, [], {}, "x", 1.5, True, [None], {"a": None}, 10**20]
TIMES = 12


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*place, key)
        yield from _places(one, (*place, key))


def _spoilt(value: Any, rng: Random) -> Any:
    value = deepcopy(value)
    *outer, last = rng.choice(list(_places(value)))
    held = value
    for key in outer:
        held = held[key]
    if rng.random() < 0.3:
        del held[last]
    else:
        held[last] = rng.choice(JUNK)
    return value


def _spoilt_answer(recording: Recording, rng: Random) -> bytes | None:
    """None where there is nothing to spoil: the event that was drawn holds no JSON object."""
    if not recording.stream:
        try:
            body = json.loads(recording.body)
        except ValueError:
            return None
        return json.dumps(_spoilt(body, rng)).encode() if body else None
    lines = recording.body.split(b"\n")
    at = rng.choice([place for place, line in enumerate(lines) if line.startswith(b"data:")])
    try:
        body = json.loads(lines[at][5:])
    except ValueError:
        return None
    lines[at] = b"data: " + json.dumps(_spoilt(body, rng)).encode()
    return b"\n".join(lines)


@pytest.mark.parametrize("recording", LINES, ids=lambda one: one.id)
def test_junk_never_reaches_a_client(recording: Recording) -> None:
    if recording.family == "bedrock" and recording.stream:
        pytest.skip("a binary stream: its frames are spoilt by harm.py")
    rng = Random(recording.id)
    for _ in range(TIMES):
        body = _spoilt_answer(recording, rng)
        if body is None:
            continue
        spoilt = replace(recording, body=body)
        try:
            told = drive.decode(spoilt, [body])
        except UpstreamError:
            continue
        (output.stream if recording.stream else output.body)(told.with_usage, drive.endpoint(recording).verbatim)
