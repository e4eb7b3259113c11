"""`/v1/files` and `/v1/batches`, as OpenAI has them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.allowances import may_spend
from proxy.auth import Gate, Key
from proxy.batches.keeper import Keeper
from proxy.errors import Refusal
from proxy.wire import multipart

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

FILE_LIMIT = 200 * 2**20
"""Bytes of one file, as OpenAI allows."""
_PURPOSES = ("batch",)
_HIDDEN = ("key", "direct", "parts")


def routes(keeper: Keeper | None, gate: Callable[[], Gate]) -> list[Route]:
    """`keeper`: None where there is no store to keep files beside."""
    doors = _Doors(keeper, gate)
    return [
        Route("/v1/files", doors.upload, methods=["POST"]),
        Route("/v1/files", doors.files, methods=["GET"]),
        Route("/v1/files/{id}", doors.file, methods=["GET"]),
        Route("/v1/files/{id}", doors.remove, methods=["DELETE"]),
        Route("/v1/files/{id}/content", doors.content, methods=["GET"]),
        Route("/v1/batches", doors.create, methods=["POST"]),
        Route("/v1/batches", doors.batches, methods=["GET"]),
        Route("/v1/batches/{id}", doors.batch, methods=["GET"]),
        Route("/v1/batches/{id}/cancel", doors.cancel, methods=["POST"]),
    ]


class _Doors:
    def __init__(self, keeper: Keeper | None, gate: Callable[[], Gate]) -> None:
        self._keeper = keeper
        self._gate = gate

    def _enter(self, request: Request) -> tuple[Keeper, Key | None]:
        key = self._gate().client(request.headers.raw)
        if self._keeper is None:
            raise Refusal(
                400, "This proxy keeps nothing: `storage` is none, and batches need a place.", code="no_store"
            )
        return self._keeper, key

    async def upload(self, request: Request) -> Response:
        keeper, key = self._enter(request)
        mark = multipart.boundary(request.headers.get("content-type", "").encode("latin-1"))
        if mark is None:
            message = "Send a multipart/form-data body with `file` and `purpose`."
            raise Refusal(415, message, code="unsupported_content_type")
        raw = await _read(request, FILE_LIMIT + 65536)
        parts = multipart.parts(raw, mark)
        for name in ("file", "purpose"):
            if name not in parts:
                raise Refusal(400, f"`{name}` is missing.", param=name)
        start, end, _ = parts["purpose"]
        purpose = raw[start:end].decode("utf-8", "replace")
        if purpose not in _PURPOSES:
            raise Refusal(400, f"`purpose` is `batch`; {purpose[:40]!r} is not served here.", param="purpose")
        start, end, name = parts["file"]
        return _json(_shown(await keeper.add_file(raw[start:end], name[:200], purpose, _name(key))))

    async def files(self, request: Request) -> Response:
        keeper, key = self._enter(request)
        return _json(_listed(keeper, "file", request, key))

    async def file(self, request: Request) -> Response:
        keeper, key = self._enter(request)
        return _json(_shown(await keeper.owned("file", request.path_params["id"], _name(key))))

    async def content(self, request: Request) -> Response:
        keeper, key = self._enter(request)
        about = await keeper.owned("file", request.path_params["id"], _name(key))
        return Response(keeper.shelf.content(about["id"]) or b"", media_type="application/octet-stream")

    async def remove(self, request: Request) -> Response:
        keeper, key = self._enter(request)
        about = await keeper.owned("file", request.path_params["id"], _name(key))
        for batch in keeper.shelf.every("batch"):
            if batch["input_file_id"] == about["id"] and batch["status"] in ("in_progress", "cancelling"):
                raise Refusal(
                    409, f"The batch {batch['id']} still needs this file; cancel it first.", code="file_in_use"
                )
        keeper.shelf.remove(about["id"])
        return _json({"id": about["id"], "object": "file", "deleted": True})

    async def create(self, request: Request) -> Response:
        keeper, key = self._enter(request)
        try:
            wanted = orjson.loads(await _read(request, 65536))
        except orjson.JSONDecodeError as error:
            raise Refusal(400, f"The request body is not valid JSON: {error}.", code="invalid_json") from None
        if not isinstance(wanted, dict):
            raise Refusal(400, "The request body must be a JSON object with `input_file_id` and `endpoint`.")
        if wanted.get("endpoint") != "/v1/chat/completions":
            raise Refusal(400, "`endpoint` is `/v1/chat/completions`; others are not served here.", param="endpoint")
        if wanted.get("completion_window") != "24h":
            raise Refusal(400, "`completion_window` is `24h`.", param="completion_window")
        metadata = wanted.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise Refusal(400, "`metadata` must be an object.", param="metadata")
        if key is not None and key.allowance is not None:
            may_spend(key.allowance, key.name, time.time())
        return _json(_shown(await keeper.create(wanted, _name(key), self._gate().may_go_direct(key))))

    async def batches(self, request: Request) -> Response:
        keeper, key = self._enter(request)
        return _json(_listed(keeper, "batch", request, key))

    async def batch(self, request: Request) -> Response:
        keeper, key = self._enter(request)
        return _json(_shown(await keeper.owned("batch", request.path_params["id"], _name(key))))

    async def cancel(self, request: Request) -> Response:
        keeper, key = self._enter(request)
        return _json(_shown(await keeper.cancel(request.path_params["id"], _name(key))))


def _name(key: Key | None) -> str | None:
    return key.name if key is not None else None


def _shown(about: Json) -> Json:
    return {name: value for name, value in about.items() if name not in _HIDDEN}


def _listed(keeper: Keeper, kind: str, request: Request, key: Key | None) -> Json:
    """One page, newest first; `after` names the last of the page before."""
    limit = request.query_params.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= 10_000:
        raise Refusal(400, "`limit` must be a number from 1 to 10000.", param="limit")
    mine = [one for one in keeper.shelf.every(kind) if one["key"] == _name(key)]
    after = request.query_params.get("after")
    if after is not None:
        places = [place for place, one in enumerate(mine) if one["id"] == after]
        mine = mine[places[0] + 1 :] if places else []
    page = [_shown(one) for one in mine[: int(limit)]]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return {"object": "list", "data": page, "has_more": len(mine) > len(page), **ends}


async def _read(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise Refusal(413, f"The body is larger than {limit} bytes.", code="request_too_large")
        parts.append(part)
    return b"".join(parts)


def _json(body: Json) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
