"""One pair: the candidate is asked what the primary was asked, both are scored, and a row comes of it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from policies.verdict import Kind
from proxy.call import Called, call
from proxy.engine import Engine
from proxy.forms.plain import EmbeddingsRequest
from proxy.measure.store.ledger import Pair
from proxy.record import Attempt, Exchange
from proxy.router import Plan
from proxy.scoring import FAILED
from proxy.scoring.embedding import same_meaning, vectors
from proxy.scoring.judge import LONGEST
from proxy.shadow import request as requests
from proxy.shadow.budget import ASSUMED_ANSWER, Spent, is_priced, worst_usd
from proxy.shadow.differences import differences
from proxy.shadow.experiment import Experiment
from proxy.shadow.scores import Asked, Side, scores
from proxy.shadow.standing import Score
from proxy.upstreams import Target
from proxy.wire.answer import Answer, answer_of
from proxy.wire.answer_forms import answer_in
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json
from proxy.wire.request import Request

log = logging.getLogger(__name__)

_JUDGE_TOKENS = 1000
"""Of a judge's reply; some think before they speak."""
HEAVY = 64 * 1024
"""Bytes of answers that are read and scored in a thread, so that no live stream waits for it."""
EMBEDDED = 8_000
"""Characters of an answer whose meaning is compared: models take no more than some thousand tokens."""
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class Job(NamedTuple):
    """One exchange that is to be mirrored to one candidate."""

    experiment: Experiment
    exchange: Exchange
    """The live one, sealed."""
    ask: Request
    key: str
    answer: bytes
    unit: str

    @property
    def size(self) -> int:
        """Bytes that it holds while it waits."""
        return len(self.ask.raw) + len(self.answer)

    def prepare(self) -> Prepared:
        """Raises `Incompatible`."""
        experiment = self.experiment
        ask = requests.mirrored(self.ask, experiment.candidate, self.unit)
        unit = experiment.unit_name(self.unit)
        first = unit not in experiment.seen
        again = experiment.primaries.get(_first(self.exchange).target) if first else None
        if again is not None and not experiment.asks_again(self.unit):
            again = None
        judge = experiment.judge if first else None
        size, served = len(ask.raw), _served_tokens(self.exchange)
        plan = experiment.plans[self.exchange.route or ""]
        limit = _limit(ask.body, plan.targets[0], served)
        worst = Spent(worst_usd(plan.targets[0], size, limit))
        times = 1 if again is None else 2
        if again is not None:
            limit_again = _limit(self.ask.body, again.targets[0], served)
            worst = worst._replace(calls=worst.calls + worst_usd(again.targets[0], size, limit_again))
        if judge is not None:
            shown = 2 * min(size + 2 * 4 * limit, 4 * LONGEST)
            worst = worst._replace(judge=times * worst_usd(judge.targets[0], shown, 2 * _JUDGE_TOKENS))
        if first and experiment.embeds is not None:
            shown = 2 * min(4 * max(limit, served), 4 * EMBEDDED)
            worst = worst._replace(similarity=times * worst_usd(experiment.embeds.targets[0], shown, 0))
        return Prepared(self, ask, unit, worst, plan, judge, again)


class Prepared(NamedTuple):
    job: Job
    ask: Request
    unit: str
    """Its name in the store."""
    worst: Spent
    """What is reserved. Nothing for the similarity: then it is not asked for."""
    plan: Plan
    judge: Plan | None
    again: Plan | None
    """To the primary, if it is to be asked a second time."""


class Paired(NamedTuple):
    called: Called
    """What the candidate said."""
    pair: Pair
    scores: Sequence[Score]
    spent: Spent
    failed: bool
    """The candidate gave no whole answer."""
    given_up: bool
    """It was not let finish."""


