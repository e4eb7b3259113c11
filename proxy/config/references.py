"""Checks across sections. They look at the unvalidated values, so that no other mistake hides what they find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from proxy.config.known import (
    BEDROCK_HINT,
    TOKENS,
    VERTEX_HINT,
    Reading,
    aws_region,
    check_dialect,
    dialect_of,
    unknown_like,
)
from proxy.config.problems import Wrong, did_you_mean, path_text
from proxy.config.values import resolve_secret
from proxy.providers.catalog import CATALOG

Loc = tuple[str | int, ...]


class Finding(NamedTuple):
    loc: Loc
    message: str
    hint: str | None = None


def mapping(value: Any, key: str) -> dict[str, Any]:
    part = value.get(key) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else {}


def items(value: Any, key: str) -> list[Any]:
    part = value.get(key) if isinstance(value, dict) else None
    return part if isinstance(part, list) else []


def targets(value: Any) -> Iterator[tuple[Loc, str]]:
    """Every target in the routes that is written as text."""
    for name, route in mapping(value, "routes").items():
        for index, target in enumerate(items(route, "targets")):
            text = target.get("target") if isinstance(target, dict) else target
            if isinstance(text, str):
                yield ("routes", name, "targets", index), text
    yield from _shadow_targets(value)


def _shadow_targets(value: Any) -> Iterator[tuple[Loc, str]]:
    """Candidates and judges."""
    for name, experiment in mapping(value, "shadow").items():
        loc: Loc = ("shadow", name)
        told = {"": experiment}
        places = [((*loc, "candidate"), mapping(told, "").get("candidate"), "target")]
        several = mapping(experiment, "candidates").items()
        places += [((*loc, "candidates", arm), candidate, "target") for arm, candidate in several]
        places.append(((*loc, "primary"), mapping(told, "").get("primary"), "model"))
        for place, written, member in places:
            text = written.get(member) if isinstance(written, dict) else written if member == "target" else None
            if isinstance(text, str):
                yield place, text


def findings(value: Any, reading: Reading) -> Iterator[Finding]:
    yield from _same_targets(value)
    yield from _aliases(value)
    yield from _named_by_policies(value)
    yield from _key_names(value)
    yield from _key_routes(value)
    yield from _same_secrets(value, reading)
    yield from _providers(value, reading)
    yield from _shadowed(value)


def _shadowed(value: Any) -> Iterator[Finding]:
    """Experiments mirror routes that exist."""
    routes = mapping(value, "routes")
    for name, experiment in mapping(value, "shadow").items():
        several = [(("routes", index), route) for index, route in enumerate(items(experiment, "routes"))]
        one: list[tuple[Loc, Any]] = [(("route",), experiment.get("route"))] if isinstance(experiment, dict) else []
        for place, route in (*one, *several):
            if isinstance(route, str) and route not in routes:
                hint = did_you_mean(route, routes) or "name one of `routes`"
                yield Finding(("shadow", name, *place), f"there is no route {route!r}", hint)


def _providers(value: Any, reading: Reading) -> Iterator[Finding]:
    for name, provider in mapping(value, "providers").items():
        try:
            check_dialect(name, dialect_of(name, provider))
        except Wrong as wrong:
            yield Finding(("providers", name), wrong.message, wrong.hint)
        if dialect_of(name, provider) == "vertex" and not (
            mapping({"": provider}, "").keys() & {"base_url", "project"}
        ):
            yield Finding(("providers", name), "vertex needs a project", VERTEX_HINT)
        if dialect_of(name, provider) == "bedrock" and aws_region(mapping({"": provider}, ""), reading.env) is None:
            yield Finding(("providers", name), "bedrock needs a region", BEDROCK_HINT)
        if not isinstance(provider, dict):
            continue
        if like := unknown_like(provider):
            near = did_you_mean(like, CATALOG) or f"known: {', '.join(CATALOG)}"
            yield Finding(("providers", name, "like"), f"not a known provider: {like!r}", near)
        if provider.get("api_key") is not None and provider.get("api_keys"):
            yield Finding(("providers", name, "api_keys"), "api_key stands beside it", "put all keys into api_keys")
        given = [one for one in ("api_key", "api_keys", *TOKENS) if provider.get(one)]
        if len(given) > 1 and given[-1] in TOKENS:
            yield Finding(("providers", name, given[-1]), f"{given[0]} stands beside it", "keep one of the two")


def _same_targets(value: Any) -> Iterator[Finding]:
    for name, route in mapping(value, "routes").items():
        seen: dict[str, int] = {}
        for index, target in enumerate(items(route, "targets")):
            label = (target.get("name") or target.get("target")) if isinstance(target, dict) else target
            if not isinstance(label, str):
                continue
            if label in seen:
                hint = "remove one, or tell them apart by `name`"
                loc = ("routes", name, "targets", index)
                yield Finding(loc, f"the same as targets[{seen[label]}]: {label}", hint)
            seen.setdefault(label, index)


def _named_by_policies(value: Any) -> Iterator[Finding]:
    """A policy may name only targets of its own route."""
    for name, route in mapping(value, "routes").items():
        labels = [
            (target.get("name") or target.get("target")) if isinstance(target, dict) else target
            for target in items(route, "targets")
        ]
        known = [label for label in labels if isinstance(label, str)]
        policy = mapping(route, "policy")
        loc: Loc = ("routes", name, "policy")
        named = [((*loc, "candidate"), policy.get("candidate"))]
        for number, rule in enumerate(items(policy, "rules")):
            named += [((*loc, "rules", number, "use", at), one) for at, one in enumerate(items(rule, "use"))]
        for place, target in named:
            if isinstance(target, str) and target not in known:
                hint = did_you_mean(target, known) or f"targets of this route: {', '.join(known)}"
                yield Finding(place, f"{target[:80]!r} is no target of this route", hint)


def _aliases(value: Any) -> Iterator[Finding]:
    routes = mapping(value, "routes")
    taken: dict[str, Loc] = {}
    for name, route in routes.items():
        for index, alias in enumerate(items(route, "aliases")):
            loc: Loc = ("routes", name, "aliases", index)
            if not isinstance(alias, str):
                continue
            if alias == "*":
                yield Finding(loc, "'*' cannot be an alias", "call the route itself '*'")
            elif alias in routes:
                yield Finding(loc, f"{alias!r} is the name of a route")
            elif alias in taken:
                yield Finding(loc, f"{alias!r} is taken by {path_text(taken[alias])}")
            taken.setdefault(alias, loc)


def _key_routes(value: Any) -> Iterator[Finding]:
    known = list(mapping(value, "routes"))
    for index, key in enumerate(items(value, "keys")):
        for at, route in enumerate(items(key, "routes")):
            if isinstance(route, str) and route not in known:
                hint = did_you_mean(route, known) or f"routes: {', '.join(known)}"
                yield Finding(("keys", index, "routes", at), f"there is no route {route[:80]!r}", hint)


def _key_names(value: Any) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for index, key in enumerate(items(value, "keys")):
        name = key.get("name") if isinstance(key, dict) else None
        if isinstance(name, str):
            if name in seen:
                yield Finding(("keys", index, "name"), f"{name!r} is the name of keys[{seen[name]}] too")
            seen.setdefault(name, index)


def _same_secrets(value: Any, reading: Reading) -> Iterator[Finding]:
    """Two clients with one key cannot be told apart, and a client with the admin token is an administrator."""
    places: list[tuple[Loc, Any]] = [(("server", "admin_token"), mapping(value, "server").get("admin_token"))]
    places += [
        (("keys", index, "key"), key.get("key"))
        for index, key in enumerate(items(value, "keys"))
        if isinstance(key, dict)
    ]
    seen: dict[str, Loc] = {}
    for loc, reference in places:
        try:
            text = resolve_secret(reference, reading.env, reading.folder).reveal()
        except Wrong:
            continue  # Reported where it stands.
        if text in seen:
            yield Finding(loc, f"the same secret as {path_text(seen[text])}", "every client needs a key of its own")
        seen.setdefault(text, loc)
