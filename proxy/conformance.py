"""What a target can do, found out by asking it: one row of cells, each passed, refused or failed, with the reason.

Every cell is one tiny request through the real engine, so that what is judged is what a client would get. *Refused*
means that the provider, or its dialect here, says that it cannot: route such requests elsewhere. *Fail* means that it
answered wrongly, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import orjson

from policies.ordered import Ordered
from policies.retry import FailoverOn, Limits
from policies.verdict import Kind
from proxy.call import Called, call
from proxy.engine import Engine
from proxy.providers.sound import SoundStream, is_sound_body
from proxy.record import Decision
from proxy.router import Plan, Route
from proxy.upstreams import Target
from proxy.wire.answer import Answer, answer_of
from proxy.wire.chat import ChatRequest
from proxy.wire.sse import EventSplitter, payload

PASS, REFUSED, FAIL = "pass", "refused", "fail"
CELLS = ("plain", "stream", "usage", "tools", "parallel", "schema", "logprobs", "stop", "errors")
"""The columns, in the order in which they are asked."""
PATIENCE = 60.0
"""Seconds after which a call is given up."""
TOKENS = 64
"""The most that one answer may have; thinking counts against it with some providers."""
ONE_AT_A_TIME = "it makes one call at a time"
NO_SUCH_MODEL = "weighbridge-no-such-model"

_REFUSALS = {Kind.BAD_REQUEST, Kind.UNSUPPORTED}
Json = dict[str, Any]


class Cell(NamedTuple):
    name: str
    result: str
    reason: str = ""
    """Why it is not a pass, or what is odd about it."""


class Row(NamedTuple):
    target: str
    cells: tuple[Cell, ...]
    calls: int
    tokens: int
    """Counted by the provider, over all calls."""
    cost_usd: float | None
    """None where no price is known."""

    @property
    def failed(self) -> bool:
        return any(cell.result == FAIL for cell in self.cells)


def _tool(name: str, what: str) -> Json:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": what, "parameters": schema}}


_TIME = _tool("get_time", "Tells the time in a city.")
_WEATHER = _tool("get_weather", "Tells the weather in a city.")
_SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}


def _asks(text: str, **more: Any) -> Json:
    return {"messages": [{"role": "user", "content": text}], "max_completion_tokens": TOKENS, **more}


REQUESTS: Mapping[str, Json] = {
    "plain": _asks("Reply with the word yes."),
    "stream": _asks("Reply with the word yes.", stream=True, stream_options={"include_usage": True}),
    "tools": _asks("What time is it in Oslo? Use the tool.", tools=[_TIME], tool_choice="required"),
    "parallel": _asks(
        "What is the time in Oslo, and the weather in Lima? Call both tools at once.",
        tools=[_TIME, _WEATHER],
        parallel_tool_calls=True,
    ),
    "schema": _asks(
        "What is 1 + 1?",
        response_format={"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": _SCHEMA}},
    ),
    "logprobs": _asks("Reply with the word yes.", logprobs=True, top_logprobs=1),
    "stop": _asks("Count from 1 to 9, separated by spaces.", stop=["5"]),
    "errors": _asks("Reply with the word yes."),
}
"""What is sent for each cell; `usage` is read off the stream."""

_MATTERS = {"schema": "response_format", "logprobs": "logprobs", "stop": "stop", "tools": "tools", "parallel": "tools"}
"""The parameter that the cell is about: where it is dropped, the dialect has no words for it."""


async def row(engine: Engine, target: Target) -> Row:
    """Asks for every cell, one after the other, in a task of its own for each call."""
    asking = _Asking(engine, target)
    cells = [cell async for cell in _cells(asking)]
    costs = asking.costs
    return Row(
        target.name,
        tuple(cells),
        asking.calls,
        asking.tokens,
        sum(cost for cost in costs if cost is not None) if None not in costs else None,
    )


class _Asking:
    """Makes the calls and adds up what they used."""

    def __init__(self, engine: Engine, target: Target) -> None:
        self.engine = engine
        self.target = target
        self.calls = self.tokens = 0
        self.costs: list[float | None] = []

    async def ask(self, body: Json, target: Target | None = None) -> Called:
        target = target or self.target
        asked = ChatRequest.parse(orjson.dumps({"model": target.name, **body}))
        route = Route(None, [target], Ordered(), "check", Limits(1, 1), FailoverOn())
        plan = Plan(route, [target], Decision("check", 1.0, (target.name,)))
        told = await asyncio.create_task(call(self.engine, asked, plan, patience=PATIENCE))
        for attempt in told.exchange.attempts:
            self.calls += 1
            if attempt.usage is not None:
                self.tokens += attempt.usage.input + attempt.usage.output
                self.costs.append(attempt.cost_usd)
        return told


async def _cells(asking: _Asking) -> AsyncIterator[Cell]:
    plain = _judge("plain", await asking.ask(REQUESTS["plain"]), _says_something)
    yield plain
    if plain.result == FAIL:
        for name in CELLS[1:]:
            yield Cell(name, FAIL, "not asked, since `plain` failed")
        return
    async for cell in _streamed(asking):
        yield cell
    for name, judge in JUDGES.items():
        told = await asking.ask(REQUESTS[name])
        cell = _judge(name, told, judge)
        if name == "tools" and cell.result == REFUSED:
            cell = _judge(name, await asking.ask({**REQUESTS[name], "tool_choice": "auto"}), judge)
            if cell.result == PASS:
                cell = cell._replace(reason="with tool_choice auto; it takes no `required`")
        yield cell
    yield await _errors(asking)


async def _streamed(asking: _Asking) -> AsyncIterator[Cell]:
    """The cells `stream` and `usage`, of one call; of two where the upstream does not take `stream_options`."""
    target = asking.target
    told = await asking.ask(REQUESTS["stream"])
    cell = _judge("stream", told, _says_something)
    asks_usage = target.endpoint.usage_in_stream
    if cell.result == REFUSED and asks_usage:
        silent = target.with_endpoint(target.endpoint._replace(usage_in_stream=False))
        body = {**REQUESTS["stream"], "stream_options": None}
        again = _judge("stream", await asking.ask(body, silent), _says_something)
        if again.result == PASS:
            yield again
            advice = f"set `usage_in_stream: false` for providers.{target.endpoint.provider}"
            yield Cell("usage", REFUSED, f"it refuses `stream_options`: {advice} ({cell.reason})")
            return
    yield cell
    if cell.result != PASS:
        yield Cell("usage", cell.result, "no stream to read it from")
    elif told.exchange.attempts[-1].usage is not None:
        yield Cell("usage", PASS)
    elif asks_usage:
        yield Cell("usage", FAIL, "the stream ended without usage, though it was asked for")
    else:
        yield Cell("usage", REFUSED, "`usage_in_stream` is false, and none comes unasked")


async def _errors(asking: _Asking) -> Cell:
    """A model that cannot exist: what is said of it must be understood."""
    target = asking.target
    strange = target.with_endpoint(target.endpoint._replace(model=NO_SUCH_MODEL, deployment=""))
    told = await asking.ask({**REQUESTS["errors"], "max_completion_tokens": 1}, strange)
    attempt = told.exchange.attempts[-1]
    if attempt.kind is Kind.OK:
        return Cell("errors", REFUSED, "it answers to every model's name, so there was no error to look at")
    if attempt.kind not in (Kind.UNKNOWN_MODEL, Kind.BAD_REQUEST):
        return Cell("errors", FAIL, f"an unknown model was told as {attempt.kind}: {_short(attempt.detail)}")
    return Cell("errors", PASS, "" if attempt.kind is Kind.UNKNOWN_MODEL else "told as an invalid request")


def _judge(name: str, told: Called, judge: Callable[[Answer], str | None]) -> Cell:
    attempt = told.exchange.attempts[-1] if told.exchange.attempts else None
    if attempt is None:
        return Cell(name, FAIL, f"not asked: {told.exchange.kind}")
    parameter = _MATTERS.get(name)
    if parameter in attempt.dropped:
        return Cell(name, REFUSED, f"`{parameter}` is not sent to {attempt.provider}: it has no words for it")
    if attempt.kind is not Kind.OK:
        result = REFUSED if attempt.kind in _REFUSALS else FAIL
        return Cell(name, result, f"{attempt.kind}: {_short(attempt.detail)}")
    unsound = _unsound(told)
    if unsound:
        return Cell(name, FAIL, unsound)
    wrong = judge(answer_of(told.data, stream=told.exchange.stream))
    if wrong == ONE_AT_A_TIME:
        return Cell(name, REFUSED, wrong)
    return Cell(name, FAIL, wrong) if wrong else Cell(name, PASS)


def _unsound(told: Called) -> str | None:
    """Where the answer that a client would get breaks OpenAI's form."""
    if not told.exchange.stream:
        return None if is_sound_body(orjson.loads(told.data)) else "the answer is not in OpenAI's form"
    events = [payload(event) for event in EventSplitter().feed(told.data)]
    if not events or events[-1] != b"[DONE]":
        return "the stream has no end marker"
    reading = SoundStream(False)
    bodies = [orjson.loads(event) for event in events[:-1] if event]
    if not all(map(reading.takes, bodies)):
        return "a chunk of the stream is not in OpenAI's form"
    return None