async def carried_out(engine: Engine, prepared: Prepared) -> Paired:
    """Asks the candidate (and the judge, and the primary again) and scores both arms."""
    job, spending = prepared.job, _Spending()
    exchange, experiment = job.exchange, job.experiment
    operation, stream = job.ask.operation, job.ask.stream
    called = await call(engine, prepared.ask, prepared.plan, parent=exchange.id)
    spending.add(called.exchange, prepared.plan, prepared.ask)
    candidate = await _side(_last(called.exchange), prepared.ask.operation, called.data, stream)
    live = _first(exchange)
    primary = await _side(live, operation, job.answer if live is exchange.winner else b"", stream)
    noise = None
    if prepared.again is not None:
        asked_again = requests.unstored(job.ask)
        second = await call(engine, asked_again, prepared.again, parent=exchange.id)
        spending.add(second.exchange, prepared.again, asked_again)
        noise = await _side(_last(second.exchange), operation, second.data, stream)
    body = requests.chat_body(job.ask)
    judged = rejudged = None
    if prepared.judge is not None:
        judged = await _judged(engine, prepared, body, candidate.said, primary.said, spending)
        if noise is not None and not (noise.failed or primary.failed):
            rejudged = await _judged(engine, prepared, body, noise.said, primary.said, spending)
    asked = Asked(judged, rejudged, noise.said if noise is not None else None)
    if prepared.worst.similarity:
        asked = await _compared(engine, prepared, primary.said, candidate.said, asked, spending)
    id = called.exchange.id
    score = functools.partial(scores, experiment.terms, id, body, primary, candidate, asked, experiment.own)
    heavy = bool(experiment.own) or len(called.data) + len(job.answer) > HEAVY
    return Paired(
        called,
        _row(prepared, called, second.exchange.id if noise is not None else None, primary, candidate, spending),
        await asyncio.to_thread(score) if heavy else score(),
        spending.usd,
        candidate.failed,
        candidate.attempt is not None and candidate.attempt.kind is Kind.INTERNAL,
    )


async def _side(attempt: Attempt | None, operation: str, data: bytes, stream: bool) -> Side:
    """What cannot be read, or is not worth it, is no answer."""
    if attempt is None or attempt.kind is not Kind.OK or not data:
        return Side(attempt, FAILED, stream)
    read = functools.partial(answer_in, operation, data, stream=stream)
    return Side(attempt, await asyncio.to_thread(read) if len(data) > HEAVY else read(), stream)


class _Spending:
    """What the calls of one pair cost."""

    def __init__(self) -> None:
        self.usd = Spent(0.0)
        self.assumed = False

    def add(self, exchange: Exchange, plan: Plan, ask: Request, part: str = "calls") -> None:
        """`part`: a field of `Spent`."""
        target, usd = plan.targets[0], 0.0
        for attempt in exchange.attempts:
            if attempt.cost_usd is not None:
                usd += attempt.cost_usd
            elif attempt.usage is not None:
                self.assumed = True
                usd += worst_usd(target, 2 * attempt.usage.input, max(1, attempt.usage.output))
            elif attempt.status in (None, 200) and attempt.marks.sent:
                # It may have been billed, and nobody says how much: the worst is booked.
                self.assumed = True
                usd += worst_usd(target, len(ask.raw), 0 if part == "similarity" else _limit(ask.body, target))
        self.usd = self.usd._replace(**{part: getattr(self.usd, part) + usd})
        self.assumed = self.assumed or not is_priced(target)


async def _judged(
    engine: Engine, prepared: Prepared, body: Json, candidate: Answer, primary: Answer, spending: _Spending
) -> float | None:
    """None where the judge failed or said nothing that can be read."""
    terms, plan = prepared.job.experiment.terms, prepared.judge
    judge = terms.primary.judge if terms.primary is not None else None
    if judge is None or plan is None:
        return None

    async def ask(told: Json) -> str:
        whole = {"model": judge.model, **told}
        request = ChatRequest(orjson.dumps(whole), whole)
        called = await call(engine, request, plan, parent=prepared.job.exchange.id)
        spending.add(called.exchange, plan, request, "judge")
        return answer_of(called.data, stream=False).text if called.exchange.kind is Kind.OK else ""

    return await judge.compare(ask, body, candidate, primary)


