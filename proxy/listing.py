"""Which models the configured providers say they have: asked side by side, and kept for a while.

Only for callers that may name a `provider/model` directly. A provider that does not answer in time is left out, or told
as it was before; nobody waits for it longer than `PATIENCE`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from proxy.errors import TransportError
from proxy.providers.base import Lists
from proxy.transport.base import Head, UpstreamRequest
from proxy.upstreams import Target

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds."""
FRESH = 300.0
"""Seconds for which a list is kept."""
_LARGEST = 8 * 1024 * 1024
_MOST = 5_000
"""Models of one provider."""


class _Known(NamedTuple):
    names: tuple[str, ...]
    until: float


class Listing:
    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}
        """By provider and address: a reload may change either."""
        self._asking: dict[tuple[str, str], asyncio.Task[tuple[str, ...] | None]] = {}

    async def names(self, targets: Sequence[Target]) -> list[str]:
        """`provider/model` of all that these providers list; each target stands for its provider."""
        found = await asyncio.gather(*(self._of(target) for target in targets))
        return [name for names in found for name in names]

    async def _of(self, target: Target) -> tuple[str, ...]:
        if not isinstance(target.provider, Lists):
            return ()
        key = target.endpoint.provider, target.endpoint.base_url
        known = self._known.get(key)
        now = asyncio.get_running_loop().time()
        if known is not None and now < known.until:
            return known.names
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(_asked(target, target.provider))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        names = await asyncio.shield(task)
        if names is None:
            # It is asked again soon, but not by every request.
            names = known.names if known is not None else ()
            self._known[key] = _Known(names, now + FRESH / 10)
        else:
            self._known[key] = _Known(names, now + FRESH)
        return names


async def _asked(target: Target, provider: Lists) -> tuple[str, ...] | None:
    """None where no list was to be had."""
    try:
        async with asyncio.timeout(PATIENCE):
            body = await _body(target, target.get(provider.models_path(target.endpoint)))
        listed = provider.models_in(orjson.loads(body)) if body is not None else None
    except (TransportError, TimeoutError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.info("%s did not tell its models: %r", target.endpoint.provider, error)
        return None
    if listed is None:
        return None
    names = dict.fromkeys(name for name in listed if type(name) is str and name)
    return tuple([f"{target.endpoint.provider}/{name}" for name in list(names)[:_MOST]])


async def _body(target: Target, head: Head) -> bytes | None:
    """The body of a 200."""
    connection = target.transport.idle(target.origin) or await target.transport.connect(target.origin)
    try:
        reply = await connection.send(UpstreamRequest(head, b""))
    except BaseException:
        connection.discard()
        raise
    parts: list[bytes] = []
    size = 0
    try:
        while size <= _LARGEST:
            data, _ = await reply.read()
            if not data:
                reply.release()
                return b"".join(parts) if reply.status == 200 else None
            parts.append(data)
            size += len(data)
    except BaseException:
        reply.abort()
        raise
    reply.abort()
    return None
