"""Rules: the first whose conditions all hold decides which targets may be asked, and in which order.

A condition on text takes a pattern: `gold`, `gpt-*`, `gold|silver`, `!free`. A condition on a number takes `>8000`,
`>=8000`, `<100`, `<=100`, `8000` or `2000..8000`. Times are of the day in UTC: `22:00-06:00`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from math import inf, nextafter
from random import Random
from re import fullmatch
from typing import Annotated

from policies.base import Ask, Candidate, Choice, Policy, Setting, called
from policies.ordered import Ordered


@dataclass(frozen=True, slots=True)
class When:
    """What must hold, all of it; what is not said may be anything."""

    model: Annotated[str | None, Setting("text", "The model that was asked for.")] = None
    key: Annotated[str | None, Setting("text", "The name of the client's key.")] = None
    tag: Annotated[str | None, Setting("text", "One of the request's tags.")] = None
    header: Annotated[Mapping[str, str], Setting("texts", "Headers of the request.")] = field(default_factory=dict)
    metadata: Annotated[Mapping[str, str], Setting("texts", "Members of its `metadata`.")] = field(default_factory=dict)
    tokens: Annotated[str | None, Setting("text", "Tokens of the prompt, estimated.")] = None
    stream: Annotated[bool | None, Setting("flag", "Whether it is streamed.")] = None
    tools: Annotated[bool | None, Setting("flag", "Whether it offers tools.")] = None
    vision: Annotated[bool | None, Setting("flag", "Whether it holds images.")] = None
    json_mode: Annotated[
        str | None, Setting("one", "The form that it demands.", among=("none", "any", "object", "schema"))
    ] = None
    time: Annotated[str | None, Setting("text", "Time of the day, UTC.")] = None

    def __post_init__(self) -> None:
        if self.tokens is not None:
            _range(self.tokens)
        if self.time is not None:
            _span(self.time)

    def holds(self, ask: Ask) -> bool:
        return (
            (self.model is None or matches(self.model, ask.model))
            and (self.stream is None or self.stream is ask.stream)
            and (self.key is None or matches(self.key, ask.key))
            and (self.tag is None or _any(self.tag, ask.tags))
            and (self.tools is None or self.tools is ask.tools)
            and (self.json_mode is None or _form(self.json_mode, ask.json))
            and (self.vision is None or self.vision is ask.vision)
            and (not self.header or all(matches(want, ask.headers.get(name, "")) for name, want in self.header.items()))
            and (
                not self.metadata
                or all(matches(want, _text(ask.metadata.get(name))) for name, want in self.metadata.items())
            )
            and (self.tokens is None or _within(self.tokens, ask.tokens))
            and (self.time is None or _now(self.time, ask.at))
        )


@dataclass(frozen=True, slots=True)
class Rule:
    when: Annotated[When, Setting("part", "What must hold, all of it.")] = field(default_factory=When)
    use: Annotated[tuple[str, ...], Setting("text", "Names of the targets to ask, in this order.")] = ()
    policy: Annotated[Policy | None, Setting("policy", "How to choose among them, if not in order.")] = None


@dataclass(frozen=True, slots=True)
class Conditional:
    rules: Annotated[tuple[Rule, ...], Setting("part", "The rules; the first that holds decides.")] = ()
    otherwise: Annotated[Policy | None, Setting("policy", "How to choose where no rule holds.")] = None

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        for number, rule in enumerate(self.rules, 1):
            if rule.when.holds(ask):
                return _chosen(rule, f"rule {number}", ask, candidates, rng)
        return [
            choice._replace(why=choice.why or "no rule")
            for choice in (self.otherwise or Ordered()).plan(ask, candidates, rng)
        ]


def _chosen(rule: Rule, why: str, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
    places = list(range(len(candidates)))
    if rule.use:
        places = [place for name in rule.use for place in places if called(candidates[place].name, name)]
    if not places:
        return []
    inner = (rule.policy or Ordered()).plan(ask, [candidates[place] for place in places], rng)
    return [Choice(places[one.candidate], one.propensity, one.score, why) for one in inner]


def matches(pattern: str, text: str) -> bool:
    """`a|b`: either; `*` and `?` as in file names; `!`: none of them."""
    if pattern.startswith("!"):
        return not matches(pattern[1:], text)
    return any(fnmatchcase(text, one.strip()) for one in pattern.split("|"))


def _any(pattern: str, texts: frozenset[str]) -> bool:
    if pattern.startswith("!"):
        return not _any(pattern[1:], texts)
    return any(matches(pattern, text) for text in texts)


def _form(want: str, form: str) -> bool:
    return form == "" if want == "none" else form != "" if want == "any" else form == want


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


@lru_cache(256)
def _range(text: str) -> tuple[float, float]:
    """The numbers that a condition allows, both ends included. Raises ValueError."""
    found = fullmatch(r"\s*(?:(\d+)\s*\.\.\s*(\d+)|(>=|<=|>|<|)\s*(\d+))\s*", text)
    if found is None:
        raise ValueError(f"not a condition on a number: {text[:40]!r}; write it as >8000, <=100 or 2000..8000")
    if found[1]:
        return float(found[1]), float(found[2])
    number = float(found[4])
    return {
        ">": (nextafter(number, inf), inf),
        ">=": (number, inf),
        "<": (-inf, nextafter(number, -inf)),
        "<=": (-inf, number),
        "": (number, number),
    }[found[3]]


def _within(text: str, value: float) -> bool:
    low, high = _range(text)
    return low <= value <= high


@lru_cache(256)
def _span(text: str) -> tuple[int, int]:
    """Minutes of the day. Raises ValueError."""
    found = fullmatch(r"\s*(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)\s*", text)
    if found is None:
        raise ValueError(f"not a time of the day: {text[:40]!r}; write it as 22:00-06:00")
    begin, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if max(begin, end) > 24 * 60 or int(found[2]) > 59 or int(found[4]) > 59:
        raise ValueError(f"there is no such time of the day: {text[:40]!r}")
    return begin, end


def _now(text: str, at: float) -> bool:
    begin, end = _span(text)
    minute = at % 86400.0 / 60.0
    return begin <= minute < end if begin <= end else minute >= begin or minute < end
