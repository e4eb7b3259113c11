"""Everything that is not on the hot path, served by Starlette: models, health, metrics, the record of one exchange."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import __version__
from proxy.allowances import Allowances
from proxy.auth import Gate, Key
from proxy.batches.keeper import Keeper
from proxy.config.problems import Wrong
from proxy.config.values import duration
from proxy.errors import Refusal
from proxy.learned import Learners
from proxy.measure import window
from proxy.measure.prometheus import Metrics
from proxy.measure.recent import LONGEST_S, Recent
from proxy.measure.store.ledger import Ledger
from proxy.measure.store.reads import Reads, StoreUnavailable
from proxy.measure.store.writer import StoreSink
from proxy.shadow.mirror import Mirror
from proxy.web import batches, filters, shadow
from proxy.web.livepage import HEADERS, page_files
from proxy.wire.render import error_object

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]

_SERVED = (
    "/v1/files, /v1/batches, GET /, /v1/models, /healthz, /readyz, /metrics, /api/stats, /api/policies, /api/keys,"
    " /api/exchanges, /api/exchanges/{id}, /api/shadow, /api/shadow/{name}, POST /api/feedback"
)


class Names(Protocol):
    def public_to(self, routes: frozenset[str] | None) -> Sequence[str]: ...


class State(Protocol):
    """What the pages read of the running application."""

    allowances: Allowances
    metrics: Metrics
    recent: Recent
    store: StoreSink | None
    mirror: Mirror
    learners: Learners
    started_ns: int
    """When the process began to count, on its clock."""

    @property
    def gate(self) -> Gate: ...
    @property
    def router(self) -> Names: ...
    @property
    def draining(self) -> bool: ...
    @property
    def in_flight(self) -> int: ...
    def now_ns(self) -> int: ...
    async def direct_models(self, key: Key | None) -> list[str]: ...
    def degraded(self) -> list[str]: ...
    def losses(self) -> Mapping[tuple[str, str], int]: ...
    def create_shadow(self, name: str, told: object) -> None: ...
    def standings(self) -> Mapping[str, Mapping[str, Any]]:
        """What is known of each target at this moment, by name."""
        ...


class Site:
    """An ASGI application."""

    def __init__(
        self, state: State, reads: Reads | None, posts: Sequence[str] = (), keeper: Keeper | None = None
    ) -> None:
        """`posts`: what is served by POST before it comes here. `keeper`: of batches, where there is a store."""
        self._posts = posts
        self._state = state
        self._reads = reads
        self._started = int(time.time())
        self._app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/models/{id:path}", self._model),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/", self._page),
                Route("/page/{name}", self._page),
                Route("/api/stats", self._stats),
                Route("/api/policies", self._policies),
                Route("/api/keys", self._keys),
                Route("/api/exchanges", self._exchanges),
                Route("/api/exchanges/{id}", self._exchange),
                *batches.routes(keeper, lambda: state.gate),
                *shadow.routes(state, Ledger(state.store.path) if state.store is not None else None, _json),
            ],
            exception_handlers={
                Refusal: _on_refusal,
                HTTPException: self._on_http,
                StoreUnavailable: _on_unavailable,
                Exception: _on_fault,
            },
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    async def aclose(self) -> None:
        if self._reads is not None:
            await self._reads.aclose()

    async def _models(self, request: Request) -> Response:
        names = dict.fromkeys([*self._public(request), *await self._direct(request)])
        listed = [self._model_object(name) for name in names]
        return _json({"object": "list", "data": listed})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["id"]
        if name not in self._public(request) and name not in await self._direct(request):
            raise Refusal(
                404,
                f"The model `{name[:200]}` does not exist. GET /v1/models lists what there is.",
                param="model",
                code="model_not_found",
            )
        return _json(self._model_object(name))

    def _public(self, request: Request) -> Sequence[str]:
        """The names that the caller may ask for."""
        key = self._state.gate.client(request.headers.raw)
        return self._state.router.public_to(key.routes if key is not None else None)

    async def _direct(self, request: Request) -> Sequence[str]:
        """What the caller may ask the providers for without a route."""
        return await self._state.direct_models(self._state.gate.client(request.headers.raw))

    def _model_object(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "weighbridge"}

    async def _healthz(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        state = self._state
        body: dict[str, Any] = {
            "status": "draining" if state.draining else "ready",
            "degraded": state.degraded(),
        }
        if state.store is not None:
            body["store"] = {"committed": state.store.committed.seq, "pending": state.store.pending}
        return _json(body, 503 if state.draining else 200)

    async def _metrics(self, request: Request) -> Response:
        self._state.gate.metrics(request.headers.raw)
        # In a thread: rendering thousands of series would hold up every stream meanwhile.
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(self._state.metrics.render, accept)
        return Response(body, media_type=None, headers={"content-type": content_type})

    async def _page(self, request: Request) -> Response:
        file = page_files().get(request.path_params.get("name", "index.html"))
        if file is None:
            raise HTTPException(404)
        return Response(file.body, headers=HEADERS, media_type=file.media_type)

    async def _stats(self, request: Request) -> Response:
        state = self._state
        state.gate.admin(request.headers.raw)
        seconds = _window(request.query_params.get("window", "5m"))
        standings = state.standings()
        recent = state.recent.since(seconds, state.now_ns())
        # In a thread: adding up hundreds of buckets would hold up every stream meanwhile.
        body = await asyncio.to_thread(window.report, recent, state.started_ns, time.time())
        for row in body["targets"]:
            row.update(standings.get(row["target"], {}))
        losses = [{"sink": sink, "reason": reason, "records": n} for (sink, reason), n in state.losses().items() if n]
        body |= {"version": __version__, "draining": state.draining, "degraded": state.degraded(), "losses": losses}
        return _json(body | {"in_flight": state.in_flight})

    async def _policies(self, request: Request) -> Response:
        """What the routes have learned: rewards, cache hits, rollouts."""
        self._state.gate.admin(request.headers.raw)
        return _json({"routes": {name: one.shown() for name, one in self._state.learners.by_route.items()}})

    async def _keys(self, request: Request) -> Response:
        """How far the keys that have limits are from them."""
        self._state.gate.admin(request.headers.raw)
        return _json({"keys": self._state.allowances.shown()})

    async def _exchanges(self, request: Request) -> Response:
        reads = self._open(request)
        query = request.query_params
        found = await reads.exchanges(filters.limit(query), before=query.get("before"), filters=filters.filters(query))
        return _json({"exchanges": found})

    async def _exchange(self, request: Request) -> Response:
        found = await self._open(request).exchange(request.path_params["id"])
        if found is None:
            raise Refusal(404, "No exchange with this id is in the store.", param="id", code="not_found")
        return _json(found)

    async def _on_http(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        path = request.scope["path"]
        asked = f"{request.method} {path[:200]}"
        headers, status = dict(error.headers or {}), error.status_code
        if path in self._posts:
            status, headers = 405, {"allow": "POST"}
        if status == 405:
            message, code = f"{asked}: this method is not served here.", "method_not_allowed"
        else:
            served = f"POST {', '.join(self._posts)}; {_SERVED}"
            message, code = f"{asked} is not served. There is: {served}.", "unknown_url"
        return _json(error_object(message, type="invalid_request_error", code=code), status, headers)

    def _open(self, request: Request) -> Reads:
        self._state.gate.admin(request.headers.raw)
        if self._reads is None:
            raise Refusal(404, "This proxy keeps no records: `storage` is none.", code="no_store")
        return self._reads


def _window(text: str) -> int:
    """Whole seconds. Raises `Refusal`."""
    try:
        seconds = round(duration(text))
    except Wrong as wrong:
        raise Refusal(400, f"`window`: {wrong}. For example 5m.", param="window") from None
    if not 1 <= seconds <= LONGEST_S:
        raise Refusal(
            400, f"`window` must be from 1s to {LONGEST_S // 3600}h. Older records are in the store.", param="window"
        )
    return seconds


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101  (registered for it)
    body = error_object(error.message, type=error.type, param=error.param, code=error.code)
    return _json(body, error.status, {"www-authenticate": "Bearer"} if error.status == 401 else None)


async def _on_unavailable(request: Request, error: Exception) -> Response:
    text = str(error)
    body = error_object(f"{text[:1].upper()}{text[1:]}.", type="service_unavailable_error", code="store_unavailable")
    return _json(body, 503)


async def _on_fault(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.scope["path"][:200], exc_info=error)
    message = "The proxy failed; its log tells why."
    return _json(error_object(message, type="api_error", code="internal_error"), 500)
