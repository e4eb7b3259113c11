"""What follows from a valid config: defaults merged into routes and targets, and notes on what is inactive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel

from proxy.config.known import is_loopback
from proxy.config.model import Config, Defaults, Provider, Route, Target
from proxy.config.problems import path_text
from proxy.config.section import Section

_SAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
S = TypeVar("S", bound=Section)


def resolved(config: Config) -> Config:
    """The config with every route and target holding all that applies to it."""
    routes = {name: _route(config.defaults, route) for name, route in config.routes.items()}
    return config.model_copy(update={"routes": routes})


def _route(defaults: Defaults, route: Route) -> Route:
    full = route.model_copy(
        update={
            "timeouts": _over(defaults.timeouts, route.timeouts),
            "retries": _over(defaults.retries, route.retries),
            "failover_on": _over(defaults.failover_on, route.failover_on),
            "params": merged_params(defaults.params, route.params),
            "force": merged_params(defaults.force, route.force),
            "unsupported": route.unsupported if "unsupported" in route.model_fields_set else defaults.unsupported,
            "hedge": route.hedge if "hedge" in route.model_fields_set else defaults.hedge,
            "breaker": route.breaker if "breaker" in route.model_fields_set else defaults.breaker,
        }
    )
    return full.model_copy(update={"targets": tuple(_target(full, target) for target in route.targets)})


def _target(route: Route, target: Target) -> Target:
    return target.model_copy(
        update={
            "timeouts": _over(route.timeouts, target.timeouts),
            "params": merged_params(route.params, target.params),
            "force": merged_params(route.force, target.force),
        }
    )


def _over(low: S, high: S) -> S:
    """`low`, but for what was written in `high`."""
    return low.model_copy(update={name: getattr(high, name) for name in high.model_fields_set})


def merged_params(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """A parameter is one leaf, whatever its value; `max_tokens` and `max_completion_tokens` are one parameter."""
    kept = {name: value for name, value in low.items() if _SAME.get(name) not in high}
    return {**kept, **high}


def notes(config: Config) -> Iterator[str]:
    """One line for each thing that was accepted but is not active, or is unwise. Takes the config as it was written."""
    yield from _literal_secrets(config, ())
    for name, route in config.routes.items():
        yield from _weights(name, route)
    for name, provider in config.providers.items():
        yield from _address(config, name, provider)
        yield from _without_effect(name, provider)
    if config.server.metrics == "token" and config.server.admin_token is None:
        yield "server.metrics: token, but there is no server.admin_token: from other machines nobody can read /metrics"
    budgeted = [key.name for key in config.keys if key.budget is not None]
    if budgeted and config.storage is None:
        yield f"keys: `storage` is none, so the budgets of {', '.join(budgeted)} begin anew at each start"
    direct = config.server.direct
    if not config.routes and (
        direct == "never" or (direct == "auto" and config.keys and not any(key.direct for key in config.keys))
    ):
        yield "nothing can be asked for: there are no routes, and provider/model is not allowed (server.direct, keys)"


def _parts(section: BaseModel) -> Iterator[tuple[str, Any]]:
    for name in sorted(section.model_fields_set, key=list(type(section).model_fields).index):
        yield name, getattr(section, name)


def _within(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, tuple):
        yield from enumerate(value)


_UNWEIGHTED = {"ordered", "round_robin"}


def _weights(name: str, route: Route) -> Iterator[str]:
    kind = route.policy.kind
    for index, target in enumerate(route.targets):
        if "weight" in target.model_fields_set and kind in _UNWEIGHTED:
            here = path_text(("routes", name, "targets", index, "weight"))
            yield f"{here}: has no effect with the policy {kind!r}"


def _literal_secrets(value: Any, path: tuple[str | int, ...]) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name, part in _parts(value):
            if name != "headers":  # Most header values are no secrets.
                yield from _literal_secrets(part, (*path, name))
    elif getattr(value, "origin", None) == "literal":
        yield f"{path_text(path)}: a secret stands in the file itself; env:NAME or file:PATH keeps it out"
    else:
        for key, part in _within(value):
            yield from _literal_secrets(part, (*path, key))


def _without_effect(name: str, provider: Provider) -> Iterator[str]:
    for setting in ("project", "location"):
        if getattr(provider, setting) is None:
            continue
        here = path_text(("providers", name, setting))
        if provider.dialect != "vertex":
            yield f"{here}: has no effect with the dialect {provider.dialect!r}"
        elif f"/{setting}s/{getattr(provider, setting)}" not in provider.base_url:
            yield f"{here}: has no effect, since base_url names another address"
    for setting in ("api_version", "deployment"):
        if getattr(provider, setting) is not None and provider.dialect != "azure":
            here = path_text(("providers", name, setting))
            yield f"{here}: has no effect with the dialect {provider.dialect!r}"
    if provider.region is not None and provider.dialect != "bedrock":
        yield f"{path_text(('providers', name, 'region'))}: has no effect with the dialect {provider.dialect!r}"


def _address(config: Config, name: str, provider: Provider) -> Iterator[str]:
    parts = urlsplit(provider.base_url)
    host = parts.hostname or ""
    if parts.scheme == "http" and not is_loopback(host) and provider.credentials:
        yield f"{path_text(('providers', name, 'base_url'))}: the key travels unencrypted to {host} (http, not https)"
    if is_loopback(host) and (parts.port or 80) == config.server.port:
        yield (
            f"{path_text(('providers', name, 'base_url'))}: port {config.server.port} on this machine is the proxy's "
            "own (server.port); the provider should listen on another"
        )
