"""One recording, judged: passed, refused rightly, failed and why, or not ours to judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from proxy.assemble import DIALECTS
from proxy.errors import UpstreamError
from proxy.wire.chunk import Usage
from proxy.wire.render import END
from tests.replay import drive, failing, output
from tests.replay.answer import Answer, Tokens, differences
from tests.replay.extract import extract
from tests.replay.frames import Broken, events
from tests.replay.recording import Recording


class Mark(StrEnum):
    PASSED = "passed"
    REFUSED = "refused"
    """The recording is broken, and the proxy refused it: that is right."""
    FAILED = "failed"
    ABSENT = "not there"
    """The proxy has no such dialect yet."""
    UNMAPPED = "not a chat"


class Verdict(NamedTuple):
    recording: Recording
    mark: Mark
    reasons: tuple[str, ...] = ()


def judge(recording: Recording) -> Verdict:
    if not recording.mapped:
        return Verdict(recording, Mark.UNMAPPED)
    if recording.dialect not in DIALECTS:
        return Verdict(recording, Mark.ABSENT)
    if recording.status != 200:
        reasons = tuple(failing.faults(recording, *drive.complaint(recording)))
        return Verdict(recording, Mark.FAILED if reasons else Mark.PASSED, reasons)
    verbatim = drive.endpoint(recording).verbatim and recording.dialect == "openai" and _keeps_form(recording)
    try:
        expected = extract(recording, verbatim)
    except Broken as broken:
        return _broken(recording, str(broken))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        return _broken(recording, f"not in its provider's form: {error!r}")
    try:
        told = drive.decode(recording, [recording.body])
    except UpstreamError as error:
        if expected.may_refuse:
            return Verdict(recording, Mark.REFUSED, (expected.may_refuse,))
        return Verdict(recording, Mark.FAILED, (f"refused: {error}",))
    except Exception as error:
        return Verdict(recording, Mark.FAILED, (f"the decoder fell over: {error!r}",))
    reasons = tuple(_faults(recording, expected, told, verbatim))
    return Verdict(recording, Mark.FAILED if reasons else Mark.PASSED, reasons)


def _keeps_form(recording: Recording) -> bool:
    """The answer, as it came, could be OpenAI's own: only then is it passed on byte for byte."""
    raw = recording.body if b"[DONE]" in recording.body or not recording.stream else recording.body + END
    try:
        told = (output.stream if recording.stream else output.body)(raw, True)
    except (output.Wrong, Broken, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return False
    if b'"reasoning_content"' not in raw and any(one.reasoning for one in told.choices.values()):
        return False  # reasoning under another name
    choices = told.choices.values()
    if any(one.calls and one.finish == "stop" for one in choices):
        return False
    return all(call.arguments.strip() or one.finish == "length" for one in choices for call in one.calls)


def _broken(recording: Recording, why: str) -> Verdict:
    try:
        drive.decode(recording, [recording.body])
    except UpstreamError:
        return Verdict(recording, Mark.REFUSED, (why,))
    except Exception as error:
        return Verdict(recording, Mark.FAILED, (f"broken ({why}), and the decoder fell over: {error!r}",))
    return Verdict(recording, Mark.FAILED, (f"broken ({why}), but taken for an answer",))


def _faults(recording: Recording, expected: Answer, told: drive.Told, verbatim: bool) -> Iterator[str]:
    try:
        read = output.stream if recording.stream else output.body
        got = read(told.with_usage, verbatim)
    except output.Wrong as wrong:
        yield str(wrong)
    else:
        yield from differences(expected, got)
    yield from _fact_faults(expected, told)
    for name, pieces in drive.cuts(recording):
        try:
            again = drive.decode(recording, pieces)
        except UpstreamError as error:
            yield f"{name}: refused: {error}"
        else:
            if again != told and (verbatim or not recording.stream or _meaning(again) != _meaning(told)):
                yield f"{name}: another result than whole"
    if verbatim:
        yield from _verbatim_faults(recording, told)
    if recording.stream and any(
        '"usage"' in event.data and "usage" in json.loads(event.data) for event in events(told.without_usage)
    ):
        yield "usage is left where nobody asked for it"


def _fact_faults(expected: Answer, told: drive.Told) -> Iterator[str]:
    """What the record is made of: the same facts, with tokens in classes that do not overlap."""
    first = expected.choices[min(expected.choices)]
    if told.finish_reason != first.finish:
        yield f"recorded finish reason {told.finish_reason!r} instead of {first.finish!r}"
    if expected.model and told.model != expected.model:
        yield f"recorded model {told.model!r} instead of {expected.model!r}"
    usage = told.usage
    if (usage is None) != (expected.usage is None):
        yield f"recorded usage {usage} instead of {expected.usage}"
    elif usage is not None and expected.usage is not None:
        if any(isinstance(value, int) and value < 0 for value in usage):
            yield f"recorded usage with a negative class: {usage}"
        if _totals(usage) != expected.usage:
            yield f"recorded usage {_totals(usage)} instead of {expected.usage}"


def _meaning(told: drive.Told) -> tuple[object, ...]:
    """A stream without its comments and blank lines, which may fall together differently."""
    return events(told.with_usage), events(told.without_usage), told[2:]


def _totals(usage: Usage) -> Tokens:
    return Tokens(usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning)


def _verbatim_faults(recording: Recording, told: drive.Told) -> Iterator[str]:
    """Bytes from an upstream that speaks OpenAI's form reach the client as they came."""
    sent = told.with_usage.strip() if b"[DONE]" in recording.body else told.with_usage.removesuffix(END).strip()
    if not sent or not recording.body.strip().startswith(sent):
        yield "the bytes are not those that came"
    if recording.stream:
        if b'"usage"' not in recording.body and told.without_usage != told.with_usage:
            yield "bytes changed where there was no usage to take out"
        kept = [event.data for event in events(told.without_usage)]
        wanted = list(output.without_usage(told.with_usage))
        if [one if one == "[DONE]" else json.loads(one) for one in kept] != wanted:
            yield "more or less than usage was taken out"
