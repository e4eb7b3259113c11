"""What an answer says, whatever it is written in: the form in which the recording and our output are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LITERALS = {"stop", "length", "tool_calls", "content_filter", "function_call"}


@dataclass
class Call:
    name: str
    arguments: str
    """As told: JSON text. Compared by what it parses to."""
    id: str | None = None

    @property
    def parsed(self) -> Any:
        """The value; the text itself where the model wrote no JSON. No arguments are an empty object."""
        try:
            return json.loads(self.arguments) if self.arguments.strip() else {}
        except ValueError:
            return self.arguments


@dataclass
class Choice:
    text: str = ""
    reasoning: str = ""
    or_reasoning: str | None = None
    """What the reasoning may be instead, where there is a choice (Cohere's tool plan may count as reasoning)."""
    refusal: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str | None = None


@dataclass
class Tokens:
    """As OpenAI counts: cached and written are part of the prompt, reasoning is part of the completion."""

    prompt: int
    completion: int
    read: int = 0
    write: int = 0
    reasoning: int = 0

    def capped(self) -> Tokens:
        """No part larger than its whole, as some hosts report."""
        read = min(self.read, self.prompt)
        return Tokens(
            self.prompt,
            self.completion,
            read,
            min(self.write, self.prompt - read),
            min(self.reasoning, self.completion),
        )


@dataclass
class Answer:
    choices: dict[int, Choice] = field(default_factory=dict)
    usage: Tokens | None = None
    model: str | None = None
    may_refuse: str = ""
    """Why refusing this answer is right as well; empty where it must be read."""

    def choice(self, index: int) -> Choice:
        return self.choices.setdefault(index, Choice())


def finished(raw: str | None, choice: Choice, table: dict[str, str] | None = None) -> str:
    """One of the five literals: unknown reasons are `stop`, and `stop` is `tool_calls` where calls were made."""
    reason = (table or {}).get(raw or "", raw or "stop")
    if reason not in LITERALS or reason == "stop":
        return "tool_calls" if choice.calls else "stop"
    return reason


def differences(expected: Answer, got: Answer) -> Iterator[str]:
    """One line for each thing that was lost, added or changed."""
    if expected.choices.keys() != got.choices.keys():
        yield f"choices {sorted(got.choices)} instead of {sorted(expected.choices)}"
        return
    for index, want in expected.choices.items():
        have = got.choices[index]
        for name in ("text", "refusal", "finish"):
            if getattr(want, name) != getattr(have, name):
                yield f"{name} {_short(getattr(have, name))} instead of {_short(getattr(want, name))}"
        if have.reasoning not in (want.reasoning, want.or_reasoning):
            yield f"reasoning {_short(have.reasoning)} instead of {_short(want.reasoning)}"
        yield from _call_differences(want.calls, have.calls)
    if expected.usage != got.usage:
        yield f"usage {got.usage} instead of {expected.usage}"


def _call_differences(want: list[Call], have: list[Call]) -> Iterator[str]:
    if [call.name for call in want] != [call.name for call in have]:
        yield f"calls {[call.name for call in have]} instead of {[call.name for call in want]}"
        return
    for one, other in zip(want, have, strict=True):
        if one.parsed != other.parsed:
            yield f"arguments of {one.name} {_short(other.arguments)} instead of {_short(one.arguments)}"


def _short(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:50]}…{shown[-25:]} ({len(str(text))} characters)"
