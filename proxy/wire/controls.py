"""What one request says about its own routing: members of the body and headers that are for the proxy alone.

The members are OpenRouter's `models` and `provider`, and LiteLLM's `fallbacks` and `metadata.tags` (a list). They are
taken out of the body, since OpenAI and most others refuse what they do not know, and `models` holds names of ours.
`provider` goes on to the providers that route by themselves (`Quirks.routes`). A client can never name a host: what
stands here is compared with names in the config and goes nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from proxy.errors import Refusal
from proxy.wire.chunk import Json
from proxy.wire.request import MODEL_LIMIT, Headers, Request, wrong

SORTS = ("price", "latency", "throughput")
_MOST = 20
"""Models and providers in one list."""
_TAG_LIMIT = 64
_PREFIX = b"x-weighbridge-"
_MEMBERS = frozenset({"models", "provider", "fallbacks"})
_HEEDED = frozenset({"order", "only", "ignore", "allow_fallbacks", "sort", "max_price"})
"""Of `provider`, by ourselves."""


class Controls(NamedTuple):
    models: tuple[str, ...] = ()
    """Models to ask after `model`, in that order."""
    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fallbacks: bool = True
    sort: str = ""
    max_input: float | None = None
    """USD per million tokens of prompt."""
    max_output: float | None = None
    tags: frozenset[str] = frozenset()
    unit: str = ""
    no_shadow: bool = False
    dry_run: bool = False


NONE = Controls()
"""A request that says nothing of the kind; the same object every time."""


def taken(ask: Request, headers: Headers) -> Controls:
    """The controls of a request, and the request without them. Raises `Refusal` (400) for what is malformed."""
    body = ask.body
    named: list[tuple[bytes, bytes]] = []
    if _PREFIX in b"\n".join(dict(headers)):
        named = [pair for pair in headers if pair[0].startswith(_PREFIX)]
    metadata = body.get("metadata")
    listed = isinstance(metadata, dict) and isinstance(metadata.get("tags"), list)
    if not (named or listed) and _MEMBERS.isdisjoint(body):
        return NONE
    found = _of_headers({name[len(_PREFIX) :].decode("latin-1"): value.decode("latin-1") for name, value in named})
    if ask.raw[:64].lstrip()[:1] != b"{":
        return found  # a form, whose fields are the upstream's
    tags: frozenset[str] = frozenset()
    if listed and metadata:
        tags = frozenset(_texts(metadata["tags"], "metadata.tags", _TAG_LIMIT))
    models = _models(body.get("models"), "models") + _models(body.get("fallbacks"), "fallbacks")
    found = _of_provider(body.get("provider"), found)
    if listed or not _MEMBERS.isdisjoint(body):
        _strip(ask, listed)
    return found._replace(models=tuple(dict.fromkeys(models)), tags=found.tags | tags)


def _strip(ask: Request, listed: bool) -> None:
    if ask.body.get("provider") is not None:
        ask.onward = {"provider": ask.body["provider"]}
    body = {name: value for name, value in ask.body.items() if name not in _MEMBERS}
    if listed:
        body["metadata"] = {name: value for name, value in body["metadata"].items() if name != "tags"}
        if not body["metadata"]:
            del body["metadata"]
    try:
        ask.raw = orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise Refusal(400, f"The request body cannot be passed on: {error}. Nest it less deeply.") from error
    ask.body = body


def _of_headers(named: Mapping[str, str]) -> Controls:
    return Controls(
        tags=frozenset(_texts(named.get("tags", "").split(","), "x-weighbridge-tags", _TAG_LIMIT)),
        unit=named.get("unit", "")[:MODEL_LIMIT],
        no_shadow=_on(named.get("no-shadow")),
        dry_run=_on(named.get("dry-run")),
    )


def unheeded(onward: Json) -> tuple[str, ...]:
    """What the client says to whoever routes after us and we do not heed ourselves, such as `data_collection`."""
    return tuple([f"provider.{name}" for name in onward["provider"] if name not in _HEEDED])


def _on(value: str | None) -> bool:
    return value is not None and value.strip().lower() not in ("", "0", "false", "no")


def _texts(values: Iterable[Any], where: str, longest: int = MODEL_LIMIT) -> list[str]:
    texts = []
    for value in values:
        if type(value) is not str or len(value) > longest:
            raise wrong(where, f"`{where}` must hold texts of at most {longest} characters.")
        if value.strip():
            texts.append(value.strip())
    if len(texts) > _MOST:
        raise wrong(where, f"`{where}` holds more than {_MOST}.", "invalid_value")
    return texts


def _models(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if type(value) is not list:
        raise wrong(where, f"`{where}` must be an array of model names.")
    return _texts([one.get("model") if isinstance(one, dict) else one for one in value], where)


def _of_provider(value: Any, found: Controls) -> Controls:
    if value is None:
        return found
    if type(value) is not dict:
        raise wrong(
            "provider", "`provider` must be an object: {order, only, ignore, allow_fallbacks, sort, max_price}."
        )
    lists: dict[str, tuple[str, ...]] = {}
    for name in ("order", "only", "ignore"):
        given = value.get(name)
        if given is not None and type(given) is not list:
            raise wrong(f"provider.{name}", f"`provider.{name}` must be an array of provider or target names.")
        lists[name] = tuple([text.lower() for text in _texts(given or (), f"provider.{name}")])
    fallbacks = value.get("allow_fallbacks")
    if fallbacks is not None and type(fallbacks) is not bool:
        raise wrong("provider.allow_fallbacks", "`provider.allow_fallbacks` must be true or false.")
    sort = value.get("sort")
    sort = sort.get("by") if isinstance(sort, dict) else sort
    if sort is not None and sort not in SORTS:
        raise wrong("provider.sort", f"`provider.sort` must be one of {', '.join(SORTS)}.", "invalid_value")
    price = value.get("max_price") or {}
    if type(price) is not dict:
        raise wrong("provider.max_price", "`provider.max_price` must be an object: {prompt, completion}.")
    return found._replace(
        order=lists["order"],
        only=lists["only"],
        ignore=lists["ignore"],
        fallbacks=fallbacks is not False,
        sort=sort or "",
        max_input=_price(price, "prompt"),
        max_output=_price(price, "completion"),
    )


def _price(price: Json, name: str) -> float | None:
    """USD per million tokens; texts are numbers too, as OpenRouter has them."""
    value = price.get(name)
    if value is None:
        return None
    try:
        amount = float(value)
    except (TypeError, ValueError):
        amount = -1.0
    if isinstance(value, bool) or not 0.0 <= amount < 1e9:
        raise wrong(f"provider.max_price.{name}", f"`provider.max_price.{name}` must be USD per million tokens.")
    return amount
