"""`/api/shadow`: the experiments, and what may be done to them; `/api/feedback`: how users liked an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.auth import Gate, not_from_elsewhere
from proxy.errors import Refusal
from proxy.learned import Learners
from proxy.measure.store.ledger import Ledger
from proxy.measure.store.rows import Timestamps
from proxy.shadow.experiment import Experiment
from proxy.shadow.mirror import Mirror
from proxy.shadow.planning import plan, traffic, usd_per_call
from proxy.shadow.summary import summary

ACTIONS = {"pause": "paused", "resume": "resumed", "stop": "stopped"}
_LONGEST = 200


class State(Protocol):
    mirror: Mirror
    learners: Learners

    @property
    def gate(self) -> Gate: ...
    def create_shadow(self, name: str, told: object) -> None:
        """Raises ValueError with what is wrong with it."""
        ...


def routes(state: State, ledger: Ledger | None, answer: Callable[[Any], Response]) -> list[Route]:
    pages = _Pages(state, ledger, answer)
    return [
        Route("/api/shadow", pages.all, methods=["GET", "POST"]),
        Route("/api/shadow/{name:path}", pages.one, methods=["GET", "POST"]),
        Route("/api/feedback", pages.feedback, methods=["POST"]),
    ]


class _Pages:
    def __init__(self, state: State, ledger: Ledger | None, answer: Callable[[Any], Response]) -> None:
        self._state = state
        self._ledger = ledger
        self._answer = answer

    async def all(self, request: Request) -> Response:
        self._state.gate.admin(request.headers.raw)
        if request.method == "POST":
            not_from_elsewhere(request.headers.raw)
            told = await _object(request)
            name = told.pop("name", None)
            if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or ":" in name:
                raise Refusal(400, "`name` must be a short text without a colon.", param="name")
            try:
                self._state.create_shadow(name, told)
            except ValueError as error:
                raise Refusal(400, f"This is no experiment: {error}.") from None
            made = [one for one in self._state.mirror.experiments.values() if one.terms.name.partition(":")[0] == name]
            plans = await asyncio.to_thread(lambda: [_planned(one, self._ledger) for one in made])
            shown = await self._shown(made)
            return self._answer(
                {"experiments": [{**one, "plan": plan} for one, plan in zip(shown, plans, strict=True)]}
            )
        return self._answer({"experiments": await self._shown([*self._state.mirror.experiments.values()])})

    async def _shown(self, experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
        waiting = self._state.mirror.waiting
        frozen = [(one, one.tally.copy()) for one in experiments]
        return await asyncio.to_thread(lambda: [summary(one, tally, waiting) for one, tally in frozen])

    async def one(self, request: Request) -> Response:
        self._state.gate.admin(request.headers.raw)
        mirror, name = self._state.mirror, request.path_params["name"]
        if name not in mirror.experiments:
            raise Refusal(404, f"There is no experiment `{name[:_LONGEST]}`.", code="not_found")
        if request.method == "POST":
            not_from_elsewhere(request.headers.raw)
            action = (await _object(request)).get("action")
            if action not in ACTIONS:
                raise Refusal(400, f"`action` must be one of {', '.join(ACTIONS)}.", param="action")
            mirror.tell(name, ACTIONS[action])
        return self._answer((await self._shown([mirror.experiments[name]]))[0])

    async def feedback(self, request: Request) -> Response:
        """From whoever may ask for answers: `{"id": "req_...", "score": 0.8, "name": "thumbs"}`."""
        key = self._state.gate.client(request.headers.raw)
        told = await _object(request)
        id, score, name = told.get("id"), told.get("score"), told.get("name", "feedback")
        if not isinstance(id, str) or not 0 < len(id) <= _LONGEST:
            raise Refusal(400, "`id` must be the x-request-id of an answer.", param="id")
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise Refusal(400, "`score` must be a number from 0 (bad) to 1 (good).", param="score")
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST:
            raise Refusal(400, "`name` must be a short text.", param="name")
        if self._ledger is None:
            raise Refusal(501, "Feedback is kept in the store, and `storage: none` keeps none.", code="no_store")
        at = Timestamps().text(time.time())
        known = await asyncio.to_thread(
            self._ledger.feedback, at, id, name, float(score), key.name if key is not None else None
        )
        if not known:
            raise Refusal(404, f"There is no request `{id}` in the store.", param="id", code="not_found")
        self._state.learners.liked(id, float(score))
        self._state.mirror.liked()
        return self._answer({"id": id, "score": score, "name": name})


def _planned(experiment: Experiment, ledger: Ledger | None) -> str:
    """What it is going to take, in words."""
    terms = experiment.terms
    seen = traffic(ledger, terms.routes, datetime.now(UTC))
    if seen is None:
        return plan(terms)
    judge, again = experiment.judge, next(iter(experiment.primaries.values()), None)
    usd = usd_per_call(
        seen,
        next(iter(experiment.plans.values())).targets[0].prices(),
        judge.targets[0].prices() if judge is not None else None,
        again.targets[0].prices() if again is not None else None,
        terms.noise,
    )
    return plan(terms, seen, usd)


async def _object(request: Request) -> dict[str, Any]:
    """The body, which must be a JSON object of at most 64 KiB."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > 65_536:
            raise Refusal(413, "The body is too large.", code="request_too_large")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise Refusal(400, "The body must be a JSON object.", code="invalid_json")
    return found
