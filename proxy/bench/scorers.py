"""A suite's scorers, made ready: each judges one answer to one case. The judging itself is `proxy.scoring`."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from proxy.bench.data import Case
from proxy.bench.suite import Scorer, Suite
from proxy.config.problems import ConfigError, Problem, did_you_mean
from proxy.record import Exchange
from proxy.scoring import ARMS, REFERENCES, code, named, task, text
from proxy.scoring.form import empty, failed
from proxy.scoring.judge import RUBRIC, Judge
from proxy.wire.answer import Answer

Json = dict[str, Any]

Judged = float | None
One = Callable[[Case, Json, Answer], "Judged | Awaitable[Judged]"]
AskJudge = Callable[[str, Json], Awaitable[str]]
"""(model, body) -> the judge's words."""

EXPECTED = "answer"
"""The field of a case that holds what is expected, where the scorer does not name another."""

KINDS: dict[str, str] = {
    **dict.fromkeys(REFERENCES, "against the expected text"),
    "regex": "the expected field, or `pattern`, is found in the text",
    "numeric": "the last number is the expected one (`tolerance`, relative)",
    "errors": "an answer came at all",
    "validity": "the form that the request demands: JSON, schema, tool arguments",
    "json_schema": "as validity",
    "refusal": "the request was answered, not refused",
    "truncation": "the answer was not cut at the limit of tokens",
    "refuses": "the request was refused, as expected",
    "fields": "share of the expected fields in the answer's JSON",
    "tool_calls": "F1 of the calls against the expected ones",
    "forbidden": "none of `patterns` is found",
    "abstains": "says that it cannot be known",
    "code": "the code passes the tests in the field (`allow: true` is needed)",
    "probability": "1 / perplexity of the answer's tokens (needs `logprobs`)",
    "judge": "a model's grade (`model`, `rubric`)",
    "preference": "a model finds the answer better than the expected text, in both orders; 1/2 is a tie",
}
"""Every kind of scorer and what 1 means."""


class Scorers:
    """Raises `ConfigError` for scorers that do not exist or lack an option."""

    def __init__(self, suite: Suite, ask_judge: AskJudge) -> None:
        self._ask_judge = ask_judge
        self._made: dict[str, dict[str, One]] = {}
        self._bodies = {name: {**suite.sampling, **one.params} for name, one in suite.tasks.items()}
        problems: list[Problem] = []
        for name, one in suite.tasks.items():
            made = self._made[name] = {}
            for place, scorer in enumerate(one.scorers):
                label = scorer.kind if scorer.kind not in made else f"{scorer.kind}#{place + 1}"
                try:
                    made[label] = self._make(scorer)
                except ValueError as error:
                    hint = getattr(error, "hint", None)
                    problems.append(Problem(suite.name, f"tasks.{name}.scorers[{place}]", str(error), hint))
        if problems:
            raise ConfigError(problems)

    async def __call__(self, case: Case, answer: Answer, exchange: Exchange) -> dict[str, Judged]:
        """Each scorer's score, the deciding one first. No answer scores 0 with every scorer."""
        scores: dict[str, Judged] = {}
        body = {**self._bodies[case.task], "messages": case.messages}
        for label, one in self._made[case.task].items():
            if failed(answer) or empty(answer):
                scores[label] = 0.0
                continue
            found = one(case, body, answer)
            scores[label] = await found if inspect.isawaitable(found) else found
        return scores

    def _make(self, scorer: Scorer) -> One:
        kind, options, field = scorer.kind, scorer.options, scorer.field or EXPECTED
        if ":" in kind:
            own = named(kind)
            return lambda case, body, answer: own({**body, "case": case.fields}, answer)
        if kind == "numeric":
            tolerance = float(options.get("tolerance", 1e-6))
            return lambda case, body, answer: text.numeric(answer.text, _expected(case, field), tolerance)
        if kind == "regex" and "pattern" in options:
            pattern = str(options["pattern"])
            return lambda case, body, answer: text.matches(answer.text, pattern)
        if kind in REFERENCES:
            compare = REFERENCES[kind]
            return lambda case, body, answer: compare(answer.text, _expected(case, field))
        if kind in ARMS or kind == "json_schema":
            arm = ARMS["validity" if kind == "json_schema" else kind]
            return lambda case, body, answer: arm(body, answer)
        made: Mapping[str, Callable[[Mapping[str, Any], str], One]] = {
            "refuses": lambda options, field: lambda case, body, answer: task.refuses(body, answer),
            "abstains": lambda options, field: lambda case, body, answer: task.abstains(answer.text),
            "fields": lambda options, field: lambda case, body, answer: task.fields(answer.text, _object(case, field)),
            "tool_calls": lambda options, field: (
                lambda case, body, answer: task.calls(answer, task.calls_of(case.fields[field]))
            ),
            "probability": lambda options, field: lambda case, body, answer: task.probability(answer.logprobs),
            "forbidden": _forbidden,
            "code": _code,
            "judge": self._judge,
            "preference": self._preference,
        }
        if kind not in made:
            raise _Unknown(kind)
        return made[kind](options, field)

    def _judge(self, options: Mapping[str, Any], field: str) -> One:
        judge, ask = self._judging(options)

        async def grade(case: Case, body: Json, answer: Answer) -> Judged:
            return await judge.grade(ask, body, answer, str(case.fields.get(field, "")))

        return grade

    def _preference(self, options: Mapping[str, Any], field: str) -> One:
        judge, ask = self._judging(options)

        async def prefer(case: Case, body: Json, answer: Answer) -> Judged:
            expected = Answer(_expected(case, field), finish_reason="stop")
            return await judge.compare(ask, body, answer, expected)

        return prefer

    def _judging(self, options: Mapping[str, Any]) -> tuple[Judge, Callable[[Json], Awaitable[str]]]:
        if not isinstance(options.get("model"), str):
            raise ValueError("a judge needs `options.model`: a route, or provider/model")
        judge = Judge(options["model"], str(options.get("rubric", RUBRIC)))

        async def ask(body: Json) -> str:
            return await self._ask_judge(judge.model, body)

        return judge, ask


