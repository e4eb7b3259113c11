"""How a case is put and how its answer is read: the two belong together, one row for each value of `tasks.NAME.ask`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from proxy.bench.data import Case
from proxy.bench.suite import Suite
from proxy.forms.completions import CompletionsRequest
from proxy.wire.answer import Answer, answer_of
from proxy.wire.chat import ChatRequest
from proxy.wire.request import Request

Json = dict[str, Any]


class Asking(NamedTuple):
    body: Callable[[Suite, Case], Json]
    """What every target is sent, but for the model's name."""
    parse: Callable[[bytes], Request]
    read: Callable[[bytes, bool], Answer]
    """(what a client would have been sent, whether as a stream)."""


def _chat(suite: Suite, case: Case) -> Json:
    body: Json = {"messages": case.messages, **suite.sampling, **suite.tasks[case.task].params, **case.params}
    if suite.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _text(suite: Suite, case: Case) -> Json:
    """The text itself comes back with its tokens' probabilities; `sampling` has nothing to choose there.

    One token is asked for beyond it, since some servers refuse to give none.
    """
    prompt = case.messages[-1]["content"]
    fixed = {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
    return {**fixed, **suite.tasks[case.task].params}


def text_answer(data: bytes, stream: bool) -> Answer:
    """The text, with the log probability of each of its tokens but the first, which nothing stands before."""
    try:
        body = orjson.loads(data)
        choice = body["choices"][0]
        values = (choice.get("logprobs") or {}).get("token_logprobs") or []
        written = int((body.get("usage") or {}).get("completion_tokens", 1))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Answer()
    own = values[: max(0, len(values) - written)]
    known = tuple(float(value) for value in own[1:] if isinstance(value, int | float))
    model = body.get("model")
    return Answer(
        str(choice.get("text") or ""),
        finish_reason=choice.get("finish_reason"),
        model=model if isinstance(model, str) else None,
        fingerprint=body.get("system_fingerprint"),
        logprobs=known,
    )


ASKING: Mapping[str, Asking] = {
    "chat": Asking(_chat, ChatRequest.parse, lambda data, stream: answer_of(data, stream=stream)),
    "text": Asking(_text, CompletionsRequest.parse, text_answer),
}


def request(suite: Suite, case: Case) -> Json:
    """The body that every target is sent for a case, but for the model's name."""
    return ASKING[suite.tasks[case.task].ask].body(suite, case)


def answered(suite: Suite, case: Case, data: bytes, stream: bool) -> Answer:
    """What a target said to a case."""
    return ASKING[suite.tasks[case.task].ask].read(data, stream)