def _says_something(answer: Answer) -> str | None:
    if answer.text or answer.finish_reason == "length":
        return None
    return "no text"


def _calls_once(answer: Answer) -> str | None:
    if not answer.tool_calls:
        return f"no call, but text: {_short(answer.text)!r}"
    return next((wrong for one in answer.tool_calls if (wrong := _wrong_call(one.name, one.arguments))), None)


def _calls_twice(answer: Answer) -> str | None:
    wrong = _calls_once(answer)
    return wrong or (None if len(answer.tool_calls) > 1 else ONE_AT_A_TIME)


def _wrong_call(name: str, arguments: str) -> str | None:
    try:
        told = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return f"arguments that are no JSON: {_short(arguments)!r}"
    if name not in ("get_time", "get_weather") or not isinstance(told, dict) or not isinstance(told.get("city"), str):
        return f"{name}({_short(arguments)}) does not fit the tool"
    return None


def _fits_the_schema(answer: Answer) -> str | None:
    try:
        told = orjson.loads(answer.text)
    except orjson.JSONDecodeError:
        return f"no JSON: {_short(answer.text)!r}"
    fits = isinstance(told, dict) and told.keys() == {"sum"} and isinstance(told["sum"], int)
    return None if fits else f"does not fit the schema: {_short(answer.text)!r}"


def _has_logprobs(answer: Answer) -> str | None:
    return None if answer.logprobs else "an answer without logprobs"


def _stops(answer: Answer) -> str | None:
    if "5" in answer.text:
        return f"it went on: {_short(answer.text)!r}"
    return None if answer.finish_reason == "stop" else f"finish reason {answer.finish_reason}"


JUDGES: Mapping[str, Callable[[Answer], str | None]] = {
    "tools": _calls_once,
    "parallel": _calls_twice,
    "schema": _fits_the_schema,
    "logprobs": _has_logprobs,
    "stop": _stops,
}
"""Each says what is wrong with an answer."""


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:159]}…"