class _Unknown(ValueError):
    def __init__(self, kind: str) -> None:
        super().__init__(f"there is no scorer {kind!r}")
        self.hint = did_you_mean(kind, KINDS) or f"there are {', '.join(sorted(KINDS))}, and module:function"


def _forbidden(options: Mapping[str, Any], field: str) -> One:
    patterns = options.get("patterns")
    if not isinstance(patterns, list) or not patterns:
        raise ValueError("`forbidden` needs `options.patterns`: a list of regular expressions")
    return lambda case, body, answer: task.clean(answer.text, patterns)


def _code(options: Mapping[str, Any], field: str) -> One:
    if options.get("allow") is not True:
        raise ValueError("`code` runs what a model wrote on this machine: say `options: {allow: true}` if you mean it")
    seconds = float(options.get("seconds", 10.0))

    async def run(case: Case, body: Json, answer: Answer) -> Judged:
        return await code.passes(answer.text, _expected(case, field), seconds)

    return run


def _expected(case: Case, field: str) -> str:
    value = case.fields.get(field, "")
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _object(case: Case, field: str) -> Json:
    value = case.fields.get(field)
    value = orjson.loads(value) if isinstance(value, str) else value
    return value if isinstance(value, dict) else {}


def digest(suite: Suite) -> str:
    """Changes when a scorer of the suite or its options do; results under different ones are not compared."""
    told = {name: [scorer.model_dump() for scorer in one.scorers] for name, one in suite.tasks.items()}
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def check(suite: Suite, cases: Sequence[Case]) -> None:
    """Raises `ConfigError` for scorers that cannot be made, and for cases that lack the field theirs look into."""

    async def nobody(model: str, body: Json) -> str:
        raise RuntimeError("nothing is judged here")

    Scorers(suite, nobody)
    needy = {*REFERENCES, "numeric", "fields", "tool_calls", "code", "preference"} - {"regex"}
    found: list[Problem] = []
    for case in cases:
        for scorer in suite.tasks[case.task].scorers:
            field = scorer.field or EXPECTED
            if scorer.kind in needy and field not in case.fields:
                hint = did_you_mean(field, case.fields) or "name another with `field`"
                found.append(Problem(f"{case.task}/{case.id}", "", f"has no field {field!r} for {scorer.kind}", hint))
    if found:
        raise ConfigError(found[:20])