async def _compared(
    engine: Engine, prepared: Prepared, primary: Answer, candidate: Answer, asked: Asked, spending: _Spending
) -> Asked:
    """How near the answers are in meaning, and the primary's own two."""
    experiment = prepared.job.experiment
    plan, model = experiment.embeds, experiment.terms.similarity
    assert plan is not None  # noqa: S101  (money was reserved for it)

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        whole = {"model": model, "input": [text[:EMBEDDED] for text in texts], "encoding_format": "float"}
        request = EmbeddingsRequest(orjson.dumps(whole), whole)
        called = await call(engine, request, plan, parent=prepared.job.exchange.id)
        spending.add(called.exchange, plan, request, "similarity")
        return vectors(called.data) if called.exchange.kind is Kind.OK else []

    meaning = await same_meaning(embed, primary, candidate)
    again = await same_meaning(embed, primary, asked.noise) if asked.noise is not None else None
    return asked._replace(meaning=meaning, meaning_again=again)


def _first(exchange: Exchange) -> Attempt:
    """The live side's part in a pair: its first try, as the candidate has only one.

    A first try that was called off because another was quicker is no failure: then it is the one that answered.
    """
    first = exchange.attempts[0]
    if exchange.winner is not None and first.kind in (Kind.DOWNSTREAM_CLOSED, Kind.INTERNAL):
        return exchange.winner
    return first


def _last(exchange: Exchange) -> Attempt | None:
    return exchange.attempts[-1] if exchange.attempts else None


def _limit(body: Json, target: Target, served: int = 0) -> int:
    """Tokens that the answer may have at most, all choices together: by what is really sent, or else what is usual.

    `served`: tokens of the answer that was given to the same request.
    """
    to = target.endpoint
    told = {**(to.params or {}), **body, **(to.force or {})}
    found = [told[name] for name in _LIMITS if isinstance(told.get(name), int) and told[name] > 0]
    n = told.get("n")
    most: int = max(found or [ASSUMED_ANSWER, 2 * served])
    return most * (n if isinstance(n, int) and n > 0 else 1)


def _served_tokens(exchange: Exchange) -> int:
    usage = exchange.winner.usage if exchange.winner is not None else None
    return usage.output if usage is not None else 0


def _row(
    prepared: Prepared, called: Called, noise_id: str | None, primary: Side, candidate: Side, spending: _Spending
) -> Pair:
    job, exchange = prepared.job, prepared.job.exchange
    terms = job.experiment.terms
    live, shadow = primary.attempt, candidate.attempt
    marks = exchange.marks
    told = differences(job.experiment.candidate, job.ask, live, shadow)
    return Pair(
        experiment=terms.name,
        version=terms.version,
        at="",
        unit=prepared.unit,
        scored=False,
        live_id=exchange.id,
        shadow_id=called.exchange.id,
        noise_id=noise_id,
        route=exchange.route,
        key=job.key or None,
        operation=job.ask.operation,
        stream=job.ask.stream,
        **arm_columns("primary", primary),
        **(arm_columns("candidate", candidate) | {"candidate_target": terms.candidate}),
        candidate_outcome=called.exchange.outcome.value,
        primary_outcome=live.outcome.value if live is not None else None,
        served_outcome=exchange.outcome.value,
        served_target=exchange.winner.target if exchange.winner is not None else None,
        served_e2e_ms=(marks.end - marks.received) / 1e6 if marks.end else None,
        differences=orjson.dumps(told).decode(),
        spent_usd=spending.usd.total,
        judge_usd=spending.usd.judge,
        similarity_usd=spending.usd.similarity,
        usd_source="assumed" if spending.assumed else None,
    )


def arm_columns(name: str, side: Side) -> dict[str, Any]:
    """One arm's columns of a pair, but for its outcome. `name`: `primary` or `candidate`."""
    attempt = side.attempt
    if attempt is None:
        attempt = Attempt(0, "", "", "", 0)
        attempt.kind = Kind.INTERNAL
    usage, kind = attempt.usage, attempt.kind
    told = {
        "target": attempt.target or None,
        "error_kind": kind.value if kind is not Kind.OK else None,
        "finish_reason": attempt.finish_reason,
        "ttft_ms": _ms(side.ttft) if side.stream else None,
        "e2e_ms": _ms(side.e2e),
        "cost_usd": attempt.cost_usd,
        "cached_tokens": usage.cache_read if usage is not None else None,
        "output_tokens": usage.output if usage is not None else None,
    }
    return {f"{name}_{column}": value for column, value in told.items()}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
