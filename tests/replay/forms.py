"""`python -m tests.replay.forms FOLDER`: recorded answers through the other doors than chat's.

Two questions. *Native*: recordings of Responses, completions, embeddings and Anthropic's Messages, as if their very
client had come to us: does the request reach the upstream unchanged, do the bytes of the answer pass, are the facts for
the record right? *Translated*: every recorded chat of every dialect, as an answer in the form of Messages and of
Responses: does it keep its text, reasoning, calls, finish and usage, and is it what the official SDKs' types demand?
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anthropic.types import Message, RawMessageStreamEvent
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter, ValidationError

from proxy.assemble import DIALECTS
from proxy.errors import UpstreamError
from proxy.forms.completions import CompletionsRequest
from proxy.forms.messages import MessagesRequest
from proxy.forms.messages_answer import MessagesWriter
from proxy.forms.plain import EmbeddingsRequest
from proxy.forms.responses import ResponsesRequest
from proxy.forms.responses_answer import ResponsesWriter
from proxy.providers.base import Endpoint
from proxy.wire.chunk import Chunk, Usage
from proxy.wire.request import Request, Writer
from tests.replay import drive
from tests.replay.answer import Answer, Tokens, differences
from tests.replay.extract import anthropic, extract, openai, responses
from tests.replay.frames import Broken, events, json_body
from tests.replay.recording import Recording, read

NATIVE: dict[str, type[Request]] = {
    "responses": ResponsesRequest,
    "completions": CompletionsRequest,
    "embeddings": EmbeddingsRequest,
    "messages": MessagesRequest,
}


class Form(NamedTuple):
    writer: Callable[[], Writer]
    whole: type[BaseModel]
    event: TypeAdapter[Any]
    read_body: Callable[[bytes], Answer]
    read_stream: Callable[[bytes], Answer]
    last: str


FORMS = {
    "messages": Form(
        lambda: MessagesWriter("chatcmpl-1"),
        Message,
        TypeAdapter(RawMessageStreamEvent),
        anthropic.read_body,
        anthropic.read_stream,
        "message_stop",
    ),
    "responses": Form(
        lambda: ResponsesWriter("chatcmpl-1", {}),
        Response,
        TypeAdapter(ResponseStreamEvent),
        responses.read_body,
        responses.read_stream,
        "response.completed",
    ),
}


def native(recording: Recording) -> list[str] | None:
    """What is wrong; None where there is nothing to judge. A recording that is broken must be refused."""
    operation = recording.api
    speaker = getattr(DIALECTS.get(recording.dialect), "natives", {}).get(operation)
    if operation not in NATIVE or speaker is None or recording.status != 200:
        return None
    if not recording.request or (operation == "embeddings" and "input" not in recording.request):
        return None  # asked in a form of the provider's own
    sent = {"model": recording.model or "model", **recording.request}
    ask = NATIVE[operation].parse(json.dumps(sent).encode())
    to = Endpoint(recording.provider, "http://127.0.0.1:1", "another")
    faults = []
    if json.loads(speaker.build(ask, to).body) != {**sent, "model": "another", **_asked_by_us(ask)}:
        faults.append("the request did not go through as it came")
    ask.stream = recording.stream
    ways = [("whole", [recording.body]), *drive.cuts(recording)]
    try:
        expected = _said(recording)
    except Broken as broken:
        return (
            [f"broken ({broken}), but taken for an answer"]
            if _decoded(speaker, ask, to, ways[0][1], recording.cut)
            else []
        )
    for name, pieces in ways:
        decoded = _decoded(speaker, ask, to, pieces, recording.cut)
        if decoded is None:
            faults.append(f"{name}: refused")
            continue
        raw, finish, usage = decoded
        if not recording.body.strip().startswith(raw.strip()) or not raw:
            faults.append(f"{name}: the bytes are not those that came")
        if expected is not None:
            if finish != expected.choices[0].finish:
                faults.append(f"{name}: recorded finish {finish!r} instead of {expected.choices[0].finish!r}")
            if _tokens(usage) != expected.usage:
                faults.append(f"{name}: recorded usage {_tokens(usage)} instead of {expected.usage}")
        elif usage is None and b'"prompt_tokens"' in recording.body:
            faults.append(f"{name}: no usage recorded")
    return faults


def _asked_by_us(ask: Request) -> dict[str, Any]:
    """Usage in the stream of a completion, where the client did not ask."""
    if ask.stream and ask.operation == "completions" and not ask.wants_usage:
        return {"stream_options": {**(ask.body.get("stream_options") or {}), "include_usage": True}}
    return {}


def _said(recording: Recording) -> Answer | None:
    raw, stream = recording.body, recording.stream
    if recording.api == "responses":
        return responses.read_stream(raw) if stream else responses.read_body(raw)
    if recording.api == "messages":
        return anthropic.read_stream(raw) if stream else anthropic.read_body(raw)
    if recording.api == "completions" and not stream:
        body = json_body(raw)
        if not body.get("choices"):
            raise Broken("no choices")
        answer = Answer(usage=openai.tokens(body.get("usage")))
        answer.choice(0).finish = body["choices"][0].get("finish_reason")
        return answer
    return None


def _decoded(
    speaker: Any, ask: Request, to: Endpoint, pieces: Sequence[bytes], cut: bool
) -> tuple[bytes, str | None, Usage | None] | None:
    decoder = speaker.decoder(ask, to, drive.MINTED)
    chunks: list[Chunk] = []
    try:
        for piece in pieces:
            chunks += decoder.feed(piece)
            if decoder.ended:
                break
        if not decoder.ended:
            chunks += decoder.close(cut)
    except UpstreamError:
        return None
    return b"".join(chunk.raw for chunk in chunks), decoder.finish_reason, decoder.usage


def translated(recording: Recording, form: Form) -> list[str] | None:
    """What is wrong with the answer in another form; None for what is no whole chat."""
    if not recording.mapped or recording.dialect not in DIALECTS or recording.status != 200:
        return None
    if recording.choices_asked > 1:
        return None  # these forms have one answer
    try:
        expected = extract(recording, verbatim=False)
        told = _written(recording, form, [recording.body])
    except (Broken, UpstreamError, KeyError, TypeError, AttributeError, IndexError):
        return None  # judged by `tests.replay`
    faults = [*_typed(told, form, recording.stream)]
    got = (form.read_stream if recording.stream else form.read_body)(told)
    faults += _changed(expected, got)
    for name, pieces in drive.cuts(recording):
        again = _written(recording, form, pieces)
        once_more = (form.read_stream if recording.stream else form.read_body)(again)
        faults += [f"{name}: {one}" for one in differences(got, once_more)]
    return faults


def _written(recording: Recording, form: Form, pieces: Sequence[bytes]) -> bytes:
    decoder = DIALECTS[recording.dialect].decoder(drive.ask(recording), drive.endpoint(recording), drive.MINTED)
    writer = form.writer()
    out: list[bytes] = []
    held: list[Chunk] = []
    for piece in pieces:
        held = decoder.feed(piece)
        if recording.stream and held:
            out.append(writer.stream(held))
        if decoder.ended:
            break
    if not decoder.ended:
        held = decoder.close(recording.cut)
        if recording.stream:
            out.append(writer.stream(held))
    return b"".join(out) if recording.stream else writer.whole(held[0])


def _typed(told: bytes, form: Form, stream: bool) -> Iterator[str]:
    try:
        if not stream:
            form.whole.model_validate_json(told, strict=True)
            return
        for event in events(told):
            form.event.validate_json(event.data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        yield f"not of the SDK's types: {first['loc']} {first['msg']}"


def _changed(expected: Answer, got: Answer) -> Iterator[str]:
    """These forms have refusals as text (Messages) and no reasoning but in a summary; all else must be the same."""
    want, have = expected.choices[0], got.choices[0]
    if want.text + want.refusal != have.text + have.refusal:
        yield "text changed"
    if have.reasoning not in (want.reasoning, want.or_reasoning):
        yield "reasoning changed"
    if [(call.name, _object(call.parsed)) for call in want.calls] != [
        (call.name, _object(call.parsed)) for call in have.calls
    ]:
        yield f"calls {have.calls} instead of {want.calls}"
    finish = {"function_call": "tool_calls"}.get(want.finish or "", want.finish)
    if finish == "stop" and want.calls:
        finish = "tool_calls"
    if have.finish != finish:
        yield f"finish {have.finish} instead of {finish}"
    if expected.usage is not None and got.usage != expected.usage:
        yield f"usage {got.usage} instead of {expected.usage}"


def _object(arguments: Any) -> Any:
    """What is no object is wrapped in one, where the form wants one."""
    return arguments["arguments"] if isinstance(arguments, dict) and set(arguments) == {"arguments"} else arguments


def _tokens(usage: Usage | None) -> Tokens | None:
    if usage is None:
        return None
    return Tokens(usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.replay.forms", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of *.jsonl files, or one such file")
    options = parser.parse_args(argv)
    counts: dict[str, Counter[bool]] = {}
    for recording in read(options.folder):
        verdicts = {f"native {recording.api}": native(recording)}
        verdicts |= {f"as {name}": translated(recording, form) for name, form in FORMS.items()}
        for name, faults in verdicts.items():
            if faults is not None:
                counts.setdefault(name, Counter())[not faults] += 1
                for fault in faults:
                    print(f"FAILED  {recording.id} {name}: {fault}")
    for name in sorted(counts):
        print(f"{name:20} {counts[name][True]}/{counts[name].total()}")
    return 1 if any(count[False] for count in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
