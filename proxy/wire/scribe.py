"""Writes an answer in OpenAI's form, for dialects that speak another.

A dialect reads its provider's events and says what it found: text, reasoning, a tool call, the end. The scribe puts
that into chunks (streamed) or gathers it into one body (not streamed). Since both come from the same calls, a stream
put together equals the answer that is not streamed. The rules of the form are kept here once: the same id, time and
model over a stream; the role first; tool calls numbered densely from 0, id and name told once, arguments as pieces of
a JSON string; one finish reason for each choice, `tool_calls` where calls were made; usage once and last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.wire.chunk import CONTENT, DONE, FINISH, META, USAGE, Chunk, Json, Usage
from proxy.wire.render import END

FINISH_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}


class _Choice:
    """What has been said of one choice so far."""

    __slots__ = ("annotations", "calls", "extra", "finish", "logprobs", "reasoning", "refusal", "role", "text")

    def __init__(self) -> None:
        self.role = False
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.annotations: list[Json] = []
        self.logprobs: list[Json] = []
        self.extra: dict[str, Any] = {}
        self.finish: str | None = None


class Scribe:
    """`stream`: chunks are made at once and wait in `take`; otherwise `body` gives the whole answer."""

    def __init__(self, id: str, created: int, model: str, *, stream: bool) -> None:
        self.id = id
        self.created = created
        self.model = model
        """May be set until the first chunk is made: the provider's word wins over what was asked."""
        self.stream = stream
        self._choices: dict[int, _Choice] = {}
        self._out: list[Chunk] = []

    def text(self, text: str, choice: int = 0) -> None:
        if text:
            self._choice(choice).text.append(text)
            self._delta(choice, {"content": text})

    def reasoning(self, text: str, choice: int = 0) -> None:
        if text:
            self._choice(choice).reasoning.append(text)
            self._delta(choice, {"reasoning_content": text})

    def refusal(self, text: str, choice: int = 0) -> None:
        if text:
            self._choice(choice).refusal.append(text)
            self._delta(choice, {"refusal": text})

    def call(
        self, id: str, name: str, arguments: str = "", choice: int = 0, extra: Mapping[str, Any] | None = None
    ) -> int:
        """Begins a tool call; the number under which `arguments` goes on."""
        calls = self._choice(choice).calls
        number = len(calls)
        function = {"name": name, "arguments": arguments}
        calls.append({"id": id, "type": "function", "function": function, **(extra or {})})
        told = {"index": number, "id": id, "type": "function", "function": dict(function), **(extra or {})}
        self._delta(choice, {"tool_calls": [told]})
        return number

    def arguments(self, call: int, piece: str, choice: int = 0) -> None:
        """The next piece of a call's arguments."""
        if piece:
            self._choice(choice).calls[call]["function"]["arguments"] += piece
            self._delta(choice, {"tool_calls": [{"index": call, "function": {"arguments": piece}}]})

    def arguments_so_far(self, call: int, choice: int = 0) -> str:
        return str(self._choice(choice).calls[call]["function"]["arguments"])

    def annotate(self, annotations: list[Json], choice: int = 0) -> None:
        """Citations, in the form of OpenAI's `annotations`."""
        if annotations:
            self._choice(choice).annotations.extend(annotations)
            self._delta(choice, {"annotations": annotations})

    def logprobs(self, content: list[Json], choice: int = 0) -> None:
        """For the text that was written last; kept for the answer that is not streamed."""
        self._choice(choice).logprobs.extend(content)
        if not self.stream or not content:
            return
        told = {"content": content, "refusal": None}
        last = self._out[-1] if self._out else None
        body = last.body if last is not None else None
        if (
            last is None
            or body is None
            or [(one["index"], one["logprobs"]) for one in body["choices"]] != [(choice, None)]
        ):
            # Nothing of this choice waits that they could go with, so they go alone.
            self._delta(choice, {})
            self._write(META, [{"index": choice, "delta": {}, "logprobs": told, "finish_reason": None}])
        else:
            body["choices"][0]["logprobs"] = told
            last.raw = _event(body)

    def put(self, name: str, value: Any, choice: int = 0) -> None:
        """A further member of the message, such as signed thinking that the next turn must bring back."""
        self._choice(choice).extra[name] = value
        self._delta(choice, {name: value})

    def append(self, name: str, entries: list[Json], choice: int = 0) -> None:
        """Further entries of a list that is a member of the message. Each gets its `index`, by which official SDKs
        put the deltas of a stream together."""
        so_far = self._choice(choice).extra.setdefault(name, [])
        numbered = [{**entry, "index": at} for at, entry in enumerate(entries, len(so_far))]
        so_far.extend(numbered)
        if numbered:
            self._delta(choice, {name: numbered})

    def finish(self, reason: str, choice: int = 0) -> None:
        """The end of one choice, once; `stop` becomes `tool_calls` where calls were made, `length` never does."""
        one = self._choice(choice)
        if one.finish is not None:
            return
        if reason not in FINISH_REASONS or reason == "stop":
            reason = "tool_calls" if one.calls else "stop"
        one.finish = reason
        if self.stream:
            if not one.role:
                self._delta(choice, {})
            self._write(FINISH, [{"index": choice, "delta": {}, "logprobs": None, "finish_reason": reason}])

    def end(self, usage: Usage | None, more: Mapping[str, Any] | None = None) -> None:
        """Usage, if any, and the end marker of a stream. `more`: further members of the usage object."""
        if self.stream:
            if usage is not None:
                self._write(USAGE, [], {**usage_object(usage), **(more or {})})
            self._out.append(Chunk(DONE, END))

    def take(self) -> list[Chunk]:
        """The chunks written since the last call."""
        out, self._out = self._out, []
        return out

    @property
    def begun(self) -> bool:
        return bool(self._choices)

    @property
    def finished(self) -> bool:
        """Every choice that began has its finish reason, and at least one began."""
        return bool(self._choices) and all(one.finish is not None for one in self._choices.values())

    def finish_reason(self) -> str | None:
        """Of the first choice."""
        return self._choices[min(self._choices)].finish if self._choices else None

    def body(self, usage: Usage | None, more: Mapping[str, Any] | None = None) -> Json:
        """The whole answer as a `chat.completion` object."""
        whole: Json = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [self._whole_choice(index) for index in sorted(self._choices)],
        }
        if usage is not None:
            whole["usage"] = {**usage_object(usage), **(more or {})}
        return whole

    def _whole_choice(self, index: int) -> Json:
        one = self._choices[index]
        message: Json = {
            "role": "assistant",
            "content": "".join(one.text) if one.text or not (one.calls or one.refusal) else None,
            "refusal": "".join(one.refusal) or None,
        }
        if one.reasoning:
            message["reasoning_content"] = "".join(one.reasoning)
        if one.calls:
            message["tool_calls"] = one.calls
        if one.annotations:
            message["annotations"] = one.annotations
        message.update(one.extra)
        logprobs = {"content": one.logprobs, "refusal": None} if one.logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": one.finish}

    def _choice(self, index: int) -> _Choice:
        one = self._choices.get(index)
        if one is None:
            one = self._choices[index] = _Choice()
        return one

    def _delta(self, choice: int, delta: Json) -> None:
        if not self.stream:
            self._choice(choice)
            return
        one = self._choice(choice)
        if not one.role:
            one.role = True
            first = {"role": "assistant", "content": ""}
            self._write(META, [{"index": choice, "delta": first, "logprobs": None, "finish_reason": None}])
        if delta:
            self._write(CONTENT, [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}])

    def _write(self, kind: int, choices: list[Json], usage: Json | None = None) -> None:
        body: Json = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if usage is not None:
            body["usage"] = usage
        self._out.append(Chunk(kind, _event(body), body, usage is not None))


def _event(body: Json) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(body)


def usage_object(usage: Usage) -> Json:
    """OpenAI's `usage`: cached and written tokens are part of the prompt, reasoning is part of the completion."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }
