"""What a simulated model says, before any dialect puts it into words of the wire.

The content depends on the simulator's seed and on what was asked (messages and the request's own seed), not on how:
streamed or whole, first or hundredth, directly or through a proxy, the same question gets the same answer. Ids and
times depend on the simulator's seed and the number of the request.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from proxy.simulated.latency import Tokens
from proxy.simulated.schema import json_text
from proxy.simulated.words import text_pieces

_SUM = re.compile(rb"(\d{1,6}) ([+*-]) (\d{1,6})")
_EPOCH = 1_790_000_000
_FRAGMENT = re.compile(r".{1,6}", re.DOTALL)


class Complaint(Exception):
    """The simulated upstream refuses a request; a dialect renders it."""

    def __init__(
        self, status: int, message: str, *, type: str = "invalid_request_error", param: str | None = None,
        code: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code


class Tool(NamedTuple):
    name: str
    schema: Any


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request, as far as the answer depends on it."""

    key: bytes
    """Whatever determines the content, beside the simulator's seed."""
    model: str
    stream: bool
    prompt_tokens: int
    n: int = 1
    limit: int | None = None
    """Most tokens of each choice."""
    stop: tuple[str, ...] = ()
    calls: tuple[Tool, ...] = ()
    """Tools to call, each once, in this order; then there is no text."""
    schema: Any = None
    """The text is JSON that satisfies this schema."""
    top: int | None = None
    """Log probabilities are asked for, with as many alternatives a token."""
    usage: bool = False
    """Usage is asked for in a stream."""
    legacy: bool = False
    """A completion of a prompt, not of a chat."""
    echo: str = ""
    """Text that the completion begins with: the prompt, where it is wanted back."""
    form: str = ""
    """Of the answer, where the dialect has several: `responses`, `embeddings`."""
    vectors: tuple[int, int] = (0, 0)
    """How many embeddings, and of how many dimensions."""
    base64: bool = False
    """Embeddings as base64 of little-endian float32."""
    thinks: bool = False
    """Thoughts are wanted ahead of the answer."""


class Call(NamedTuple):
    id: str
    name: str
    pieces: tuple[str, ...]
    """Fragments of the arguments (JSON text)."""


class Choice(NamedTuple):
    place: int
    pieces: tuple[str, ...]
    calls: tuple[Call, ...]
    finish: str | None
    """`stop`, `length` or `tool_calls`; None when a fault took it away."""


class Answer(NamedTuple):
    id: str
    """24 hexadecimal digits; a dialect puts its prefix before them."""
    created: int
    model: str
    source: str
    """The name of the simulator that answers."""
    choices: tuple[Choice, ...]
    prompt_tokens: int
    completion_tokens: int
    wait: float = 0.0
    """Seconds until the head of the answer."""
    with_usage: bool = True
    sure: float = 0.9
    """Probability of each token of a text that is echoed."""


def digest(*parts: object) -> str:
    """24 hexadecimal digits that depend on every part."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:24]


def plan(wanted: Wanted, *, seed: int, number: int, source: str, tokens: Tokens, skill: float | None = None) -> Answer:
    """The answer to the `number`-th request. Raises `schema.Unsatisfiable` for a schema that no value fits.

    With `skill` in [0, 1] the model can do sums: asked one such as `12 + 30`, it ends its text with the result, and
    that is right for this share of all questions. Texts that are echoed have tokens of this probability each.
    """
    choices = []
    spent = 0
    for index in range(wanted.n):
        rng = Random(digest(seed, wanted.key.hex(), index))
        choice, used = _choice(wanted, index, rng, tokens, skill)
        choices.append(choice)
        spent += used
    return Answer(
        digest(seed, source, number),
        _EPOCH + number,
        wanted.model,
        source,
        tuple(choices),
        wanted.prompt_tokens,
        spent,
        sure=0.9 if skill is None else max(skill, 1e-6),
    )


def _choice(wanted: Wanted, index: int, rng: Random, tokens: Tokens, skill: float | None) -> tuple[Choice, int]:
    if wanted.calls:
        return _calling(wanted, index, rng)
    if wanted.schema is not None:
        pieces = fragments(json_text(wanted.schema, rng))
    else:
        pieces = text_pieces(rng, tokens.draw(rng))
        if skill is not None:
            pieces += _reckoned(wanted.key, rng, skill)
    finish = "stop"
    if wanted.limit is not None and len(pieces) > wanted.limit:
        pieces, finish = pieces[: wanted.limit], "length"
    shorter = _stopped(pieces, wanted.stop)
    if shorter is not None:
        pieces, finish = shorter, "stop"
    return Choice(index, tuple(pieces), (), finish), len(pieces)


def _reckoned(key: bytes, rng: Random, skill: float) -> list[str]:
    """The last sum that was asked for, worked out well or badly; nothing where none was."""
    asked = _SUM.findall(key)
    if not asked:
        return []
    left, sign, right = int(asked[-1][0]), asked[-1][1], int(asked[-1][2])
    result = left + right if sign == b"+" else left - right if sign == b"-" else left * right
    if rng.random() >= skill:
        result += rng.choice((-10, -1, 1, 10))
    return [".", " The", " answer", " is", f" {result}", "."]


def _calling(wanted: Wanted, index: int, rng: Random) -> tuple[Choice, int]:
    left = wanted.limit
    spent = 0
    finish = "tool_calls"
    calls = []
    for number, tool in enumerate(wanted.calls):
        if left is not None and left <= 0:
            finish = "length"
            break
        schema = {"type": "object", "properties": {}} if tool.schema is None else tool.schema
        pieces = fragments(json_text(schema, rng))
        if left is not None:
            if len(pieces) > left:
                pieces, finish = pieces[:left], "length"
            left -= len(pieces)
        spent += len(pieces)
        calls.append(Call("call_" + digest(wanted.key.hex(), index, number, rng.random()), tool.name, tuple(pieces)))
    return Choice(index, (), tuple(calls), finish), spent


def fragments(text: str) -> list[str]:
    """`text` in pieces of a few characters, as tokens come."""
    return _FRAGMENT.findall(text)


def _stopped(pieces: list[str], stops: tuple[str, ...]) -> list[str] | None:
    """The pieces up to the first stop sequence, which itself is left out; None where none occurs."""
    text = "".join(pieces)
    found = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not found:
        return None
    kept: list[str] = []
    left = min(found)
    for piece in pieces:
        if left <= 0:
            break
        kept.append(piece[:left])
        left -= len(piece)
    return kept
