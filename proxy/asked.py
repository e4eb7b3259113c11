"""A request as policies see it: each field is filled when it is first read, so that what nobody reads costs nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from policies.base import Ask
from proxy.wire import prompt
from proxy.wire.request import MODEL_LIMIT, Request, answer_limit

_SECRET = ("authorization", "cookie", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key")
"""Headers that no rule may look at."""
_OPENING = 4096
"""Characters of a prompt's beginning that tell conversations apart; prompt caches look at the beginning too."""
_ANSWER = 512
"""Tokens of an answer of which nothing is known."""


class Asked(Ask):
    """`route_turn` counts the route's requests up, and is called only if a policy counts them."""

    __slots__ = ("_headers", "_request", "_route_turn", "_unit")

    def __init__(
        self,
        request: Request,
        at: float = 0.0,
        key: str = "",
        headers: Iterable[tuple[bytes, bytes]] = (),
        unit: str = "",
        tags: frozenset[str] = frozenset(),
        route_turn: Callable[[], int] = int,
    ) -> None:
        # The slots of `Ask` that are not set here stay empty until `__getattr__` is asked for them.
        self.model = request.model
        self.stream = request.stream
        self.size = len(request.raw)
        self.at = at
        self.key = key
        self.tags = tags
        self._request = request
        self._headers = headers
        self._unit = unit
        self._route_turn = route_turn

    def looked_at(self, name: str) -> Any:
        """A field if it was filled, else None."""
        try:
            return object.__getattribute__(self, name)
        except AttributeError:
            return None

    def __getattr__(self, name: str) -> Any:
        fill = _FILLS.get(name)
        if fill is None:
            raise AttributeError(name)
        value = fill(self)
        setattr(self, name, value)
        return value


def _output(ask: Asked) -> int:
    return answer_limit(ask._request.body) or _ANSWER


def _vision(ask: Asked) -> bool:
    return any(
        part.get("type") in prompt.IMAGES
        for message in prompt.messages(ask._request.body)
        for part in prompt.parts(message)
    )


def _json(ask: Asked) -> str:
    form = ask._request.body.get("response_format") or ask._request.body.get("text")
    form = form.get("format", form) if isinstance(form, dict) else None
    kind = form.get("type") if isinstance(form, dict) else None
    return {"json_object": "object", "json_schema": "schema"}.get(kind, "") if isinstance(kind, str) else ""


def _shown(ask: Asked) -> dict[str, str]:
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in ask._headers}
    return {name: value for name, value in named.items() if name not in _SECRET}


def _unit(ask: Asked) -> str:
    """`x-weighbridge-unit`, else `metadata.conversation_id`, else the key with the prompt's opening."""
    if ask._unit:
        return ask._unit
    conversation = ask.metadata.get("conversation_id")
    if isinstance(conversation, str) and conversation:
        return conversation[:MODEL_LIMIT]
    return _digest(ask.key, _opening(ask))


def _affinity(ask: Asked) -> str:
    cache_key = ask._request.body.get("prompt_cache_key")
    if isinstance(cache_key, str) and cache_key:
        return cache_key
    if ask._unit:
        return ask._unit
    tools = ask._request.body.get("tools")
    return _digest(str(tools)[:_OPENING] if tools else "", _opening(ask))


def _opening(ask: Asked) -> str:
    """What stands before the first answer: instructions and the first message of the user."""
    texts = []
    for message in prompt.messages(ask._request.body):
        texts.append(str(message.get("content"))[:_OPENING])
        if message.get("role") == "user":
            break
    return "\x1f".join(texts)[:_OPENING]


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\x1e".join(parts).encode("utf-8", "replace"), digest_size=12).hexdigest()


_FILLS: dict[str, Callable[[Asked], Any]] = {
    "tokens": lambda ask: ask._request.tokens,
    "output": _output,
    "tools": lambda ask: bool(ask._request.body.get("tools") or ask._request.body.get("functions")),
    "vision": _vision,
    "json": _json,
    "headers": _shown,
    "metadata": lambda ask: found if isinstance(found := ask._request.body.get("metadata"), dict) else {},
    "unit": _unit,
    "affinity": _affinity,
    "turn": lambda ask: ask._route_turn(),
}
"""How each field is read off the request, when it is wanted."""
