"""A stream of chunks that is nearly OpenAI's, rewritten into OpenAI's strict shape."""

from __future__ import annotations

from typing import Any

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers import tidy
from proxy.providers.base import Endpoint, Minted
from proxy.providers.citations import citations_of
from proxy.providers.errors import error_in, is_error, told_in_answer
from proxy.providers.frame import malformed
from proxy.providers.sound import SoundStream
from proxy.providers.strict_calls import MEMBERS, Call, failed, is_whole, own_id, owner
from proxy.wire.chunk import COMMENT, CONTENT, DONE, FINISH, META, USAGE, Chunk, Json, Usage
from proxy.wire.render import END
from proxy.wire.sse import EventSplitter, EventTooLarge, comments, event_name, payload


class _Choice:
    """What has been said of one choice."""

    __slots__ = ("begun", "blank", "calls", "closed", "counts", "legacy", "reason", "text")

    def __init__(self) -> None:
        self.begun = False
        self.closed = False
        """Its finish reason was sent."""
        self.blank = False
        """An empty finish reason was seen: at the marked end it counts as one."""
        self.reason: str | None = None
        self.text: list[str] = []
        self.calls: list[Call] = []
        self.legacy = False
        self.counts: dict[str, int] = {}


class StrictStream:
    """Rewrites a stream chunk by chunk. Finish reasons and usage wait for the end: what follows them is not lost."""

    def __init__(self, n: int, to: Endpoint, minted: Minted) -> None:
        self._events = EventSplitter()
        self._n = n
        self._to = to
        self._minted = minted
        self._fixed: Json | None = None
        self._waiting: Json = {}
        self._choices: dict[int, _Choice] = {}
        self._told_usage: Json | None = None
        self._tier: object = None
        self._counted = False
        """Usage was sent."""
        self._sources: Json = {}
        self._out: list[Chunk] = []
        self.ended = False
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.pending: list[Chunk] = []

    def go_on(self, told: SoundStream) -> None:
        """Takes over a stream of which a part was passed on as it came."""
        if told.id is not None:
            self._fixed = {
                "id": told.id,
                "object": "chat.completion.chunk",
                "created": told.created,
                "model": told.model,
            }
        self._counted = told.counted
        for index, spoken in told.choices.items():
            one = self._choices[index] = _Choice()
            one.begun, one.reason, one.closed = True, spoken.reason, spoken.reason is not None
            one.text += ["…"] if spoken.text else []
            for number, (id, name) in enumerate(spoken.calls):
                call = Call(number, id, name)
                call.told, call.arguments = True, "" if number in spoken.bare else "…"
                one.calls.append(call)

    def feed(self, data: bytes) -> list[Chunk]:
        try:
            for event in self._events.feed(data):
                if self.ended:
                    break
                self.event(event)
        except EventTooLarge as error:
            self.pending = self.take()
            raise malformed(str(error)) from error
        except UpstreamError:
            self.pending = self.take()
            raise
        return self.take()

    def close(self, cut: bool = False) -> list[Chunk]:
        rest = self._events.rest()
        if not self.ended and not cut and rest.strip():
            if rest.lstrip().startswith(b"{"):
                raise told_in_answer(error_in(rest), "JSON in place of an event stream")
            self.event(rest.rstrip(b"\r\n") + b"\n\n")
        if not self.ended:
            whole = [one for one in self._choices.values() if one.reason is not None]
            if len(whole) < max(self._n, len(self._choices)):
                raise UpstreamError(Kind.TRUNCATED, "decoder", "the stream ended without a finish reason", status=200)
            self._end()
        return self.take()

    def take(self) -> list[Chunk]:
        out, self._out = self._out, []
        return out

    def event(self, event: bytes) -> None:
        """One whole event; what is to be sent for it waits in `take`."""
        data = payload(event)
        if not data.strip():
            if not data and (told := comments(event)):
                self._out.append(Chunk(COMMENT, told))
            return
        if data.strip() == b"[DONE]":
            for one in self._choices.values():
                if one.reason is None and one.blank:
                    one.reason = ""
            if not self._choices or any(one.reason is None for one in self._choices.values()):
                raise UpstreamError(Kind.TRUNCATED, "decoder", "[DONE] came before a finish reason", status=200)
            self._end()
            return
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise malformed(f"an event is not JSON: {error}") from error
        if type(body) is not dict:
            raise malformed("an event is not a JSON object")
        groq = body.get("x_groq")
        failed = body.get("error") or (type(groq) is dict and groq.get("error"))
        if event_name(event) == b"error" or failed or (body.get("choices") is None and is_error(body)):
            raise told_in_answer(error_in(data), "an error inside the stream")
        self._read(body)

    def _read(self, body: Json) -> None:
        if self.model is None and type(body.get("model")) is str:
            self.model = body["model"] or None
        counted = tidy.usage_in(body)
        if counted is not None:
            self._told_usage = counted
        self._tier = body.get("service_tier") or self._tier
        more = tidy.head(body)
        if self._to.quirks.citations:
            self._sources.update({name: more[name] for name in ("citations", "search_results") if name in more})
        choices = body.get("choices")
        if choices is not None and type(choices) is not list:
            raise malformed("`choices` is not an array")
        if not choices:
            self._waiting.update(more)
            return
        if self._fixed is None:
            self._fixed = {
                "id": body.get("id") if type(body.get("id")) is str and body["id"] else self._minted.id,
                "object": "chat.completion.chunk",
                "created": tidy.created(body) or self._minted.created,
                "model": self.model or self._to.model,
            }
        written = [one for place, choice in enumerate(choices) for one in self._choice(place, choice)]
        if written:
            self._write(CONTENT if any(_says(one["delta"]) for one in written) else META, written, more)
        else:
            self._waiting.update(more)

    def _choice(self, place: int, told: object) -> list[Json]:
        """The choice as it is sent on; nothing where it says nothing new."""
        if type(told) is not dict:
            raise malformed("a choice is not an object")
        index = told.get("index")
        index = index if type(index) is int else place
        one = self._choices.setdefault(index, _Choice())
        if one.closed:
            return []
        reason = told.get("finish_reason")
        if type(reason) is str and reason in tidy.FAILED:
            raise failed(told, reason)
        if one.reason is None and reason:
            one.reason = str(reason)
        one.blank = one.blank or reason == ""
        source = told.get("delta")
        if source is None and not one.text:
            source = told.get("message")  # a whole answer in one event
        delta = self._delta(one, source if type(source) is dict else {})
        shown: Json = {"index": index, "delta": delta, "logprobs": tidy.logprobs(told.get("logprobs"))}
        shown["finish_reason"] = None
        for key, value in told.items():
            if key not in shown and key not in ("message", "usage") and value is not None:
                shown[key] = value
        if not one.begun:
            one.begun = True
            shown["delta"] = {"role": "assistant", "content": "", **delta}
        elif not delta and shown["logprobs"] is None and len(shown) == 4:
            return []
        return [shown]

    def _delta(self, one: _Choice, source: Json) -> Json:
        delta: Json = {}
        text, reasoning = tidy.texts(source)
        if text:
            delta["content"] = text
            if self._to.quirks.citations or not one.text:
                one.text.append(text)
        if reasoning:
            delta["reasoning_content"] = reasoning
        if type(source.get("refusal")) is str and source["refusal"]:
            delta["refusal"] = source["refusal"]
        calls = [piece for told in tidy.calls_in(source) for piece in self._piece(one, told)]
        if calls:
            delta["tool_calls"] = calls
        for key, value in tidy.extras(source).items():
            delta[key] = _numbered(one, key, value)
        one.legacy = one.legacy or "function_call" in delta
        return delta

    def _piece(self, one: _Choice, told: Json) -> list[Json]:
        """A piece belongs to the call with its index; a new id under a known index, or none at all, begins a call."""
        index = told.get("index")
        id = told["id"] if type(told.get("id")) is str else ""
        name, arguments = tidy.function(told)
        call = owner(one.calls, index, id, name)
        if call is None:
            call = Call(index, id, name)
            one.calls.append(call)
        call.id = call.id or id
        call.name = call.name or name
        call.arguments += arguments
        number = one.calls.index(call)
        if call.told:
            return [{"index": number, "function": {"arguments": arguments}}] if arguments else []
        if not call.name:
            return []
        call.told = True
        call.id = own_id(one.calls, number, self._minted)
        begun = {"name": call.name, "arguments": call.arguments}
        kept = {key: value for key, value in told.items() if key not in MEMBERS and value is not None}
        return [{"index": number, "id": call.id, "type": "function", "function": begun, **kept}]

    def _end(self) -> None:
        """Everything that waited: empty arguments, finish reasons, usage, the end marker."""
        for index in sorted(self._choices):
            one = self._choices[index]
            if one.closed:
                self.finish_reason = self.finish_reason or one.reason
                continue
            reason = tidy.finish(one.reason or "stop", bool(one.calls))
            if reason == "tool_calls" and not one.calls and one.legacy:
                reason = "function_call"
            last = self._last(one, reason)
            if last:
                self._write(CONTENT, [{"index": index, "delta": last, "logprobs": None, "finish_reason": None}], {})
            self._write(FINISH, [{"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}], {})
            if self.finish_reason is None:
                self.finish_reason = reason
        told = None if self._counted else self._told_usage
        counted = tidy.usage(told, self._to.quirks, self._tier) if told else None
        if counted is not None:
            self.usage = counted[0]
            self._write(USAGE, [], {}, counted[1])
        self.ended = True
        self._out.append(Chunk(DONE, END))

    def _last(self, one: _Choice, reason: str) -> Json:
        one.calls = [call for call in one.calls if call.told or is_whole(call)]
        empty = [n for n, call in enumerate(one.calls) if not call.arguments.strip() and reason != "length"]
        last: Json = {}
        if empty:
            last["tool_calls"] = [{"index": number, "function": {"arguments": "{}"}} for number in empty]
        if self._sources:
            noted = citations_of("".join(one.text), self._sources)
            if noted:
                last["annotations"] = _numbered(one, "annotations", noted)
        return last

    def _write(self, kind: int, choices: list[Json], more: Json, usage: Json | None = None) -> None:
        body = {**(self._fixed or {}), "choices": choices, **self._waiting, **more}
        self._waiting = {}
        if usage is not None:
            body["usage"] = usage
        self._out.append(Chunk(kind, b"data: %b\n\n" % orjson.dumps(body), body, usage is not None))


def _says(delta: Json) -> bool:
    return any(value and key != "role" for key, value in delta.items())


def _numbered(one: _Choice, name: str, value: Any) -> Any:
    """Objects in a list carry an `index`, by which official SDKs put the deltas of a stream together."""
    if type(value) is not list or not all(type(entry) is dict for entry in value):
        return value
    numbered = []
    for entry in value:
        count = one.counts.get(name, 0)
        one.counts[name] = count + 1
        numbered.append(entry if type(entry.get("index")) is int else {**entry, "index": count})
    return numbered
